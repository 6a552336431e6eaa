"""What goes with a run's selected weights, `selected/README.md`: what they are, what they reach, and how they are used.

It may be read far from the run (a tracker, a hub), where its HTML would be shown: all that comes from outside is text.
No place on the machine is named.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import predictions
from experiments.evidence import tensors_in
from experiments.notes import as_text
from experiments.rundir import ENVIRONMENT, PREDICTIONS, SELECTED, About, read_about, read_config, read_json, write_text
from experiments.statistics import clustered
from experiments.suite import HEADINGS
from experiments.tracking import SYNTHETIC
from rasa.config.run import Config

FILE = "README.md"
QUANTILE = 1.96  # of the normal distribution: 95 % lie within as many standard errors
STAGE1 = "Stage 1 alone, "
TOLD = {**HEADINGS, **{f"stage1_{name}": f"{STAGE1}{heading}" for name, heading in HEADINGS.items()}}


def write_card(directory: Path, result: Mapping[str, Any]) -> Path | None:
    """The card of a run that ended with this result, beside its selected weights; None if it has none.

    Raises ResourceError and OSError.
    """
    if not any((directory / SELECTED).glob("epoch-*")):
        return None
    began = read_json(directory / ENVIRONMENT) or {}
    arrays = tensors_in(directory / PREDICTIONS)
    text = card(read_about(directory), read_config(directory), result, began, arrays)
    write_text(directory / SELECTED / FILE, text)
    return directory / SELECTED / FILE


def card(
    about: About,
    config: Config,
    result: Mapping[str, Any],
    began: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> str:
    """The card's Markdown. `began`: what `environment.json` says; `arrays`: what the run found of each query."""
    folder = f"epoch-{int(result.get('selected', {}).get('epoch') or 0):04d}"
    sections = {
        "What it is": _what(about, config, result, began),
        "Data": _data(about, config, result),
        "Figures": _figures(result, arrays),
        "Cost": _cost(result, began),
        "Limits": _limits(about, config, result),
        "Use": _use(about, folder),
        "Source": _source(),
    }
    title = f"# {as_text(about.title or about.suite)}: {as_text(about.row)}, seed {about.seed}"
    body = [f"## {heading}\n\n" + "\n".join(lines) for heading, lines in sections.items()]
    return "\n\n".join([_front(about), title, *body]) + "\n"


def _front(about: About) -> str:
    """What hubs read; JSON texts are YAML, whatever is in them."""
    tags = ["image-text retrieval", "text-based person search", "rasa"]
    name = json.dumps(f"{about.suite}/{about.row} seed {about.seed}")
    return f"---\nlibrary_name: rasa-ablations\nmodel_name: {name}\ntags: {json.dumps(tags)}\n---"


def _what(about: About, config: Config, result: Mapping[str, Any], began: Mapping[str, Any]) -> Iterator[str]:
    labels = ", ".join(f"{as_text(heading)}: {as_text(cell)}" for heading, cell in about.labels.items() if cell)
    losses = ", ".join(f"{name} {weight:g}" for name, weight in config.objectives.weights.items())
    variant = f", with {as_text(about.variant)}" if about.variant else ""
    yield (
        f"An encoder of images and sentences that finds images by a sentence, as `{about.suite}/{about.row}` trains it "
        f"(profile `{about.profile}`{variant})."
    )
    yield f"\n- {labels}" if labels else ""
    yield f"- Losses and their weights: {losses}."
    yield (
        f"- Epoch {result.get('selected', {}).get('epoch')} of {config.optimisation.epochs}, chosen by validation R@1; "
        f"batch {config.optimisation.batch_size}, images of {config.data.image_size[0]} x {config.data.image_size[1]}."
    )
    commit, dirty = str(began.get("git_commit") or ""), began.get("git_dirty")
    code = f"commit `{commit[:12]}`{', with uncommitted changes (`changes.patch`)' if dirty else ''}" if commit else ""
    yield f"- Run `{about.run_id}`; rasa-ablations {began.get('version', '')}{', ' + code if code else ''}."


def _data(about: About, config: Config, result: Mapping[str, Any]) -> Iterator[str]:
    if about.data_name == SYNTHETIC:
        yield "The benchmark that is built in: rendered figures of invented people, and captions made by rule."
    else:
        yield f"{as_text(about.data_name)}, digest `{about.data_digest}`."
    if about.target_name:
        yield f"Tested on {as_text(about.target_name)}, on which it was not trained."
    sizes = result.get("sizes") or {}
    if sizes:
        yield "\n| Split | Images | Captions | Identities |\n|---|--:|--:|--:|"
    for split, of in sizes.items():
        yield (
            f"| {as_text(split)} | "
            + " | ".join(f"{of.get(n, 0):,}" for n in ("images", "captions", "identities"))
            + " |"
        )


