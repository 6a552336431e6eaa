"""`rasa study list | run | status | report | export`.

Only click and the standard library up here, as in experiments/options.py.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.completers import runs
from experiments.options import (
    Where,
    json_option,
    override_option,
    profile_option,
    seeds_given,
    tracking_option,
    where_of_workers_option,
    workspace_option,
)
from experiments.printing import print_json
from studies.completers import spaces

if TYPE_CHECKING:
    from studies.points import Points
    from studies.storage import Storage

FOLLOW_SECONDS, IDLE_LOOKS = 2.0, 3

storage_option = click.option(
    "--storage",
    "url",
    metavar="URL",
    help="journal:///FILE, sqlite:///FILE.db or postgresql://USER@HOST/DB; default: a journal in the workspace.",
)
name_option = click.option("--name", help="Another name for the study, to begin it anew; default: the space's.")
seeds_option = click.option(
    "--seeds",
    default=None,
    callback=lambda context, option, value: None if value is None else seeds_given(context, option, value),
    help="Seeds of each trial, e.g. 0,1,2; default: the space's.",
)


@click.group(short_help="Search a row's parameters (Optuna).")
def study() -> None:
    """Search the parameters of a row: spaces in YAML, studies that survive and spread over processes and machines."""


@study.command("list", short_help="Every named space.")
@json_option
def list_(as_json: bool) -> None:
    """Every named space, with one line each."""
    from studies.space import load_space, space_names

    spaces = [load_space(name) for name in space_names()]
    if as_json:
        print_json(
            [
                {"name": s.study, "title": s.title, "row": s.row, "trials": s.trials, "parameters": list(s.parameters)}
                for s in spaces
            ]
        )
        return
    for space in spaces:
        click.echo(f"{space.study:20} {space.title}")
        click.echo(f"{'':20} from {space.row}: {', '.join(space.parameters)}")


@study.command("run", short_help="Run, or go on with, a study.")
@click.argument("space", shell_complete=spaces)
@click.option("--trials", type=click.IntRange(min=1), help="Trials of the whole study; default: the space's.")
@where_of_workers_option
@storage_option
@name_option
@profile_option
@override_option
@seeds_option
@click.option(
    "--start-from",
    multiple=True,
    metavar="SUITE",
    shell_complete=runs,
    help="Count a suite's finished runs as trials, too.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds of silence after which another machine's trial is taken for dead.",
)
@tracking_option
@workspace_option
@json_option
def run(
    space: str,
    trials: int | None,
    where: Where,
    url: str | None,
    name: str | None,
    profile: str | None,
    overrides: tuple[str, ...],
    seeds: list[int] | None,
    start_from: tuple[str, ...],
    grace: float,
    tracking_uri: str | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Run SPACE, a named one or your own file, until the study has as many trials as asked for.

    The same command goes on with a study that was interrupted, and on other machines it helps.
    """
    from experiments.executors.choice import elsewhere, environments
    from experiments.resources import ensure_data, writable
    from studies.session import search
    from studies.spread import spread

    points = _points(space, profile, overrides, seeds, workspace, name)
    if where.executor != "local" and where.jobs is None:
        raise click.UsageError(f"--executor {where.executor}: say how many workers the study has, e.g. --jobs 8")
    start = elsewhere(where, points.workspace)
    writable(workspace)
    ensure_data([points.row_config], workspace, lambda line: click.echo(line, err=True))
    total = trials or points.space.trials
    if start is not None and where.jobs is not None:
        found = spread(points, url, total, where.jobs, start, start_from, grace, tracking_uri)
    else:
        each = environments(where, points.row_config.optimisation.device)
        found = search(points, url, total, len(each), start_from, grace, tracking_uri, environments=each)
    _print_study(points, found, as_json)


