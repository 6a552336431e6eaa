"""`rasa bundle`. Only click is imported, here and by what is imported here, until it runs."""

from pathlib import Path

import click

from experiments.completers import runs
from experiments.options import (
    margin_option,
    most_option,
    override_option,
    profile_option,
    tracking_option,
    workspace_option,
)


@click.command(short_help="A run or a suite as one file that anyone can check.")
@click.argument("target", metavar="RUN|SUITE", shell_complete=runs)
@click.argument("file", metavar="OUT.zip", type=click.Path(path_type=Path, dir_okay=False))
@profile_option
@override_option
@margin_option
@most_option
@click.option("--seed", type=click.IntRange(min=0), help="Of a run that is named by its row; default: the lowest.")
@workspace_option
@tracking_option
def bundle(
    target: str,
    file: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    margin: float | None,
    most: int | None,
    seed: int | None,
    workspace: Path,
    tracking_uri: str | None,
) -> None:
    """Write RUN (a directory, an id, or SUITE/ROW), or all runs of SUITE, into the zip OUT.zip.

    It holds specs, code changes, environments, digests of data and weights, what was found of each query, figures, and
    the report that follows from them; no weights, no images. `rasa verify OUT.zip` checks it anywhere, with neither
    data nor store; `rasa restore OUT.zip` goes on from its runs. The same runs make the same bytes.
    """
    from experiments.finding import ROW, finished_run, run_named
    from experiments.spec import FILE, load_suite

    if file.suffix.lower() != ".zip":
        raise click.UsageError(f"{file}: a bundle is a zip file; give a name that ends in .zip")
    named = run_named(target, workspace)
    if named is not None or (ROW.fullmatch(target) and not FILE.fullmatch(target)):
        given: dict[str, object] = {"-o": overrides, "--margin": margin, "--max-seeds": most}
        given |= {"--profile": profile, "--seed": seed is not None} if named is not None else {}
        if wrong := [name for name, value in given.items() if value]:
            raise click.UsageError(f"{target} is one run, which is settled; leave {', '.join(wrong)} out")
        from reports.bundle import bundle_run

        directory = named or finished_run(target, workspace, profile, seed)
        manifest, size = bundle_run(directory, file)
    else:
        if seed is not None:
            raise click.UsageError(f"--seed is of a run that is named by its row; {target} is a suite, with all seeds")
        from experiments.boundaries import MOST
        from experiments.steps import MARGIN
        from experiments.store import tracking_uri as default_uri
        from reports.bundle import bundle_suite

        loaded, uri = load_suite(target), default_uri(workspace, tracking_uri)
        own = profile or loaded.profile
        manifest, size = bundle_suite(loaded, own, overrides, uri, file, margin or MARGIN, most or MOST, workspace)
    count = len(manifest.runs)
    click.echo(
        f"{file}: {count} run{'s' if count > 1 else ''}, {len(manifest.files)} files, {size / 1e6:.2f} MB; every digit "
        "follows from its records"
    )
