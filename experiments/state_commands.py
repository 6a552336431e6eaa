"""`rasa plan | status | best | sync | doctor`: how things stand.

Only click and the standard library up here; everything heavy is imported by the command that needs it.
"""

import shlex
from pathlib import Path

import click

from experiments.completers import runs
from experiments.options import (
    Where,
    jobs_option,
    json_option,
    margin_option,
    most_option,
    multirun_option,
    override_option,
    profile_option,
    seeds_option,
    targets_argument,
    tracking_option,
    until_option,
    workspace_option,
)
from experiments.printing import (
    how_long,
    planned_row,
    print_forecast,
    print_json,
    print_look,
    print_state,
    settled,
    warn_of_headroom,
)
from experiments.running import check_until, looks, one_suite, planned_with_starts, say_notes


@click.command("plan", short_help="What TARGET's runs need, and for how long.")
@targets_argument
@profile_option
@override_option
@multirun_option
@seeds_option
@jobs_option
@until_option
@margin_option
@most_option
@click.option("--devices", type=click.IntRange(min=1), help="Devices at hand, of --device-kind.")
@click.option("--device-kind", help="Forecast for devices that are not here: h100, a100-80, 4090, ...")
@click.option("--price-per-hour", type=click.FloatRange(min=0), help="Of one device of --device-kind.")
@workspace_option
@json_option
@click.pass_context
def plan(
    context: click.Context,
    names: tuple[str, ...],
    profile: str | None,
    overrides: tuple[str, ...],
    several: tuple[str, ...],
    seeds: list[int],
    jobs: int | None,
    until: str | None,
    margin: float | None,
    most: int | None,
    devices: int | None,
    device_kind: str | None,
    price_per_hour: float | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Which runs of each TARGET are new, finished, stale, failed or interrupted, and how long the rest takes.

    With --until decided: how the steps stand, and the runs of the next look. With --device-kind: hours, cost, memory
    and communication on devices that are not here.
    """
    from experiments.executors.choice import at_a_time

    check_until(context, until)
    from experiments.targets import parse_targets
    from experiments.until import seen_before, standing

    if device_kind is None and (devices is not None or price_per_hour is not None):
        raise click.UsageError("--devices and --price-per-hour of a plan need --device-kind, e.g. --device-kind h100")
    if device_kind is not None and until:
        raise click.UsageError("--device-kind and --until decided do not go together: looks say later what runs")
    targets = parse_targets(names, several, overrides)
    say_notes(targets)
    if device_kind is not None:
        from experiments.forecast_plan import foreseen

        found, data = foreseen(targets, profile, overrides, seeds, device_kind, devices or 1, workspace)
        print_forecast(found, price_per_hour, data, as_json)
        return
    if until:
        look = looks(one_suite(targets), profile, overrides, workspace, margin, most)
        print_look(look(set()), at_a_time(Where(jobs)), as_json)
        return
    starts, runs = planned_with_starts(targets, profile, overrides, seeds, workspace)
    planned = [*starts, *runs]
    warn_of_headroom(starts, runs)
    if as_json:
        print_json([planned_row(run) for run in planned])
        return
    for run in planned:
        print_state(run.about.name, run.state, run.reason, "" if settled(run) else how_long(run.seconds))
    todo = [run for run in planned if not settled(run)]
    known = [run.seconds for run in todo if run.seconds is not None]
    # An estimate that leaves runs out would be taken for the whole.
    side_by_side = min(at_a_time(Where(jobs)), max(1, len(todo)))
    total = f"about {how_long(sum(known) / side_by_side)}" if len(known) == len(todo) else "for an unknown time"
    click.echo(f"{len(todo)} of {len(planned)} to run, {total}" if todo else f"all {len(planned)} finished")
    for target in targets:
        if seen_before([run for run in runs if run.about.suite == target.suite.suite], workspace):
            now = looks(target, profile, overrides, workspace, margin, most)(set())
            click.echo(f"{standing(now)} ({shlex.join(['rasa', 'plan', *target.texts])} --until decided)")


@click.command(short_help="How the workspace's runs stand.")
@click.argument("names", metavar="[SUITE|ROW|RUN]...", nargs=-1, shell_complete=runs)
@workspace_option
@json_option
def status(names: tuple[str, ...], workspace: Path, as_json: bool) -> None:
    """How all runs of the workspace, or those of each SUITE, ROW ('table4/*rtd') or RUN, stand, and what they reached.

    VAL R@1 is validation's, of the epoch that it has chosen (so far), TEST R@1 that of the same weights on test.
    """
    from experiments.finding import runs_named
    from experiments.plan import recorded, recorded_runs
    from experiments.reached import reached
    from experiments.status_table import Line, document, table

    named = dict.fromkeys(directory for name in names for directory in runs_named(name, workspace))
    found = recorded(named) if names else recorded_runs(workspace)
    lines = [Line(run, reached(run.directory, run.about, run.state == "running")) for run in found]
    if as_json:
        print_json([document(line) for line in lines])
    elif lines:
        click.echo("\n".join(table(lines)))
    else:
        click.echo(f"no runs in {workspace.absolute() / 'runs'}", err=True)


@click.command(short_help="The best rows and runs, by validation.")
@click.argument("name", metavar="[SUITE|ROW]", required=False, shell_complete=runs)
@click.option("--number", type=click.IntRange(min=1), default=3, show_default=True, help="Rows of each suite.")
@workspace_option
@json_option
def best(name: str | None, number: int, workspace: Path, as_json: bool) -> None:
    """The best finished rows of each suite, and their best runs with the path of the weights.

    Rows are ranked by the mean over seeds of validation R@1, runs by their own: test is shown, and chooses nothing.
    Rows of one suite, profile and data set are compared.
    """
    from experiments import best as choosing
    from experiments.finding import runs_named
    from experiments.plan import recorded, recorded_runs

    found = recorded_runs(workspace) if name is None else recorded(runs_named(name, workspace))
    contests = choosing.contests(found)
    if as_json:
        print_json([choosing.document(contest, number) for contest in contests])
        return
    for contest in contests:
        click.echo("\n".join(choosing.lines(contest, number, workspace)))
    if contests:
        click.echo(f"chosen by {choosing.CHOSEN_BY}", err=True)
    else:
        click.echo(f"no finished runs in {workspace.absolute() / 'runs'}", err=True)


@click.command(short_help="Deliver what the tracker missed.")
@tracking_option
@workspace_option
def sync(tracking_uri: str | None, workspace: Path) -> None:
    """Deliver to the tracker what it missed while it was away."""
    from experiments import store, uploader
    from experiments.databases import shown
    from rasa.errors import ResourceError

    uri = store.tracking_uri(workspace, tracking_uri)
    there, deleted, total = uploader.sync(workspace, uri, lambda line: click.echo(line, err=True))
    kept = f"; {deleted} were deleted there, and stay so" if deleted else ""
    click.echo(f"{there} of {total} runs are in {shown(uri)}{kept}")
    if missing := total - there - deleted:
        raise ResourceError(f"{missing} runs are not delivered; `rasa sync` goes on")


@click.command(short_help="Check installation, machine and tracker.")
@tracking_option
@workspace_option
@json_option
def doctor(tracking_uri: str | None, workspace: Path, as_json: bool) -> int:
    """Check the installation, the machine and the tracker; exit code 5 if something cannot work."""
    from experiments.doctor import examine

    checks = []
    for check in examine(workspace, tracking_uri):
        checks.append(check)
        if not as_json:
            click.echo(f"{check.state:4}  {check.name}: {check.text}")
    if as_json:
        print_json([check._asdict() for check in checks])
    return 5 if any(check.state == "fail" for check in checks) else 0
