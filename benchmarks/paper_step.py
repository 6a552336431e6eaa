"""One step of a row at the paper's full size over several processes (gloo), from a random ALBEF.pth of all its keys.

    .venv/bin/python -m benchmarks.paper_step FOLDER --devices 2 --pairs 2

The whole of `rasa run --profile paper --devices N`: the file of 844 keys is read, a step is taken, the few validation
and test images are ranked, a checkpoint is written and removed. Prints seconds and each process's largest resident
size. FOLDER takes some 10 GB.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEYS = Path(__file__).parents[1] / "tests" / "golden" / "facts" / "checkpoint_keys.json"
WORDS = 30522
PEOPLE = "{train_identities: 8, val_identities: 2, test_identities: 2, images_per_identity: 1, captions_per_image: 2}"
POLL = 0.5  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--row", default="table4/m-rtd")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=2, help="of each process")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    weights, words = given.folder / "ALBEF.pth", given.folder / "vocab.txt"
    if not weights.exists():
        write_weights(weights)
        write_words(words)
    print(json.dumps(step(given.folder, given.row, given.devices, given.pairs, weights, words), indent=1))


def write_weights(file: Path) -> None:
    """A pre-training file of the published keys and shapes, with random weights."""
    import torch

    shapes = json.loads(KEYS.read_text())["pretraining_keys"]
    draw = torch.Generator().manual_seed(0)
    whole = {"idx_queue", "ptr_queue", "queue_ptr"}
    tensors = {
        key: torch.zeros(shape, dtype=torch.int64)
        if key in whole or key.endswith("position_ids")
        else torch.ones(shape)
        if re.search(r"(norm\w*|LayerNorm)\.weight$", key)
        else torch.empty(shape).normal_(0, 0.02, generator=draw)
        for key, shape in shapes.items()
    }
    tensors["temp"] = torch.tensor(0.07)
    torch.save({"model": tensors}, file)


def write_words(file: Path) -> None:
    """A vocabulary of BERT's size that knows the built-in benchmark's words."""
    from rasa.weights import start

    known = Path(start.VOCABULARY).read_text().splitlines()
    file.write_text("\n".join([*known, *(f"[unused{n}]" for n in range(WORDS - len(known)))]) + "\n")


def step(folder: Path, row: str, devices: int, pairs: int, weights: Path, words: Path) -> dict[str, Any]:
    """Run it, and follow its processes."""
    options = {
        "data.synthetic": PEOPLE,
        "data.tokenizer": words,
        "data.workers": 0,
        "model.weights": weights,
        "fidelity.ranks": devices,
        "optimisation.batch_size": devices * pairs,
        "optimisation.epochs": 1,
        "optimisation.max_steps_per_epoch": 1,
        "evaluation.topk": 2,
    }
    told = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    words_ = ["-m", "rasa", "run", row, "--profile", "paper", "--devices", str(devices), *told]
    tick = time.monotonic()
    process = subprocess.Popen([sys.executable, *words_, "--workspace", str(folder / "workspace")])
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for pid, peak in resident(process.pid).items():
            peaks[pid] = max(peak, peaks.get(pid, 0.0))
        time.sleep(POLL)
    found: dict[str, Any] = {"code": process.returncode, "wall_s": round(time.monotonic() - tick, 1)}
    found["peak_mib"] = sorted((round(peak) for peak in peaks.values()), reverse=True)[: devices + 1]
    for file in (folder / "workspace").glob(f"runs/{row}/*/*/result.json"):
        cost = json.loads(file.read_text())["cost"]
        found |= {
            "seconds": cost["seconds"],
            "gflop_a_step": cost["flops_per_step"] / 1e9,
            "first_peak_mib": cost["peak_mib"],
        }
        found["step_seconds"] = devices * pairs / cost["pairs_per_s"]
    return found


def resident(parent: int) -> dict[int, float]:
    """MiB at most so far of a process and its children."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        pids = [parent, *map(int, children.read_text().split())]
    except OSError:
        return {}
    found = {}
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it has ended
            continue
        if matched := re.search(r"VmHWM:\s+(\d+)", text):
            found[pid] = int(matched[1]) / 1024
    return found


if __name__ == "__main__":
    main()
