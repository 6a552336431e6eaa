"""`rasa list | show | plan | run | status | retry | sync | doctor`. Only click and the standard library up here.

stdout is data, stderr is progress; everything heavy is imported by the command that needs it.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from experiments.decisions import Decision
    from experiments.outcome import Outcome, Train
    from experiments.plan import PlannedRun
    from experiments.spec import Suite
    from experiments.until import Look

ALL = "*"  # suites

workspace_option = click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default=".",
    help="Folder that holds runs/, data/ and mlflow.db.",
)
profile_option = click.option("--profile", help="smoke, synth, paper or a file; default: the suite's own.")
override_option = click.option(
    "-o",
    "--override",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set one config field, e.g. optimisation.epochs=3.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
tracking_option = click.option(
    "--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or mlflow.db in the workspace."
)
keep_option = click.option(
    "--keep-checkpoints", is_flag=True, help="Keep finished runs' optimizer state; else their selected weights alone."
)
jobs_option = click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time.")
devices_option = click.option(
    "--devices",
    type=click.IntRange(min=1),
    help="Processes that train a run together, one per GPU; the number of fidelity.ranks or a divisor of it.",
)


def _seeds(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        seeds = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r}: give whole numbers with commas, e.g. 0,1,2") from None
    if min(seeds) < 0:
        raise click.BadParameter(f"{value!r}: a seed is 0 or more")
    return list(dict.fromkeys(seeds))


seeds_option = click.option("--seeds", default="0", show_default=True, callback=_seeds, help="e.g. 0,1,2.")


def _duration_given(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds of `8h`, `90m`, `1h30m` or `45s`."""
    if value is None:
        return None
    matched = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", value.strip())
    if not value.strip() or matched is None:
        raise click.BadParameter(f"{value!r}: give hours, minutes or seconds, e.g. 8h, 90m, 1h30m")
    return sum(float(part or 0) * unit for part, unit in zip(matched.groups(), (3600, 60, 1), strict=True))


until_option = click.option(
    "--until",
    type=click.Choice(["decided"]),
    help="Add seeds, after looks at 3, 5, 8 and 12, to the rows of steps that are not decided.",
)
margin_option = click.option(
    "--margin",
    type=click.FloatRange(min=0, min_open=True),
    help="Points of R@1 within which two rows are called equivalent; default 1.",
)
most_option = click.option("--max-seeds", "most", type=click.IntRange(min=3), help="The last look; default 12.")


@click.command("list", short_help="Every named suite, row and profile.")
@json_option
def list_(as_json: bool) -> None:
    """Every named suite, row and profile, with one line each."""
    from experiments.spec import load_profile, load_suite, profile_names, suite_names

    suites, profiles = [load_suite(name) for name in suite_names()], [load_profile(name) for name in profile_names()]
    if as_json:
        _print_json(
            {
                "suites": [{"name": s.suite, "title": s.title, "rows": [r.name for r in s.rows]} for s in suites],
                "profiles": [{"name": p.profile, "title": p.title} for p in profiles],
            }
        )
        return
    for suite in suites:
        click.echo(f"{suite.suite:24} {suite.title}")
        for row in suite.rows:
            click.echo(f"  {suite.suite + '/' + row.name:22} {' '.join(suite.labels_of(row).values())}")
    for profile in profiles:
        click.echo(f"--profile {profile.profile:14} {profile.title}")


@click.command(short_help="A row's resolved config as YAML.")
@click.argument("target", required=False)
@click.option("--diff", nargs=2, metavar="A B", help="Only what differs between two rows.")
@profile_option
@override_option
def show(target: str | None, diff: tuple[str, str] | None, profile: str | None, overrides: tuple[str, ...]) -> None:
    """The resolved config of TARGET (e.g. table4/m-rtd) as YAML, or that of a run, by its directory or id."""
    from experiments.finding import run_named
    from experiments.layers import differences
    from experiments.rundir import read_config
    from experiments.yaml_io import dump

    if diff and target:
        raise click.UsageError(f"{target}: name one row, or two with --diff, not both")
    if diff:
        first, second = (_one_config(name, profile, overrides) for name in diff)
        for key, (before, after) in differences(first, second).items():
            click.echo(f"{key}: {_plain(before)} -> {_plain(after)}")
    elif target and (directory := run_named(target)) is not None:
        if profile or overrides:
            raise click.UsageError(f"{target} is a run, whose config is settled; leave --profile and -o out")
        click.echo(dump(read_config(directory).model_dump(mode="json")), nl=False)
    elif target:
        click.echo(dump(_one_config(target, profile, overrides)), nl=False)
    else:
        raise click.UsageError("name a row, e.g. `rasa show table4/m-rtd`, or two with --diff")


