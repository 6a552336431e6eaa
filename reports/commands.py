"""The command `rasa report`. Only click is imported, here and by what is imported here, until it runs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from experiments.commands import override_option, profile_option, tracking_option, workspace_option

FORMATS = ("md", "html", "csv", "latex")


@click.command(short_help="A suite's table, beside the paper's.")
@click.argument("suite")
@profile_option
@override_option
@click.option("--format", "kind", type=click.Choice(FORMATS), default="md", show_default=True, help="What is printed.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the files.")
@click.option("--published", is_flag=True, help="Print the paper's table alone; needs no runs.")
@workspace_option
@tracking_option
def report(
    suite: str,
    profile: str | None,
    overrides: tuple[str, ...],
    kind: str,
    out: Path | None,
    published: bool,
    workspace: Path,
    tracking_uri: str | None,
) -> None:
    """Print SUITE's table (`table4`, `my.yaml`) with each row's spread, gain and cost beside the paper's values.

    The table in every format, a page and a figure are written to WORKSPACE/report/SUITE-PROFILE, or to --out. With -o
    the folder's name tells what differs.
    With --published: the table that the paper prints (`table1` to `table8`, or that of SUITE), and nothing is written.
    """
    if published:
        if profile or overrides or out:
            raise click.UsageError("--published prints the paper's table alone: give no --profile, -o or --out with it")
        from reports.paper_page import paper_text

        click.echo(paper_text(suite, kind), nl=False)
        return
    from experiments.spec import load_suite, suite_names
    from experiments.store import tracking_uri as default_uri
    from rasa.errors import ResourceError, SpecError
    from reports.build import PAGE, build, write_files
    from reports.published import published_names
    from reports.variants import folder_name

    if suite in published_names() and suite not in suite_names():
        raise SpecError(
            f"no suite {suite!r} yet; the paper's own table is printed by `rasa report {suite} --published`"
        )
    loaded = load_suite(suite)
    profile = profile or loaded.profile
    built = build(loaded, profile, overrides, default_uri(workspace, tracking_uri), workspace)
    folder = out or workspace / "report" / folder_name(loaded, profile, overrides)
    try:
        texts, written = write_files(built, folder), f"report: {folder / PAGE}"
    except ResourceError as refused:  # a workspace on a disk that is only read has its table all the same
        if out is not None:
            raise
        with TemporaryDirectory() as scratch:
            texts, written = write_files(built, Path(scratch)), f"report: printed only; {refused}"
    click.echo(texts[kind], nl=False)
    click.echo(written, err=True)