@study.command("status", short_help="How studies stand.")
@click.argument("space", required=False, shell_complete=spaces)
@storage_option
@name_option
@profile_option
@override_option
@click.option("--follow", is_flag=True, help="Stay, and show every driver's trials as they go on.")
@workspace_option
@json_option
def status(
    space: str | None,
    url: str | None,
    name: str | None,
    profile: str | None,
    overrides: tuple[str, ...],
    follow: bool,
    workspace: Path,
    as_json: bool,
) -> None:
    """How all studies of the storage, or the one of SPACE, stand: their trials, and who is at which."""
    from studies.reading import overview, trials_of

    storage = _storage(url, workspace, name or space or "")
    if follow and space is None:
        raise click.UsageError("--follow shows one study; name its space")
    if space is not None:
        points = _points(space, profile, overrides, None, workspace, name, storage)
        if follow:
            _follow(points, storage)
        _print_study(points, trials_of(storage, points), as_json)
        return
    rows = overview(storage)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['study']:32} {row['summary']}")
    if not rows:
        click.echo(f"no studies in {storage.shown}", err=True)


@study.command("report", short_help="What a study has found.")
@click.argument("space", shell_complete=spaces)
@storage_option
@name_option
@profile_option
@override_option
@seeds_option
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Best trials that are shown.")
@click.option(
    "--rerun",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Train these, and the row, on N seeds that the search has not seen.",
)
@where_of_workers_option
@click.option("--export", "file", type=click.Path(path_type=Path, dir_okay=False), help="Also write the best trial.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the files.")
@tracking_option
@workspace_option
@json_option
def report(
    space: str,
    url: str | None,
    name: str | None,
    profile: str | None,
    overrides: tuple[str, ...],
    seeds: list[int] | None,
    top: int,
    rerun: int,
    where: Where,
    file: Path | None,
    out: Path | None,
    tracking_uri: str | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Print what the study of SPACE has found: its best trials, and what is left of them on fresh seeds.

    A page with the figures (history, importances, slices, contour, Pareto front) is written to
    WORKSPACE/report/study-NAME-PROFILE, or to --out.
    """
    from studies import report as reporting
    from studies import rerun as again
    from studies.reading import study_of

    storage = _storage(url, workspace, name or space)
    points = _points(space, profile, overrides, seeds, workspace, name, storage)
    found = study_of(storage, points)
    best = again.chosen(points, found.get_trials(deepcopy=False), top)
    if rerun:
        _rerun(points, best, rerun, where, tracking_uri)
    winners = again.winners(points, best)
    folder = out or workspace / "report" / f"study-{points.name.replace('/', '-')}"
    text = reporting.write(points, found, winners, folder)
    if as_json:
        print_json(reporting.numbers(points, found, winners))
    else:
        click.echo(text, nl=False)
    if file is not None:
        trained_again = all(winner.curse is not None for winner in winners)
        _export(points, found.get_trials(deepcopy=False), winners[0].trial if trained_again else None, file)
    click.echo(f"report: {folder / reporting.PAGE}", err=True)


@study.command("export", short_help="A trial as a spec file for rasa run.")
@click.argument("space", shell_complete=spaces)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--trial", type=click.IntRange(min=0), help="Its number; default: the best one's.")
@storage_option
@name_option
@profile_option
@override_option
@workspace_option
def export(
    space: str,
    file: Path,
    trial: int | None,
    url: str | None,
    name: str | None,
    profile: str | None,
    overrides: tuple[str, ...],
    workspace: Path,
) -> None:
    """Write a trial of SPACE's study to FILE, a suite of one row that `rasa run` takes."""
    from studies.reading import trials_of

    storage = _storage(url, workspace, name or space)
    points = _points(space, profile, overrides, None, workspace, name, storage)
    _export(points, trials_of(storage, points), trial, file)


def _export(points: "Points", found: list[Any], trial: int | None, file: Path) -> None:
    from studies.report import export as write_file

    number = write_file(points, found, trial, file)
    click.echo(f"trial {number}: {file}", err=True)


def _rerun(points: "Points", best: list[Any], seeds: int, where: Where, tracking_uri: str | None) -> None:
    from experiments import store
    from experiments.outcome import Callbacks
    from experiments.progress import Display
    from experiments.uploader import Tracker, Uploader
    from studies.rerun import rerun

    uri = store.tracking_uri(points.workspace, tracking_uri)
    with Display(len(best) * seeds) as display:
        tracker = Tracker(uri, points.workspace, display.notify)
        tracker.open()  # here and now: a fresh store is made by one process, before there are several
        with Uploader(tracker.deliver) as uploader:
            callbacks = Callbacks(display.on_start, display.on_metrics, display.on_end, display.notify, uploader.ask)
            rerun(points, best, seeds, where, callbacks)


def _storage(url: str | None, workspace: Path, name: str) -> "Storage":
    """The storage that is given, else the workspace's, else the one in which a study of that name was begun.

    Raises SpecError if it was begun in several.
    """
    from experiments.spec import FILE
    from rasa.errors import SpecError
    from studies.reading import names_of
    from studies.space import load_space
    from studies.storage import elsewhere, open_storage

    storage = open_storage(url, workspace, reading=True)
    if url is not None or not name:
        return storage
    name = load_space(name).study if FILE.fullmatch(name) else name
    if any(name in (study, study.rpartition("/")[0]) for study in names_of(storage)):
        return storage
    found = elsewhere(workspace, name)
    if len(found) > 1:
        raise SpecError(f"{name} was begun in several storages: {', '.join(found)}; give --storage")
    return open_storage(found[0], workspace, reading=True) if found else storage


def _points(
    space: str,
    profile: str | None,
    overrides: tuple[str, ...],
    seeds: list[int] | None,
    workspace: Path,
    name: str | None,
    storage: "Storage | None" = None,
) -> "Points":
    """Of a study in `storage`, by its space or its name: what is not given is as it was begun with.

    Raises SpecError.
    """
    from experiments.spec import FILE, load_profile
    from experiments.wording import did_you_mean
    from rasa.errors import SpecError
    from studies.points import Points
    from studies.reading import begun, names_of
    from studies.space import load_space, space_names

    known = load_space(space) if FILE.fullmatch(space) or space in space_names() or storage is None else None
    if storage is not None:
        wanted = load_profile(profile).profile if profile else ""
        asked = name or (known.study if known else space)
        usual = load_profile(known.profile).profile if known else ""
        found = begun(storage, asked, wanted, usual)
        if found is not None and known is None and found.space is None and found.name in space_names():
            known = load_space(found.name)
        if found is not None and (chosen := known or found.space) is not None:
            own_name = found.name if found.name != chosen.study else None
            given = overrides or found.overrides
            return Points(chosen, profile or found.profile, given, seeds or found.seeds, workspace, own_name)
        if known is None:
            names = [*space_names(), *names_of(storage)]
            raise SpecError(f"no space {space!r}, and no study in {storage.shown}{did_you_mean(space, names)}")
    assert known is not None
    return Points(known, profile, overrides, seeds, workspace, name)


def _follow(points: "Points", storage: "Storage") -> None:
    """Show the study until nothing of it runs or waits, or nobody is left who goes on with it."""
    from studies.liveness import Watcher, driven_here
    from studies.reading import dead_trials, trials_of
    from studies.screen import Screen
    from studies.trials import tally

    watcher, idle = Watcher(points.workspace), 0
    with Screen(points.space) as screen:
        while True:
            found = trials_of(storage, points)
            counts, dead = tally(found), dead_trials(watcher, found)
            screen.show(found, counts.settled + counts.running + counts.waiting)
            if not counts.running and not counts.waiting:
                return
            driven = counts.running > len(dead) or driven_here(points.workspace)
            idle = 0 if driven else idle + 1
            if idle == IDLE_LOOKS:  # a driver on another machine may be between two trials, but not for long
                screen.notify(f"{points.name}: no driver is at it; `rasa study run` goes on with it")
                return
            time.sleep(FOLLOW_SECONDS)


def _print_study(points: "Points", found: list[Any], as_json: bool) -> None:
    from studies.liveness import Watcher
    from studies.reading import dead_trials, rows_of
    from studies.screen import short, summary
    from studies.trials import tally

    rows = rows_of(points.space, found, dead_trials(Watcher(points.workspace), found))
    if as_json:
        print_json({"study": points.name, "counts": tally(found)._asdict(), "trials": rows})
        return
    for row in rows:
        point = " ".join(f"{key.rpartition('.')[2]}={short(value)}" for key, value in row["point"].items())
        values = " ".join(f"{value:.2f}" for value in row["values"] or ())
        click.echo(
            f"{row['trial']:4} {row['state']:9} {values:14} {point}" + (f"  {row['note']}" if row["note"] else "")
        )
    click.echo(f"{points.name}: {summary(tally(found))}")
