"""`rasa study report`: what a search has found, and how much of it is left on seeds that it has not seen."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.rundir import write_text
from experiments.yaml_io import dump
from rasa.errors import ResourceError
from studies.figures import dots, draw_all, front
from studies.points import Points
from studies.rerun import Winner, best_trials
from studies.screen import short, summary
from studies.trials import EPOCHS, SECONDS, fixed, states, tally

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

PAGE, FIGURES = "study.md", ("history", "importances", "slices", "contour", "pareto")
FEW = 4  # complete trials below which importances say nothing


class Effort(NamedTuple):
    """What the search cost, and what its pruner saved."""

    epochs: int
    whole: int  # epochs that the same trials would have taken without a pruner
    seconds: float

    @property
    def saved(self) -> float:
        """Share of the epochs."""
        return 1 - self.epochs / self.whole if self.whole else 0.0


def effort(points: Points, trials: "Sequence[FrozenTrial]") -> Effort:
    """Of the trials that were trained here; one that was gone on with counts once."""
    of = states(trials)
    ended = [t for t in trials if of[t.number] in ("complete", "pruned") and EPOCHS in t.user_attrs]
    epochs = sum(int(trial.user_attrs[EPOCHS]) for trial in ended)
    seconds = sum(float(trial.user_attrs.get(SECONDS, 0)) for trial in ended)
    return Effort(epochs, len(ended) * points.epochs * len(points.seeds), seconds)


def importances(study: "Study") -> dict[str, float]:
    """By PED-ANOVA, of the first objective; none while there are few trials, or all are equal."""
    from optuna.importance import get_param_importances

    whole = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(whole) < FEW or len({trial.values[0] for trial in whole}) == 1:
        return {}
    # Optuna takes the values of a target for something to be made small.
    sign = -1 if study.directions[0].name == "MAXIMIZE" else 1
    several = len(study.directions) > 1
    with warnings.catch_warnings():  # that the evaluator is experimental, no user can do anything about
        warnings.simplefilter("ignore")
        return get_param_importances(study, target=(lambda trial: sign * trial.values[0]) if several else None)


def page(points: Points, study: "Study", found: Sequence[Winner]) -> str:
    """The report as Markdown; the figures lie beside it."""
    trials, space = study.get_trials(deepcopy=False), points.space
    cost = effort(points, trials)
    lines = [
        f"# {points.name}: {space.title}",
        "",
        (
            f"{summary(tally(trials))}. Sampler {space.sampler.name}, pruner {space.pruner.name}, "
            f"seeds {', '.join(map(str, points.seeds))}; from {space.row}."
        ),
        f"{cost.epochs} epochs were trained; the pruner saved {cost.saved:.0%} of {cost.whole}.",
        "",
        *_winners_table(space.objectives[0].metric, found),
        "",
        *_curse(found),
    ]
    if weights := importances(study):
        lines += ["", "| parameter | importance |", "|---|---|"]
        lines += [f"| {name} | {share:.2f} |" for name, share in weights.items()]
    if len(space.objectives) > 1:
        best = front(
            [dot for dot in dots(trials) if not dot.pruned], (space.objectives[0].way, space.objectives[1].way)
        )
        metrics = [objective.metric for objective in space.objectives[:2]]
        lines += ["", f"Pareto front, {metrics[0]} against {metrics[1]}: "]
        lines[-1] += "; ".join(f"trial {dot.number}: {dot.value:.2f}, {dot.second:.2f}" for dot in best)
    return "\n".join(lines) + "\n"


def write(points: Points, study: "Study", found: Sequence[Winner], folder: Path) -> str:
    """Write the page, its figures and the numbers; the page. Raises ResourceError if nothing can be written there."""
    trials = study.get_trials(deepcopy=False)
    text = page(points, study, found)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = draw_all(points.space, trials, importances(study), folder)
        for name in FIGURES:  # of an earlier report, when there were other numbers
            if folder / f"{name}.png" not in drawn:
                (folder / f"{name}.png").unlink(missing_ok=True)
        write_text(folder / PAGE, text + "\n" + "\n".join(f"![{path.stem}]({path.name})\n" for path in drawn))
        write_text(folder / "study.json", json.dumps(numbers(points, study, found), indent=1) + "\n")
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror}; give another --out") from error
    return text


def numbers(points: Points, study: "Study", found: Sequence[Winner]) -> dict[str, Any]:
    """The report's numbers as plain JSON types."""
    trials = study.get_trials(deepcopy=False)
    cost = effort(points, trials)
    return {
        "study": points.name,
        "counts": tally(trials)._asdict(),
        "epochs": {"trained": cost.epochs, "without_pruner": cost.whole, "saved": cost.saved},
        "importances": importances(study),
        "winners": [_numbers(winner) for winner in found],
    }


