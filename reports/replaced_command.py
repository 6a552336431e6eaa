"""`rasa replaced`."""

from pathlib import Path

import click

from experiments.completers import runs
from experiments.options import profile_option, workspace_option


@click.command(short_help="Words that generators replaced, and what detectors make of them.")
@click.argument("names", metavar="RUN...", nargs=-1, required=True, shell_complete=runs)
@click.option("--number", type=click.IntRange(min=1), default=12, show_default=True, help="Captions.")
@click.option("--draw", type=click.IntRange(min=0), default=0, show_default=True, help="Seed that chooses them.")
@profile_option
@click.option("--seed", type=click.IntRange(min=0), help="Of runs that are named by their row; default: the lowest.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the page.")
@click.option(
    "--keep",
    is_flag=True,
    help="Also keep the words in the directories of runs that were trained before runs did so themselves, for "
    "`rasa report` and `rasa publish`.",
)
@workspace_option
def replaced(
    names: tuple[str, ...],
    number: int,
    draw: int,
    profile: str | None,
    seed: int | None,
    out: Path | None,
    keep: bool,
    workspace: Path,
) -> None:
    """Write a page of validation captions with the words that each RUN's generator put in place of masked ones.

    RUN is a directory, an id, a name, or SUITE/ROW, of a row with RTD. All are asked about the same captions and masks,
    which --draw chooses. Each word is shown with the probability, by the run's detector, that it was replaced. The page
    is written to WORKSPACE/replaced/NAMES, or to --out.
    """
    import shlex

    from experiments.finding import finished_run
    from experiments.plan import located
    from experiments.rundir import read_config
    from rasa.data.load import load_dataset
    from rasa.training.words import FILE, read_replaced, save_replaced
    from reports.replaced import ask, told_by, write_page

    def say(line: str) -> None:
        click.echo(line, err=True)

    directories = [finished_run(name, workspace, profile, seed) for name in names]
    for directory in directories if keep else ():
        if read_replaced(directory / FILE) is None:
            save_replaced(ask(directory, 0, say), directory / FILE)
            say(f"{directory / FILE}: kept")
    told = told_by(directories, draw, number, say)
    config = located(read_config(directories[0]), workspace)
    label = "-".join(name.strip("/").split("/")[-1] for name in names)
    folder = out or workspace / "replaced" / f"{label}-{directories[-1].name}"
    command = shlex.join(["rasa", "replaced", *names, f"--number={number}", f"--draw={draw}"])
    page = write_page(folder, told, load_dataset(config.data), command)
    for each in told:
        shown = sum(len(caption.replaced) for caption in each.words.captions)
        masked = sum(len(caption.masked) for caption in each.words.captions)
        click.echo(f"{each.name}: {shown} of {masked} masked words replaced in {len(each.words.captions)} captions")
    click.echo(f"replaced words: {page}", err=True)
