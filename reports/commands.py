"""`rasa report | gallery | compare | errors | publish | verify | restore`.

Only click is imported, here and by what is imported here, until it runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.completers import runs
from experiments.options import (
    json_option,
    margin_option,
    most_option,
    multirun_option,
    override_option,
    profile_option,
    targets_argument,
    tracking_option,
    workspace_option,
)

if TYPE_CHECKING:
    from reports.conditions import Condition
    from reports.formats import Page
    from reports.tables import Line

FORMATS = ("md", "html", "csv", "latex", "json")
FAULTS_SHOWN = 20  # of a published report; one digit in a row can differ in many places


page_format_option = click.option(
    "--format", "kind", type=click.Choice(("md", "html", "latex")), default="md", help="What is printed."
)
log_option = click.option(
    "--log", is_flag=True, help="Also file the pages in MLflow, as artifacts of the suite's report run."
)


def _conditions(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> "tuple[Condition, ...]":
    if not value:
        return ()
    from reports.conditions import parse

    try:
        return tuple(parse(text) for text in value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(short_help="Tables of suites or rows, beside the paper's.")
@targets_argument
@profile_option
@override_option
@multirun_option
@click.option("--format", "kind", type=click.Choice(FORMATS), default="md", show_default=True, help="What is printed.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the files.")
@click.option("--published", is_flag=True, help="Print the paper's table alone; needs no runs.")
@margin_option
@most_option
@log_option
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    callback=_conditions,
    help="Exit with 6 if it holds of the table's figures, e.g. 'm-rtd.r1 < 60 or m-rtd.n < 3'; may be given again.",
)
@workspace_option
@tracking_option
def report(
    names: tuple[str, ...],
    profile: str | None,
    overrides: tuple[str, ...],
    several: tuple[str, ...],
    kind: str,
    out: Path | None,
    published: bool,
    margin: float | None,
    most: int | None,
    log: bool,
    conditions: "tuple[Condition, ...]",
    workspace: Path,
    tracking_uri: str | None,
) -> None:
    """Print a table of each TARGET's suite with each row's spread, gain and cost beside the paper's values.

    TARGET is a suite (`table4`, `my.yaml`), or rows of one (`table4/m-rtd`, 'table4/*rtd'), which are shown with what
    they are compared with. The table in every format, a page and its figures are written to
    WORKSPACE/report/SUITE-PROFILE, or to --out. With rows, -m or -o the folder's name tells what differs.
    With --published: the table that the paper prints (`table1` to `table8`, or that of SUITE), and nothing is written.
    """
    if published:
        if profile or overrides or several or out or margin or most or log or conditions:
            raise click.UsageError(
                "--published prints the paper's table alone: give no --profile, -o, -m, --out, --margin, --max-seeds, "
                "--log or --fail-if with it"
            )
        from reports.paper_page import paper_text

        click.echo("\n".join(paper_text(name, kind) for name in names), nl=False)
        return
    from experiments.boundaries import MOST
    from experiments.spec import suite_names
    from experiments.steps import MARGIN
    from experiments.targets import parse_targets
    from rasa.errors import ResourceError, SpecError
    from reports.conditions import check, check_names
    from reports.printed import Printed, printed
    from reports.published import published_names

    for name in names:
        if name in published_names() and name not in suite_names():
            raise SpecError(
                f"no suite {name!r} yet; the paper's own table is printed by `rasa report {name} --published`"
            )
    texts, absent, said = list[str](), list[ResourceError](), list[str]()
    lines: dict[str, Sequence[Line]] = {}
    suites = [target.shown for target in parse_targets(names, several, overrides)]
    check_names(conditions, suites)
    how = Printed(overrides, margin or MARGIN, most or MOST, log, workspace, tracking_uri, out, len(suites) > 1)
    for suite in suites:
        try:
            of_suite, lines[suite.suite] = printed(suite, profile, how, said.append)
            texts.append(of_suite[kind])
        except ResourceError as fault:  # of several suites those that have no runs are told of
            if len(suites) == 1:
                raise
            absent.append(fault)
            click.echo(f"skipped: {fault}", err=True)
    if not texts:
        raise absent[0]
    click.echo(f"[{','.join(texts)}]\n" if kind == "json" and len(suites) > 1 else "\n".join(texts), nl=False)
    for line in said:  # last, where a person who has scrolled through a table looks for the path
        click.echo(line, err=True)
    check(conditions, lines)


@click.command(short_help="A report's folder that anyone can check.")
@targets_argument
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@profile_option
@override_option
@margin_option
@most_option
@workspace_option
@tracking_option
def publish(
    names: tuple[str, ...],
    folder: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    margin: float | None,
    most: int | None,
    workspace: Path,
    tracking_uri: str | None,
) -> None:
    """Write a suite's report into DIR, with all records from which its digits can be computed again.

    TARGET is the suite (`table4`, `my.yaml`), or rows of it (`figure4/p-weak`), several of one suite. The options are
    those of `rasa report`. A published report in DIR is replaced; a README.md in it stays. `rasa verify DIR` checks it
    anywhere, `rasa restore DIR` goes on from its runs.
    """
    from experiments.boundaries import MOST
    from experiments.steps import MARGIN
    from experiments.store import tracking_uri as default_uri
    from experiments.targets import parse_targets
    from reports.publish import publish as write

    targets = parse_targets(names)
    if len(targets) > 1:
        raise click.UsageError(f"a published report is of one suite, and these are {len(targets)}: publish each")
    suite, uri = targets[0].shown, default_uri(workspace, tracking_uri)
    manifest = write(suite, profile or suite.profile, overrides, uri, folder, margin or MARGIN, most or MOST, workspace)
    click.echo(
        f"{folder}: {len(manifest.runs)} runs, {len(manifest.files)} files; every digit follows from its records"
    )


@click.command(short_help="Compute a published report's digits again.")
@click.argument("places", metavar="DIR|ZIP...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--renew", is_flag=True, help="First write page, tables and figures again as this version prints them.")
def verify(places: tuple[Path, ...], renew: bool) -> None:
    """Compute every digit of the published report in DIR, or in a bundle's ZIP, again, from its records, and compare.

    Needs no store and no data. Exit code 1 if a digit differs or a file was changed, the first of them named; 5 if
    it is no published report. With --renew nothing of the records is changed, only how they are shown.
    """
    from rasa.errors import RasaError
    from reports.archive import opened
    from reports.publication import CHANGED, read_manifest
    from reports.verify import faults, unlisted

    wrong = 0
    for place in places:
        if renew:
            if not place.is_dir():
                raise click.UsageError(f"--renew writes in a folder; unzip {place} into one")
            from reports.publish import renew as write_again

            write_again(place)
        with opened(place) as folder:
            manifest = read_manifest(folder)
            found = [*faults(folder, manifest), *(unlisted(folder, manifest) if folder != place else ())]
        found.sort(key=lambda fault: CHANGED not in fault)  # those say where the others come from
        for fault in found[:FAULTS_SHOWN]:
            click.echo(f"{place}/{fault.replace(str(folder), str(place))}")
        if len(found) > FAULTS_SHOWN:
            click.echo(f"{place}: and {len(found) - FAULTS_SHOWN} more")
        if not found:
            count = len(manifest.runs)
            click.echo(f"{place}: {count} run{'s' if count > 1 else ''}; every digit as printed")
        wrong += bool(found)
    if wrong:
        raise RasaError(f"{wrong} of {len(places)} published reports do not follow from their records")


@click.command(short_help="Go on from a published report's runs.")
@click.argument("place", metavar="DIR|ZIP", type=click.Path(path_type=Path))
@workspace_option
def restore(place: Path, workspace: Path) -> None:
    """Put the runs of the published report in DIR, or in a bundle's ZIP, into the workspace, without weights.

    Then `rasa run` trains only what is missing, e.g. more seeds, and `rasa sync` files them in the tracker for `rasa
    report`. A run that is there already stays as it is.
    """
    from experiments.records import restore as put_back
    from reports.archive import opened
    from reports.publication import records_of, whole

    with opened(place) as folder:
        manifest = whole(folder)
        records = records_of(folder, [*manifest.runs, *(start.record for start in manifest.starts)])
    for record in records:
        directory = put_back(record, workspace)
        click.echo(f"{record.about.name:28} {'restored' if directory else 'there already'}")
    click.echo("`rasa sync` files them in the tracker", err=True)


@click.command(short_help="Queries with the images that runs found, chosen by rule.")
@click.argument("names", metavar="RUN...", nargs=-1, required=True, shell_complete=runs)
@click.option(
    "--rule",
    "rules",
    multiple=True,
    help="Which queries: fixed, broken, wrong, stage-2-fixed, stage-2-broken, near-twin, random; may be given several "
    "times. Default: all that these runs allow.",
)
@click.option("--wrong", is_flag=True, help="The same as --rule wrong.")
@click.option("--number", type=click.IntRange(min=1), default=8, show_default=True, help="Queries of each rule.")
@click.option("--draw", type=click.IntRange(min=0), default=0, show_default=True, help="Seed that chooses among them.")
@profile_option
@click.option("--seed", type=click.IntRange(min=0), help="Of runs that are named by their row; default: the lowest.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the page.")
@log_option
@workspace_option
@tracking_option
def gallery(
    names: tuple[str, ...],
    rules: tuple[str, ...],
    wrong: bool,
    number: int,
    draw: int,
    profile: str | None,
    seed: int | None,
    out: Path | None,
    log: bool,
    workspace: Path,
    tracking_uri: str | None,
) -> None:
    """Write a page of test queries with the ten best images of each RUN: a directory, an id, a name, or SUITE/ROW.

    With several runs the rules compare the first with the last: which queries the later one has fixed or broken.
    Queries are drawn by --draw and never by hand. The page and its thumbnails are written to WORKSPACE/gallery/NAMES,
    or to --out.
    """
    import shlex

    from experiments.finding import finished_run
    from experiments.wording import did_you_mean
    from reports.answers import read_answers
    from reports.gallery import write_gallery
    from reports.picks import RULES, pick

    wanted = [*rules, *(["wrong"] if wrong else [])] or [*RULES]
    for name in wanted:
        if name not in RULES:
            raise click.UsageError(f"--rule: no rule {name!r}{did_you_mean(name, list(RULES))}")
    directories = [finished_run(name, workspace, profile, seed) for name in names]
    asked, answers = read_answers(directories)
    picked, without = pick(wanted, answers, asked, number, draw)
    if (rules or wrong) and without:
        raise click.UsageError(
            f"--rule: {', '.join(without)} cannot be asked of {', '.join(names)}: fixed and broken compare two runs, "
            "stage-2 rules need a run that re-ranks, near-twin the built-in benchmark"
        )
    label = "-".join([*(name.strip("/").split("/")[-1] for name in names), directories[-1].name])
    folder = out or workspace / "gallery" / label
    command = shlex.join(["rasa", "gallery", *names, *(f"--rule={name}" for name in rules), f"--draw={draw}"])
    title = f"What {' and '.join(each.name for each in answers)} found"
    page = write_gallery(folder, title, picked, answers, asked, command)
    for rule in picked:
        click.echo(f"{rule.name}: {rule.total} of {len(asked.texts)} queries, {rule.sentence}")
    click.echo(f"gallery: {page}", err=True)
    if log:
        from experiments.store import tracking_uri as default_uri
        from reports.filing import log_gallery

        uri = default_uri(workspace, tracking_uri)
        for run in log_gallery(page, label, directories, uri, workspace):
            click.echo(f"logged to {uri}: {run}", err=True)


@click.command(short_help="Two runs, rows or suites side by side.")
@click.argument("a", shell_complete=runs)
@click.argument("b", shell_complete=runs)
@profile_option
@click.option(
    "--gallery",
    "gallery_folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write a page of the queries that flip.",
)
@click.option("--number", type=click.IntRange(min=1), default=8, show_default=True, help="Queries of each kind there.")
@page_format_option
@json_option
@workspace_option
def compare(
    a: str,
    b: str,
    profile: str | None,
    gallery_folder: Path | None,
    number: int,
    kind: str,
    as_json: bool,
    workspace: Path,
) -> None:
    """Say in what A and B differ, what each reaches, and which queries one has right and the other wrong.

    Each is a run's directory, id or name, a row (SUITE/ROW, all its finished seeds, paired), or a suite (its rows, by
    name). Differences are B minus A, tested over queries and seeds together.
    """
    import json

    from reports import compare as comparing

    first, second = (comparing.sides(name, workspace, profile) for name in (a, b))
    rows = [(first[row], second[row]) for row in first if row in second]
    if len(first) == len(second) == 1:
        rows = list(zip(first.values(), second.values(), strict=True))
    if not rows:
        raise click.UsageError(f"{a} has the rows {', '.join(first)}, {b} has {', '.join(second)}: none in common")
    found = [comparing.compare(*pair) for pair in rows]
    if gallery_folder is not None and len(found) > 1:
        raise click.UsageError("--gallery shows two runs; name one row of each suite")
    if as_json:
        click.echo(json.dumps([comparing.document(each) for each in found], indent=1))
    else:
        click.echo("\n".join(_printed(comparing.page(each), kind) for each in found), nl=False)
    if gallery_folder is not None:
        from reports.answers import read_answers
        from reports.gallery import write_gallery
        from reports.picks import pick

        pair = found[0].pairs[0]
        asked, answers = read_answers([run.directory for run in pair])
        picked, _ = pick(["fixed", "broken"], answers, asked, number, 0)
        page = write_gallery(gallery_folder, f"{b} against {a}", picked, answers, asked, f"rasa compare {a} {b}")
        click.echo(f"gallery: {page}", err=True)


@click.command(short_help="R@1 by what the query tells.")
@click.argument("names", metavar="ROW [ROW]", nargs=-1, required=True, shell_complete=runs)
@click.option(
    "--attributes",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CSV whose first column is image, as the annotations name it; default: what the built-in benchmark knows.",
)
@profile_option
@page_format_option
@json_option
@workspace_option
def errors(
    names: tuple[str, ...], attributes: Path | None, profile: str | None, kind: str, as_json: bool, workspace: Path
) -> None:
    """Say on which queries a ROW fails: R@1 by what the caption names, by its length, by near-twins, by camera.

    ROW is SUITE/ROW (all its finished seeds), or one run's directory, id or name. With two, the second minus the first,
    with intervals over people and seeds.
    """
    import json

    from reports import errors as by_attribute
    from reports.compare import Side
    from reports.compare import compare as compared
    from reports.compare import sides as sides_of

    if len(names) > 2:
        raise click.UsageError("one row, or two that are compared")
    sides: list[Side] = []
    for name in names:
        found = sides_of(name, workspace, profile)
        if len(found) > 1:
            raise click.UsageError(f"{name} is a suite; name one of its rows: {', '.join(found)}")
        sides.extend(found.values())
    comparison = compared(*sides) if len(sides) == 2 else None
    asked = by_attribute.asked_by(sides[0])
    reached = by_attribute.reached(by_attribute.groups_of(asked, attributes), sides, comparison)
    if as_json:
        click.echo(json.dumps(by_attribute.document(sides, reached), indent=1))
    else:
        click.echo(_printed(by_attribute.page(sides, reached, asked), kind), nl=False)


def _printed(page: "Page", kind: str) -> str:
    """A page of tables in the format that `page_format_option` gives."""
    from reports.formats import html, latex, markdown

    return {"md": markdown, "html": html, "latex": latex}[kind](page)