def export(points: Points, trials: "Sequence[FrozenTrial]", number: int | None, file: Path) -> int:
    """Write the best trial, or trial `number`, as a suite file that `rasa run` takes; which trial it was.

    Raises SpecError without a complete trial, ResourceError if the file cannot be written.
    """
    done = best_trials(points.space, trials, len(trials))
    trial = done[0] if number is None else next((t for t in done if t.number == number), None)
    if trial is None:
        whole = ", ".join(str(t.number) for t in sorted(done, key=lambda t: t.number))
        raise ResourceError(f"--trial {number}: no complete trial of {points.name}; there is {whole}")
    values = ", ".join(f"{o.metric} {v:.2f}" for o, v in zip(points.space.objectives, trial.values, strict=True))
    title = f"Trial {trial.number} of the study {points.name} ({values} in the search)"
    content = points.as_suite(fixed(trial), f"best-{points.space.study}"[:60], f"trial-{trial.number}", title)
    try:
        write_text(file, f"# rasa run {file.name} --seeds 0,1,2\n" + dump(content))
    except OSError as error:
        raise ResourceError(f"{file}: {error.strerror}; give another file") from error
    return trial.number


def _winners_table(metric: str, found: Sequence[Winner]) -> list[str]:
    head = (
        f"| trial | {metric} in the search | re-run on fresh seeds | search minus re-run | test R@1 of the re-run | "
        "point |"
    )
    return [head, "|---|---|---|---|---|---|", *(_line(winner) for winner in found)]


def _line(winner: Winner) -> str:
    name = f"{winner.trial} (the row as it is)" if winner.row else str(winner.trial)
    curse = "" if winner.curse is None else f"{winner.curse:+.2f}"
    point = ", ".join(f"{key.rpartition('.')[2]} {short(value)}" for key, value in winner.point.items())
    cells = [name, f"{winner.searched:.2f}", _spread(winner.validation), curse, _spread(winner.test), point]
    return f"| {' | '.join(cells)} |"


def _spread(spread: Any) -> str:
    if spread.mean is None:
        return ""
    width = "" if spread.half_width is None else f" ± {spread.half_width:.2f}"
    return f"{spread.mean:.2f}{width} (n={len(spread.values)})"


def _curse(found: Sequence[Winner]) -> list[str]:
    found_by_search = [w for w in found if not w.row] or found
    best = min(found_by_search, key=lambda w: w.sign * w.searched, default=None)
    known = [winner for winner in found if winner.curse is not None]
    if best is None or best.curse is None:
        return [
            (
                "No re-run yet: the search's values are of the trials that were chosen for them, so too good. "
                "`--rerun 5` trains the best ones on 5 fresh seeds."
            )
        ]
    mean = sum(winner.curse or 0 for winner in known) / len(known)
    return [
        (
            f"Winner's curse: the best trial loses {best.curse:.2f} on fresh seeds, the {len(known)} re-run ones "
            f"{mean:.2f} on average. Intervals are 95 %, by Student's t over seeds."
        )
    ]


def _numbers(winner: Winner) -> Mapping[str, Any]:
    return {
        "trial": winner.trial,
        "point": winner.point,
        "row": winner.row,
        "searched": winner.searched,
        "rerun": list(winner.validation.values),
        "mean": winner.validation.mean,
        "half_width": winner.validation.half_width,
        "curse": winner.curse,
        "test_r1": list(winner.test.values),
    }
