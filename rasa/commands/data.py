"""The commands `rasa data ...`. Nothing but click is imported until one of them runs."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from rasa.config.formats import FORMATS
from rasa.data.locate import detect_format

if TYPE_CHECKING:
    from rasa.config.run import Data

PROBLEMS_FOUND = 5  # the exit code of faults in data

format_option = click.option(
    "--format",
    "layout",
    type=click.Choice(tuple(FORMATS)),
    help="Layout of the files; by default the one that lies there.",
)
held_out_option = click.option(
    "--val-identities",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Identities held out of train where there is no validation split.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.group(short_help="Build, check and describe data sets.")
def data() -> None:
    """Build the built-in benchmark; check and describe data sets."""


def _counts(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Whole numbers of `400,50,100` or `96x48`."""
    if value is None:
        return None
    separator, wanted = ("x", 2) if option.name == "size" else (",", 3)
    parts = value.lower().split(separator)
    if len(parts) != wanted or not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"{value!r} is not of the form {option.metavar}")
    return tuple(int(part) for part in parts)


@data.command()
@folder_argument
@click.option("--identities", metavar="TRAIN,VAL,TEST", callback=_counts, help="People per split.")
@click.option("--images-per-identity", type=int, help="Images of each person.")
@click.option("--captions-per-image", type=int, help="Captions of each image.")
@click.option("--size", metavar="HxW", callback=_counts, help="Height and width of the images in pixels.")
@click.option("--twin-share", type=float, help="Share of people with a near-twin.")
@click.option("--noise", type=float, help="How much the images of one person differ in what they show; 0 for nothing.")
@click.option("--mistakes", type=float, help="Share of told attributes that an annotator takes for another.")
@click.option("--seed", type=int, help="Decides every person, image and caption.")
def synth(
    folder: Path, identities: tuple[int, int, int] | None, size: tuple[int, int] | None, **numbers: float | None
) -> None:
    """Build the benchmark of rendered people in DIR, laid out as CUHK-PEDES; what is not given takes its default."""
    from pydantic import ValidationError

    from rasa.config.benchmark import BenchmarkParams
    from rasa.data.synthetic.write import write_benchmark
    from rasa.errors import ResourceError

    given: dict[str, float | None] = dict(numbers)
    given |= zip(("train_identities", "val_identities", "test_identities"), identities or (), strict=False)
    given |= zip(("image_height", "image_width"), size or (), strict=False)
    try:
        params = BenchmarkParams.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        raise click.UsageError(f"{fault['loc'][0]} {fault['input']}: {fault['msg']}") from None
    try:
        with Progress("images") as progress:
            write_benchmark(folder, params, progress.update)
    except OSError as error:
        cause = f"{folder}: {error.strerror}; give a writable folder" if error.strerror else str(error)
        raise ResourceError(cause) from None
    click.echo(folder)


@data.command()
@folder_argument
@format_option
@held_out_option
@json_option
@click.option(
    "--tokenizer", default="captions", show_default=True, help="Vocabulary that long captions are counted with."
)
@click.pass_context
def check(
    ctx: click.Context, folder: Path, layout: str | None, val_identities: int, as_json: bool, tokenizer: str
) -> None:
    """List all that is wrong with the data set in DIR, every image decoded. Exits 5 if a run would refuse it."""
    from dataclasses import asdict

    from rasa.data.check import check as find_problems

    section = _section(folder, layout, val_identities).model_copy(
        update={"tokenizer": tokenizer, "vocabulary_size": 30522}
    )
    with Progress("images") as progress:
        problems = find_problems(section, on_progress=progress.update)
    if as_json:
        click.echo(json.dumps([asdict(problem) for problem in problems], indent=1))
    for problem in [] if as_json else problems:
        click.echo(f"{'problem' if problem.refused else 'note'}: {problem.message}")
    if any(problem.refused for problem in problems):
        ctx.exit(PROBLEMS_FOUND)
    if not as_json and not problems:
        click.echo(f"{folder}: nothing to report")