@click.command("plan", short_help="What TARGET's runs need, and for how long.")
@click.argument("target")
@profile_option
@override_option
@seeds_option
@jobs_option
@until_option
@margin_option
@most_option
@workspace_option
@json_option
@click.pass_context
def plan(
    context: click.Context,
    target: str,
    profile: str | None,
    overrides: tuple[str, ...],
    seeds: list[int],
    jobs: int,
    until: str | None,
    margin: float | None,
    most: int | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Which runs of TARGET are new, finished, stale, failed or interrupted, and how long the rest takes.

    With --until decided: how the steps stand, and the runs of the next look.
    """
    _check_until(context, until)
    look = _looks(target, profile, overrides, workspace, margin, most)
    if until:
        _print_look(look(set()), jobs, as_json)
        return
    starts, runs = _plan(target, profile, overrides, seeds, workspace)
    planned = [*starts, *runs]
    _warn_of_headroom(starts, runs)
    if as_json:
        _print_json([_planned_row(run) for run in planned])
        return
    for run in planned:
        _print_state(run.about.name, run.state, run.reason, "" if _settled(run) else _duration(run.seconds))
    todo = [run for run in planned if not _settled(run)]
    known = [run.seconds for run in todo if run.seconds is not None]
    # An estimate that leaves runs out would be taken for the whole.
    total = _duration(sum(known) / min(jobs, max(1, len(todo)))) if len(known) == len(todo) else "unknown time"
    click.echo(f"{len(todo)} of {len(planned)} to run, about {total}" if todo else f"all {len(planned)} finished")
    from experiments.until import seen_before, standing

    if seen_before(planned, workspace):
        click.echo(f"{standing(look(set()))} (rasa plan {target} --until decided)")


@click.command(short_help="Run a row, a suite or your own file.")
@click.argument("target")
@profile_option
@override_option
@seeds_option
@jobs_option
@until_option
@margin_option
@most_option
@click.option("--budget", callback=_duration_given, help="Of --until decided: begin nothing that ends later, e.g. 8h.")
@click.option(
    "--executor", type=click.Choice(["local"]), default="local", show_default=True, help="Where runs execute."
)
@devices_option
@click.option("--rerun-stale", is_flag=True, help="Run again what finished before the code changed.")
@keep_option
@tracking_option
@workspace_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    target: str,
    profile: str | None,
    overrides: tuple[str, ...],
    seeds: list[int],
    jobs: int,
    until: str | None,
    margin: float | None,
    most: int | None,
    budget: float | None,
    executor: str,
    devices: int | None,
    rerun_stale: bool,
    keep_checkpoints: bool,
    tracking_uri: str | None,
    workspace: Path,
    as_json: bool,
) -> int:
    """Run TARGET: a row (table4/m-rtd), a suite (table4) or your own file; finished runs are skipped.

    With --until decided: look after 3, 5, 8 and 12 seeds, and go on with the rows of undecided steps alone.
    """
    _check_until(context, until)
    from experiments import torchrun
    from experiments.resources import ensure_data, writable
    from experiments.spec import parse_target, resolve
    from experiments.store import tracking_uri as chosen_uri

    if torchrun.follows():
        return torchrun.follow()
    train = context.with_resource(torchrun.trainer(devices, jobs))
    tracking_uri = chosen_uri(workspace, tracking_uri)
    suite, rows = parse_target(target)
    configs = [resolve(suite, row, profile or suite.profile, overrides, 0) for row in rows]
    writable(workspace)
    ensure_data(configs, workspace, lambda line: click.echo(line, err=True))
    if until:
        settings = (margin, most, jobs, budget, keep_checkpoints)
        _run_until(target, profile, overrides, workspace, *settings, tracking_uri, as_json, train)
        return 0
    starts, runs = _plan(target, profile, overrides, seeds, workspace)
    runs = [each._replace(keep_checkpoints=keep_checkpoints) for each in runs]
    _execute([*starts, *runs], workspace, jobs, rerun_stale, tracking_uri, as_json, train)
    return 0


@click.command(short_help="How the workspace's runs stand.")
@click.argument("suite", default=ALL)
@workspace_option
@json_option
def status(suite: str, workspace: Path, as_json: bool) -> None:
    """How all runs of the workspace, or of one SUITE, stand."""
    from experiments.plan import recorded_runs

    found = recorded_runs(workspace, _suite_name(suite, workspace))
    if as_json:
        _print_json([_row(run.about, run.state, run.reason, run.directory) for run in found])
        return
    for run in found:
        variant = f" ({run.about.variant})" if run.about.variant and not run.about.untrained else ""
        _print_state(f"{run.about.name} {run.about.profile} {run.about.run_id}{variant}", run.state, run.reason)
    if not found:
        click.echo(f"no runs in {workspace.absolute() / 'runs'}", err=True)


@click.command(short_help="Run a suite's failed runs again.")
@click.argument("suite")
@jobs_option
@devices_option
@keep_option
@tracking_option
@workspace_option
@json_option
@click.pass_context
def retry(
    context: click.Context,
    suite: str,
    jobs: int,
    devices: int | None,
    keep_checkpoints: bool,
    tracking_uri: str | None,
    workspace: Path,
    as_json: bool,
) -> int:
    """Run the failed runs of SUITE again, each from its own recorded spec."""
    from experiments import torchrun
    from experiments.plan import planned_again, recorded_runs

    if torchrun.follows():
        return torchrun.follow()
    train = context.with_resource(torchrun.trainer(devices, jobs))
    name = _suite_name(suite, workspace)
    found = [run for run in recorded_runs(workspace, name) if run.state == "failed"]
    if not found:
        click.echo(f"no failed runs of {name} in {workspace.absolute() / 'runs'}", err=True)
    else:
        again = [planned_again(run, workspace)._replace(keep_checkpoints=keep_checkpoints) for run in found]
        _execute(again, workspace, jobs, False, tracking_uri, as_json, train)
    return 0


@click.command(short_help="Bring interrupted runs to their end.")
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@jobs_option
@devices_option
@keep_option
@workspace_option
@tracking_option
@json_option
@click.pass_context
def resume(
    context: click.Context,
    names: tuple[str, ...],
    jobs: int,
    devices: int | None,
    keep_checkpoints: bool,
    workspace: Path,
    tracking_uri: str | None,
    as_json: bool,
) -> int:
    """Go on with each RUN, a directory or an id, from its last checkpoint, as it was configured when it began.

    No suite, profile or -o need be given again. A failed run is tried again, a finished one is left alone.
    """
    from experiments import torchrun
    from experiments.finding import run_named
    from experiments.plan import located, placed
    from experiments.rundir import read_about, read_config, workspace_of
    from rasa.errors import ResourceError

    if torchrun.follows():
        return torchrun.follow()
    train = context.with_resource(torchrun.trainer(devices, jobs))
    planned = []
    for name in names:
        directory = run_named(name, workspace)
        if directory is None:
            raise ResourceError(f"{name}: no run's directory and no run's id; `rasa status` lists them")
        own = workspace_of(directory.absolute())
        if own.resolve() != workspace.resolve():
            raise ResourceError(f"{name}: lies in the workspace {own}; give --workspace {own}")
        run = placed(read_about(directory), located(read_config(directory), workspace), workspace, None)
        planned.append(run._replace(keep_checkpoints=keep_checkpoints))
    _execute(planned, workspace, jobs, False, tracking_uri, as_json, train)
    return 0


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
        _print_json([check._asdict() for check in checks])
    return 5 if any(check.state == "fail" for check in checks) else 0


def _execute(
    planned: "Sequence[PlannedRun]",
    workspace: Path,
    jobs: int,
    rerun_stale: bool,
    tracking_uri: str | None,
    as_json: bool,
    train: "Train | None",
) -> None:
    from experiments.outcome import raise_for

    outcomes = _outcomes(planned, workspace, jobs, rerun_stale, tracking_uri, train)
    _print_outcomes(outcomes, as_json)
    raise_for(outcomes)


def _outcomes(
    planned: "Sequence[PlannedRun]",
    workspace: Path,
    jobs: int,
    rerun_stale: bool,
    tracking_uri: str | None,
    train: "Train | None",
    seconds: float | None = None,
) -> "list[Outcome]":
    """Execute, with a display and a courier to the tracker, for at most so many seconds."""
    from experiments import store
    from experiments.devices import check_devices, processes_of
    from experiments.outcome import Callbacks
    from experiments.progress import Display
    from experiments.resources import check_resources
    from experiments.runner import execute
    from experiments.uploader import Tracker, Uploader

    uri = store.tracking_uri(workspace, tracking_uri)
    todo = [run for run in planned if not _settled(run) or (rerun_stale and run.state == "stale")]
    check_devices(todo, processes_of(train))
    check_resources([run.config for run in todo])
    with Display(len(planned)) as display:
        tracker = Tracker(uri, workspace, display.notify)
        if not all(_settled(run) for run in planned) or rerun_stale:
            tracker.open()  # here and now: a fresh store is made by one process, before there are several
        with Uploader(tracker.deliver) as uploader:
            callbacks = Callbacks(display.on_start, display.on_metrics, display.on_end, display.notify, uploader.ask)
            return execute(planned, workspace, jobs, rerun_stale, callbacks, train, seconds)


def _run_until(
    target: str,
    profile: str | None,
    overrides: Sequence[str],
    workspace: Path,
    margin: float | None,
    most: int | None,
    jobs: int,
    budget: float | None,
    keep_checkpoints: bool,
    tracking_uri: str | None,
    as_json: bool,
    train: "Train | None",
) -> None:
    """Run until decided, and print the runs, how each step stands, and why it ended."""
    from experiments.outcome import raise_for
    from experiments.until import until_decided

    look = _looks(target, profile, overrides, workspace, margin, most)

    def execute(runs: "list[PlannedRun]", seconds: float | None) -> "list[Outcome]":
        starts = [start for start in _plan(target, profile, overrides, [], workspace)[0] if not _settled(start)]
        runs = [run._replace(keep_checkpoints=keep_checkpoints) for run in runs]
        return _outcomes([*starts, *runs], workspace, jobs, False, tracking_uri, train, seconds)

    ended = until_decided(look, execute, lambda line: click.echo(line, err=True), jobs, budget)
    if as_json:
        _print_json(
            {
                "runs": [_row(each.about, each.state, each.message, each.directory) for each in ended.outcomes],
                "steps": [_step_row(each) for each in ended.look.decisions.values()],
                "ended": ended.reason,
            }
        )
    else:
        _print_outcomes(ended.outcomes, as_json)
        _print_steps(ended.look)
        click.echo(f"ended: {ended.reason}")
    # What the budget has stopped is no fault; what a person has stopped, or what failed, is said by the exit code.
    raise_for([each for each in ended.outcomes if ended.stopped or (each.state != "interrupted" and each.reached)])


def _looks(
    target: str, profile: str | None, overrides: Sequence[str], workspace: Path, margin: float | None, most: int | None
) -> "Callable[[set[tuple[str, int]]], Look]":
    """How the steps of TARGET stand, read anew at each call, which is given the runs that were tried in vain."""
    from experiments.boundaries import MOST
    from experiments.plan import data_reader
    from experiments.plan import plan as plan_runs
    from experiments.spec import parse_target
    from experiments.steps import MARGIN
    from experiments.until import Look, look, rows_of_steps

    suite, rows = parse_target(target)
    read = data_reader()

    def now(tried: set[tuple[str, int]]) -> Look:
        needed = rows_of_steps(suite, rows)
        planned = plan_runs(suite, needed, profile or suite.profile, overrides, range(most or MOST), workspace, read)
        return look(suite, planned, most or MOST, margin or MARGIN, tried)

    return now


def _check_until(context: click.Context, until: str | None) -> None:
    """Refuse options that do not go together."""
    given = [
        name
        for name in ("seeds", "rerun_stale", "margin", "most", "budget")
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    ]
    if until and (wrong := {*given} & {"seeds", "rerun_stale"}):
        name = wrong.pop().replace("_", "-")
        raise click.UsageError(f"--{name} and --until decided do not go together: the looks say which runs are needed")
    if not until and (wrong := {*given} & {"margin", "most", "budget"}):
        name = wrong.pop().replace("most", "max-seeds")
        raise click.UsageError(f"--{name} needs --until decided")


def _print_look(now: "Look", jobs: int, as_json: bool) -> None:
    from experiments.until import duration, standing

    if as_json:
        _print_json(
            {
                "steps": [_step_row(each) for each in now.decisions.values()],
                "next_look": now.seeds if now.runs else None,
                "runs": [_planned_row(run) for run in now.runs],
            }
        )
        return
    _print_steps(now)
    for run in now.runs:
        _print_state(run.about.name, run.state, run.reason, _duration(run.seconds))
    known = all(run.seconds is not None for run in now.runs)
    total = _duration(duration(now.runs, jobs)) if known else "unknown time"
    click.echo(standing(now) + (f", about {total}" if now.runs else ""))


def _print_steps(now: "Look") -> None:
    from experiments.until import words

    for decision in now.decisions.values():
        click.echo(words(decision))


def _step_row(decision: "Decision") -> dict[str, Any]:
    from dataclasses import asdict

    return {"decided": decision.decided, **asdict(decision)}


def _plan(
    target: str, profile: str | None, overrides: Sequence[str], seeds: Sequence[int], workspace: Path
) -> "tuple[list[PlannedRun], list[PlannedRun]]":
    """The evaluations of the weights that the rows start from, and the runs."""
    from experiments.plan import data_reader
    from experiments.plan import plan as plan_runs
    from experiments.spec import parse_target
    from experiments.start import plan_starts

    suite, rows = parse_target(target)
    profile, read = profile or suite.profile, data_reader()
    runs = plan_runs(suite, rows, profile, overrides, seeds, workspace, read)
    return plan_starts(suite, rows, profile, overrides, workspace, read), runs


def _warn_of_headroom(starts: "Sequence[PlannedRun]", runs: "Sequence[PlannedRun]") -> None:
    from experiments.start import without_headroom

    for sentence in without_headroom(starts, runs):
        click.echo(f"warning: {sentence}", err=True)


def _suite_name(given: str, workspace: Path) -> str:
    """The suite that a name or a user's file means; SpecError with the nearest names for one that is nowhere."""
    from experiments.rundir import suites_run
    from experiments.spec import FILE, load_suite, suite_names
    from experiments.wording import did_you_mean
    from rasa.errors import SpecError

    name = load_suite(given).suite if FILE.fullmatch(given) else given
    known = sorted({*suite_names(), *suites_run(workspace)})
    if name != ALL and name not in known:
        raise SpecError(f"no suite {name!r}{did_you_mean(name, known)}")
    return name


def _one_config(target: str, profile: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    from experiments.spec import parse_target, resolve

    suite, rows = parse_target(target)
    if len(rows) != 1:
        raise click.UsageError(f"{target} has {len(rows)} rows; name one: {_names(suite, target)}")
    config = resolve(suite, rows[0], profile or suite.profile, overrides, 0)
    return config.model_dump(mode="json", exclude={"seed"})


def _names(suite: "Suite", target: str) -> str:
    return ", ".join(f"{target}/{row.name}" for row in suite.rows)


def _print_outcomes(outcomes: "Sequence[Outcome]", as_json: bool) -> None:
    from experiments.progress import ending

    if as_json:
        rows = [_row(o.about, o.state, o.message, o.directory) | {"r1": o.r1, "seconds": o.seconds} for o in outcomes]
        _print_json(rows)
        return
    for outcome in outcomes:
        # Why a run failed stands on stderr already.
        shown = outcome._replace(message="") if outcome.state == "failed" else outcome
        click.echo(f"{outcome.about.name:28} {ending(shown)}  {outcome.directory}")


def _print_state(name: str, state: str, reason: str, estimate: str = "") -> None:
    text = f"{state}: {reason}" if reason else state
    click.echo(f"{name:28} {text}" + (f" (about {estimate})" if estimate else ""))


def _planned_row(run: "PlannedRun") -> dict[str, Any]:
    return _row(run.about, run.state, run.reason, run.directory) | {"seconds": run.seconds}


def _row(about: Any, state: str, reason: str, directory: Path | None) -> dict[str, Any]:
    keys = ("suite", "row", "profile", "seed", "run_id", "row_digest", "data_digest", "variant")
    who = {key: getattr(about, key) for key in keys}
    return who | {"state": state, "reason": reason, "directory": str(directory) if directory else None}


def _settled(run: "PlannedRun") -> bool:
    return run.state in ("finished", "stale", "running")


def _duration(seconds: float | None) -> str:
    from experiments.progress import duration

    return duration(seconds)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    click.echo()
