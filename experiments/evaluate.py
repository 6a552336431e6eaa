"""`rasa evaluate`: a run's selected weights, or a checkpoint from anywhere, on any data set. Only click up here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.completers import overrides as completed_overrides
from experiments.completers import weights as completed_weights
from rasa.commands.data import format_option, json_option

if TYPE_CHECKING:
    from experiments.layers import Layer
    from rasa.config.run import Config
    from rasa.evaluation.checkpoint import Evaluated


@click.command(short_help="Rank a data set by a run's or a checkpoint's weights.")
@click.argument("weights", metavar="CHECKPOINT|RUN", type=click.Path(path_type=Path), shell_complete=completed_weights)
@click.option(
    "--data", "root", metavar="DIR", type=click.Path(path_type=Path), help="Data set; default: the run's own."
)
@format_option
@click.option("--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True)
@click.option(
    "-o",
    "--override",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=completed_overrides,
    help="Set one config field, e.g. data.tokenizer=vocab.txt or evaluation.topk=64.",
)
@click.option(
    "--predictions",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write each query's best images, candidates and scores (safetensors).",
)
@click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default=".",
    help="Folder whose runs/ has the RUN.",
)
@json_option
def evaluate(
    weights: Path,
    root: Path | None,
    layout: str | None,
    split: str,
    overrides: tuple[str, ...],
    predictions: Path | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Rank a data set as its format is evaluated, and print the figures: R@1, R@5, R@10, mAP, and what else it has.

    RUN is a run's directory, its id or its beginning, its name ("table4/m-rtd seed 0"), or a row's (its lowest finished
    seed): its spec, its selected weights and its vocabulary are taken; without --data its own data is ranked, also
    where it was tested on another (data.target). CHECKPOINT is a file or folder of RaSa,
    ALBEF, TCL or CLIP weights, or `start`, which ships with this: its sizes are read off its shapes, and the released
    code's reading of the ranking applies (-o fidelity=paper for the paper's).
    """
    from rasa.evaluation.checkpoint import evaluate_weights

    config = config_for(weights, root, layout, overrides, workspace)
    found = evaluate_weights(config, split, lambda line: click.echo(line, err=True))
    if predictions is not None:
        found.save(predictions)
    if as_json:
        click.echo(json.dumps(document(weights, config, found), indent=1))
    else:
        show(weights, found)


def config_for(
    weights: Path, root: Path | None, layout: str | None, overrides: "tuple[str, ...]", workspace: Path = Path()
) -> "Config":
    """The config of an evaluation. Raises SpecError, ResourceError, or click's UsageError if no data is named."""
    from experiments.layers import Layer, build, parse_override
    from experiments.plan import located

    weights, run = _named(weights, workspace)
    below, seed = _of_run(run, root) if run is not None else (_of_checkpoint(weights), 0)
    given = [parse_override(text) for text in overrides]
    _refuse_target(given)
    if root is None and run is None:
        raise click.UsageError(f"{weights} is no run, so it has no data of its own; give --data DIR")
    if root is not None:
        root = root.expanduser().absolute()
        given.insert(0, Layer("--data", {"data": {"root": str(root), "format": layout or _format_in(root)}}))
    elif layout is not None:
        given.insert(0, Layer("--format", {"data": {"format": layout}}))
    if run is None:
        _refuse_unknown_heads(weights, below, given)
    return located(build([below], given, seed), Path())


def config_of_weights(weights: Path, overrides: "tuple[str, ...]", workspace: Path = Path()) -> "Config":
    """The config of a run's selected weights or of a checkpoint, with no data. Raises SpecError or ResourceError."""
    from experiments.layers import Layer, build, parse_override
    from experiments.plan import located

    weights, run = _named(weights, workspace)
    below, seed = _of_run(run, None) if run is not None else (_of_checkpoint(weights), 0)
    given = [Layer("no data", {"data": {"root": "."}}), *(parse_override(text) for text in overrides)]
    if run is None:
        _refuse_unknown_heads(weights, below, given)
    config = located(build([below], given, seed), Path())
    return config.model_copy(update={"data": config.data.model_copy(update={"root": Path(), "synthetic": None})})


def _named(weights: Path, workspace: Path) -> tuple[Path, Path | None]:
    """The weights that a person means, and the run whose they are; a file that is there is what it is."""
    from experiments.finding import ROW, finished_run, run_named
    from rasa.weights import start

    weights = start.WEIGHTS if weights == Path(start.NAME) else weights
    if (run := run_of(weights)) is not None or weights.exists():
        return weights, run
    if (run := run_named(weights, workspace)) is not None:
        return weights, run
    # What looks like a row, and not like a file, is one.
    row = ROW.fullmatch(str(weights)) and not weights.suffix
    return weights, finished_run(str(weights), workspace) if row else None


def _refuse_target(given: "list[Layer]") -> None:
    from experiments.layers import flatten
    from rasa.errors import SpecError

    for layer in given:
        if any(key == "data.target" or key.startswith("data.target.") for key in flatten(layer.values)):
            raise SpecError(
                f"{layer.source}: data.target: one data set is ranked at a time; name it with --data DIR and --format"
            )


