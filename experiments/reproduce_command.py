"""`rasa reproduce`. Only click is imported, here and by what is imported here, until it runs."""

import json
from pathlib import Path

import click

from experiments.completers import runs
from experiments.options import json_option, workspace_option


@click.command(short_help="Train a run again from its own code, and compare the bits.")
@click.argument("name", metavar="RUN", shell_complete=runs)
@click.option(
    "--repository",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A clone that has the run's commit; default: the checkout of this code.",
)
@click.option(
    "-o",
    "--override",
    "overrides",
    multiple=True,
    metavar="FIELD=PATH",
    help="Where data or weights lie on this machine, e.g. data.root=DIR or model.weights=FILE.",
)
@click.option("--keep", is_flag=True, help="Keep the sources and the new run, and say where.")
@click.option("--trust", is_flag=True, help="Run the uncommitted code of a run that came from a bundle.")
@workspace_option
@json_option
def reproduce(
    name: str,
    repository: Path | None,
    overrides: tuple[str, ...],
    keep: bool,
    trust: bool,
    workspace: Path,
    as_json: bool,
) -> None:
    """Train the finished RUN again, in a worktree of its commit with its uncommitted changes, and compare.

    Threads and the variables that change numbers are as recorded; packages and machine are this place's, and what
    differs of them is said. Compared bit by bit: figures, each step's metrics, predictions, selected weights. Exit code
    1 if they are not equal, 5 if the code, the data or the weights of the run are not to be had.
    """
    from experiments.finding import finished_run
    from experiments.reproduce import PLACES
    from experiments.reproduce import reproduce as train_again
    from experiments.wording import did_you_mean
    from rasa.errors import RunFailed

    places = {}
    for text in overrides:
        field, equals, path = text.partition("=")
        if field not in PLACES or not equals or not path:
            hint = did_you_mean(field, PLACES)
            raise click.UsageError(f"-o {text}: only where things lie can be another: {', '.join(PLACES)}{hint}")
        places[field] = str(Path(path).expanduser().absolute())
    directory = finished_run(name, workspace)
    found = train_again(directory, repository, places, keep, trust, lambda line: click.echo(line, err=True))
    if as_json:
        document = {
            "run_id": found.run_id,
            "equal": found.equal,
            "parts": [part._asdict() for part in found.parts],
            "differs": found.differs,
            "place": str(found.place) if found.place else None,
        }
        click.echo(json.dumps(document, indent=1))
    else:
        words = {True: "equal", False: "DIFFERS", None: "unknown"}
        for part in found.parts:
            click.echo(f"{part.name:12} {words[part.equal]:8} {part.text}")
        for what, (recorded, here) in found.differs.items():
            click.echo(f"here         {what}: {here} (recorded {recorded})")
    if found.place is not None:
        click.echo(f"kept in {found.place}", err=True)
    if not found.equal:
        raise RunFailed(f"{directory.name}: trained again from its own code, and not equal")
    if not as_json:
        click.echo(f"{directory.name}: reproduced, bit for bit")