@data.command()
@folder_argument
@format_option
@held_out_option
@json_option
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write some identities as a PNG; of the built-in benchmark near-twins, with the caption of one of them.",
)
@click.option(
    "--figure", type=click.Path(path_type=Path, dir_okay=False), help="Also write the distributions as a PNG."
)
def stats(
    folder: Path, layout: str | None, val_identities: int, as_json: bool, sheet: Path | None, figure: Path | None
) -> None:
    """Count identities, images, captions and words per split of the data set in DIR.

    Of the built-in benchmark also the upper bound: the recall of a ranking by true attributes.
    """
    from rasa.data.load import load_dataset
    from rasa.data.stats import benchmark_stats, contact_sheet, distributions
    from rasa.data.stats import figure as draw_figure
    from rasa.data.stats import stats as measure
    from rasa.data.synthetic.facts import FACTS
    from rasa.data.synthetic.sheet import twin_sheet

    dataset = load_dataset(_section(folder, layout, val_identities))
    measured, built_in = measure(dataset), (folder / FACTS).is_file()
    benchmark = benchmark_stats(folder) if built_in else None
    if as_json:
        document = {"name": dataset.name, "digest": dataset.digest, "notes": dataset.notes, "splits": measured}
        click.echo(json.dumps(document | ({"benchmark": benchmark} if benchmark else {}), indent=1))
    else:
        _print_stats(dataset.name, measured)
        for note in dataset.notes:
            click.echo(f"note: {note}")
        if benchmark:
            _print_benchmark(benchmark)
    if sheet is not None and not (built_in and twin_sheet(folder, sheet)):
        contact_sheet(dataset, sheet)
    if figure is not None:
        draw_figure(distributions(dataset, folder if built_in else None), figure)


def _section(folder: Path, layout: str | None, val_identities: int) -> "Data":
    from rasa.config.run import Data

    found = layout or detect_format(folder) or "cuhk-pedes"
    return Data.model_validate({"root": folder, "format": found, "val_identities": val_identities})


def _print_stats(title: str, measured: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", *measured, title=title)
    for row in next(iter(measured.values())):
        table.add_row(row.replace("_", " "), *(_cell(split[row]) for split in measured.values()))
    Console().print(table)


def _print_benchmark(measured: dict[str, Any]) -> None:
    bound, lost = measured["upper_bound"], measured["weak_captions_lose"]
    found = ", ".join(f"R@{k} {bound[f'r{k}']}" for k in (1, 5, 10))
    others = f" (R@1 {bound['r1_others']} without the query's own image)" if lost else ""
    click.echo(f"upper bound by true attributes: {found}{others}, on {measured['split']}")
    if lost:
        shares = ", ".join(f"{lost[share]} % lose a {share}" for share in ("fifth", "third", "half"))
        click.echo(f"weak captions: of what they tell, {shares} or more")
    click.echo(f"mistakes: {measured['mistaken']} % of told facts")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:g} ({value['min']} to {value['max']})"
    return str(value)


class Progress:
    """A bar on stderr, or a line at every tenth where that is no terminal: `update(done, total)`."""

    def __init__(self, label: str):
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._label, self._tenths, self._plain = label, 0, not console.is_terminal
        self._bar = Progress(console=console, transient=True, disable=self._plain)
        self._task = self._bar.add_task(label, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
        if self._plain and total and done * 10 // total > self._tenths:
            self._tenths = done * 10 // total
            click.echo(f"{done} of {total} {self._label}", err=True)


@click.command(short_help="Make the common start of the built-in benchmark.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps; default: the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), help="Default: the recipe's.")
@click.option("--identities", type=click.IntRange(min=8), help="Rendered people to learn from; default: the recipe's.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
@click.option("--workspace", type=click.Path(path_type=Path), default=Path(), show_default=".", help="Holds data/.")
@json_option
def pretrain(
    folder: Path,
    steps: int | None,
    seed: int | None,
    identities: int | None,
    threads: int,
    workspace: Path,
    as_json: bool,
) -> None:
    """Pre-train a small ALBEF on rendered people of no benchmark, in DIR; the same command goes on where it was
    stopped.
    """
    import torch

    from rasa.training.pretrain import SHIPPED
    from rasa.training.pretrain import pretrain as run

    given = {name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None}
    recipe = SHIPPED.model_copy(update=given)
    if identities is not None:
        recipe = recipe.model_copy(update={"people": recipe.people.model_copy(update={"train_identities": identities})})
    torch.set_num_threads(threads)

    def log(group: str, step: int, values: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        click.echo(f"{group} {step}/{recipe.steps}  {text}", err=True)

    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)
        click.echo("stopping after a checkpoint; interrupt again to end at once", err=True)

    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # then the end of its terminal is none of it
    for number in (signal.SIGINT, signal.SIGTERM, *(() if nohup else (signal.SIGHUP,))):
        signal.signal(number, stop)
    result = run(recipe, folder, workspace, log, lambda line: click.echo(line, err=True), lambda: bool(stopped))
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        val = result["val"]
        click.echo(
            f"{folder / 'start'}: R@1 {val['stage1_r1']:.1f} by stage 1, {val['r1']:.1f} re-ranked, "
            f"{result['val_identities']} validation identities, {result['seconds'] / 60:.0f} min"
        )