def run_of(weights: Path) -> Path | None:
    """The run whose directory, or whose folder of selected weights, `weights` is; None if it is neither."""
    from experiments.rundir import SELECTED, SPEC

    inside = weights.absolute()
    for folder in (inside, inside.parent.parent):
        if (folder / SPEC).is_file() and (folder == inside or inside.parent.name == SELECTED):
            return folder
    return None


def _of_run(run: Path, root: Path | None) -> "tuple[Layer, int]":
    from experiments.layers import Layer
    from experiments.rundir import RESTORED, SELECTED, SPEC, read_config
    from rasa.data.tokenizer import vocabulary_file
    from rasa.errors import ResourceError

    config = read_config(run)
    found = sorted((run / SELECTED).glob("epoch-*"))
    if not found and (run / RESTORED).exists():
        raise ResourceError(
            f"{run}: restored from a published report, which holds no weights; to have them, run it in another "
            "--workspace"
        )
    if not found:
        raise ResourceError(f"{run}: has no selected weights yet; they are there after its first epoch")
    values: dict[str, Any] = config.model_dump(mode="json", exclude={"seed"})
    values["model"]["weights"] = str(found[-1].absolute())
    values["data"]["target"] = None  # the run's result has it; here --data says where else
    if (vocabulary := vocabulary_file(run)) is not None:
        values["data"]["tokenizer"] = str(vocabulary.absolute())
    if root is not None:  # where things lie in the run's own data says nothing of another
        for field in ("annotations", "image_folder"):
            del values["data"][field]
    return Layer(str(run / SPEC), values), config.seed


def _of_checkpoint(weights: Path) -> "Layer":
    """Of a start of `rasa pretrain`, its recipe's sizes and vocabulary; else what shapes tell.

    The start that ships is one of these.
    """
    from experiments.layers import Layer, merge
    from rasa.errors import ResourceError
    from rasa.evaluation.checkpoint import config_of
    from rasa.weights.released import read_state

    state = read_state(weights)
    try:
        values = config_of(state)
    except ResourceError as fault:
        raise ResourceError(f"{weights}: {fault}") from None
    values = merge(values, _of_recipe(weights.expanduser().absolute()), whole=True)
    values["model"]["weights"] = str(weights.expanduser().absolute())
    return Layer(str(weights), values)


def _of_recipe(weights: Path) -> dict[str, Any]:
    """What the shapes of a start do not tell and its recipe does; nothing of a checkpoint without one."""
    from rasa.data.tokenizer import vocabulary_file
    from rasa.weights.folder import recipe_of

    recipe = recipe_of(weights)
    if recipe is None:
        return {}
    data: dict[str, Any] = {"image_size": recipe["image_size"]}
    if (vocabulary := vocabulary_file(weights.parent)) is not None:
        data["tokenizer"] = str(vocabulary)
    return {"data": data, "model": {name: recipe["model"][name] for name in ("vision_heads", "text_heads")}}


def _refuse_unknown_heads(weights: Path, below: "Layer", given: "list[Layer]") -> None:
    from rasa.errors import SpecError

    stated = [layer.values.get("model") or {} for layer in (below, *given)]
    for field in ("vision_heads", "text_heads"):
        if not any(field in values for values in stated):
            width = below.values["model"][field.replace("heads", "width")]
            raise SpecError(
                f"{weights}: how many attention heads a model of width {width} has does not show in its weights; "
                f"give -o model.{field}=N"
            )


def _format_in(root: Path) -> str:
    from rasa.data.locate import detect_format

    return detect_format(root) or "cuhk-pedes"


def document(weights: Path, config: "Config", found: "Evaluated") -> dict[str, Any]:
    """What --json prints."""
    from experiments.environment import content_digest

    split = found.dataset.splits[found.split]
    assert config.model.weights is not None
    return {
        "weights": str(weights),
        "weights_digest": content_digest(config.model.weights),
        "data": {"name": found.dataset.name, "root": str(config.data.root), "digest": found.dataset.digest},
        "split": found.split,
        "images": len(split.image_files),
        "captions": len(split.captions),
        "metrics": found.ranking.figures(),
        "notes": list(found.dataset.notes),
    }


def show(weights: Path, found: "Evaluated") -> None:
    """The figures as a small table."""
    from experiments.suite import HEADINGS

    split = found.dataset.splits[found.split]
    click.echo(
        f"{weights} on {found.dataset.name} {found.split}: {len(split.image_files)} images, {len(split.captions)} "
        "captions"
    )
    lines = {"stage 1": found.ranking.stage1.metrics}
    if found.ranking.scores_TK is not None:
        lines["re-ranked"] = found.ranking.final.metrics
    click.echo(f"{'':<10}" + "".join(f"{HEADINGS[name]:>9}" for name in found.ranking.final.metrics))
    for label, metrics in lines.items():
        click.echo(f"{label:<10}" + "".join(f"{value:>9.2f}" for value in metrics.values()))
