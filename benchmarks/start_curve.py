"""The curve of the start that ships with the package: validation R@1 by stage 1 and re-ranked, as its record has them.

.venv/bin/python benchmarks/start_curve.py docs/figures/start.png
"""

import json
import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from experiments.plot_style import ACCENT, OURS, STYLE, save
from rasa.weights.start import WEIGHTS


def main(path: Path) -> None:
    state = json.loads((WEIGHTS / "state.json").read_text())["state"]
    steps = [point["step"] for point in state["curve"]]
    with rc_context(STYLE):
        picture = Figure(figsize=(5.0, 3.0), layout="constrained")
        axis = picture.subplots()
        for key, label, colour in (("r1", "re-ranked by the [CLS] head", OURS), ("stage1_r1", "stage 1 alone", ACCENT)):
            values = [point[key] for point in state["curve"]]
            axis.plot(steps, values, marker="o", markersize=3, color=colour, label=label)
            axis.annotate(f"{values[-1]:.1f}", (steps[-1], values[-1]), xytext=(4, -3), textcoords="offset points")
        axis.set(xlabel="pre-training step", ylabel=f"R@1 (%), {state['val_identities']} validation identities", ylim=0)
        axis.grid(axis="y")
        axis.legend(frameon=False, loc="lower right")
        save(picture, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