def _figures(result: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    tested, chosen = result.get("test", {}), result.get("selected", {}).get("val", {})
    spans = dict(intervals(arrays))
    yield "| | Test | 95 % interval | Validation |\n|---|--:|--:|--:|"
    for name, heading in TOLD.items():
        if name in tested:
            low, high = spans.get(name, (None, None))
            interval = f"{low:.2f} to {high:.2f}" if low is not None else ""
            value = f"{chosen[name]:.2f}" if name in chosen else ""
            yield f"| {heading} | {tested[name]:.2f} | {interval} | {value} |"
    yield "\nIn percent. Test was measured once, on the chosen epoch."
    if spans:
        yield (
            "The intervals are over the people whom the queries describe. They do not tell of another training: one "
            "seed has no spread, `rasa report` has it over seeds."
        )


def intervals(arrays: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, tuple[float, float]]]:
    """R@1, R@5, R@10 and mAP, and stage 1's: mean ± 1.96 standard errors, clustered by identity; within 0 to 100.

    Nothing where the identities are not known, or where queries without a right image leave mAP open.
    """
    identity = arrays.get(predictions.IDENTITY)
    if identity is None or len(np.unique(identity)) < 2:
        return
    for prefix in ("", predictions.STAGE1):
        values: dict[str, NDArray[Any]] = {}
        if (rank_T := arrays.get(f"{prefix}{predictions.FIRST_RANK}")) is not None:
            values |= {f"{prefix}r{k}": 100.0 * (rank_T <= k) for k in (1, 5, 10)}
        if (precision_T := arrays.get(f"{prefix}{predictions.AVERAGE_PRECISION}")) is not None:
            values[f"{prefix}map"] = 100.0 * precision_T
        for name, values_T in values.items():
            if np.isfinite(values_T).all():
                found = clustered(values_T[None], identity)
                half = QUANTILE * float(found.each) ** 0.5
                mean = float(found.mean[0])
                yield name, (max(0.0, mean - half), min(100.0, mean + half))


def _cost(result: Mapping[str, Any], began: Mapping[str, Any]) -> Iterator[str]:
    cost, numerics = result.get("cost", {}), result.get("numerics", {})
    if "parameters" in cost:
        yield f"- {cost['parameters']:,.0f} parameters; {cost.get('steps', 0):,.0f} steps."
    if "seconds" in cost:
        rate = f", {cost['pairs_per_s']:,.0f} pairs/s" if "pairs_per_s" in cost else ""
        memory = f", peak memory {cost['peak_mib']:,.0f} MiB" if "peak_mib" in cost else ""
        yield f"- {cost['seconds']:,.0f} s of training and evaluation{rate}{memory}."
    if cost.get("flops"):
        yield f"- {cost['flops']:.3g} FLOPs."
    hardware = [*began.get("gpus", []), str(began.get("cpu") or "")]
    shown = ", ".join(as_text(each) for each in hardware if each)
    if shown:
        yield f"- On a machine with {shown}; precision {as_text(str(numerics.get('precision', 'unknown')))}."


def _limits(about: About, config: Config, result: Mapping[str, Any]) -> Iterator[str]:
    if about.data_name == SYNTHETIC:
        yield "- It has seen rendered figures alone: its figures say nothing of photographs, nor is it of use on them."
    else:
        yield "- Its licence is that of the data and of the weights that it began with; many allow research alone."
        yield "- It finds people by how they look. Whoever searches photographs of people with it needs a right to."
    gallery = (result.get("sizes") or {}).get("test", {}).get("images")
    if gallery:
        yield f"- The figures are for a gallery of {gallery:,} images; in a larger one they are lower."
    yield f"- Words beyond {config.data.max_words} of a sentence are not read, nor what its vocabulary lacks."
    yield "- One seed of one row: whether its row is better than another is a question to all seeds (`rasa report`)."


def _use(about: About, folder: str) -> Iterator[str]:
    yield "Where the run lies, by its id:\n"
    yield from _code(
        f"rasa evaluate {about.run_id} --data DIR               # rank a data set with it",
        f"rasa index PICTURES --with {about.run_id}             # encode a folder of images once",
        f'rasa search "a woman in a red coat" --in PICTURES --with {about.run_id}',
        f"rasa reproduce {about.run_id}                         # train it again, and compare the bits",
    )
    yield "\nElsewhere, with its artifacts `spec.yaml`, `vocab.txt` and `selected/` (this folder) in a folder FOLDER:\n"
    yield from _code(
        f"rasa checkpoint inspect FOLDER/{SELECTED}/{folder}",
        "rasa evaluate FOLDER --data DIR",
        "rasa index PICTURES --with FOLDER",
        'rasa search "a woman in a red coat" --in PICTURES --with FOLDER',
    )


def _source() -> Iterator[str]:
    yield "The method is RaSa (Bai et al., IJCAI 2023). These weights are not the authors'; `CITATION.cff` names both."


def _code(*lines: str) -> Iterable[str]:
    return ("```bash", *lines, "```")
