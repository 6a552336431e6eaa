"""Executes planned runs, in this process or in several, each into its own directory. A failed run stops no other."""

import os
import traceback
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from experiments.adopt import COPIED_FROM, copied
from experiments.environment import code_digest, environment
from experiments.plan import DATA, PlannedRun, State, judge, located, not_built
from experiments.rundir import (
    ABOUT,
    ENVIRONMENT,
    FAILURE,
    LOCK,
    RESULT,
    RUNS,
    SPEC,
    About,
    MetricsLog,
    read_json,
    read_result,
    timestamp,
    workspace_of,
    write_json,
    write_text,
)
from experiments.stop import Stop
from experiments.yaml_io import dump
from rasa.config.run import Config
from rasa.errors import RasaError, ResourceError, RunFailed, SuiteFailed
from rasa.lock import Lock

Train = Callable[..., dict[str, Any]]
Heard = Callable[[str, int, dict[str, float]], None]
Say = Callable[[str], None]


class Outcome(NamedTuple):
    """How a run stands after a command. `running`: in another process, which goes on."""

    about: About
    directory: Path
    state: State
    message: str = ""
    r1: float | None = None
    seconds: float | None = None
    exit_code: int = RunFailed.exit_code  # of a failed run: its fault's
    reached: bool = True  # False of a run that the command was stopped before


class Watch(NamedTuple):
    """Who is told what happens: a person, and the tracker, which reads the run's directory."""

    started: Callable[[PlannedRun], None]
    heard: Callable[[About, str, int, dict[str, float]], None]
    ended: Callable[[Outcome], None]
    say: Say
    deliver: Callable[[Path], None]


UNWATCHED = Watch(lambda run: None, lambda *figures: None, lambda outcome: None, lambda line: None, lambda folder: None)


def ensure_data(configs: Sequence[Config], workspace: Path, say: Say) -> None:
    """Build the built-in benchmarks that these configs need and that are not there. Raises ResourceError."""
    for config in configs:
        for params in not_built(located(config, workspace)):
            from rasa.data.load import ensure_builtin

            say(f"building the built-in benchmark in {workspace / DATA}")
            try:
                (workspace / DATA).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ResourceError(f"{workspace / DATA}: {error.strerror}; give a writable --workspace") from error
            ensure_builtin(params, workspace / DATA, _tenths(say))


def check_resources(configs: Sequence[Config]) -> None:
    """Refuse, before any run exists, a tokenizer, a fixed generator or weights that these configs cannot use.

    Raises SpecError and ResourceError.
    """
    models = {config.model.weights: config.model for config in configs if config.model.weights is not None}
    if models:
        from rasa.weights.released import initial_state

        for model in models.values():
            initial_state(model)
    seen = set()
    for config in configs:
        data, name = config.data, config.objectives.masked_lm
        named = config.objectives.generator == "fixed" and name != "captions"
        key = (data.tokenizer if data.tokenizer != "captions" and not named else data.model_dump_json(), named and name)
        if key in seen or (data.tokenizer == "captions" and not named):
            continue
        from rasa.data.load import load_dataset
        from rasa.data.tokenizer import build_tokenizer

        captions = load_dataset(data).splits["train"].captions if data.tokenizer == "captions" else ()
        tokenizer = build_tokenizer(data.tokenizer, captions, data.vocabulary_size)
        if named:
            from rasa.training.masked_lm import check_masked_lm

            check_masked_lm(name, tokenizer)
        seen.add(key)


def _tenths(say: Say) -> Callable[[int, int], None]:
    """Tell of progress at every tenth."""
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if total and done * 10 // total > told:
            told = done * 10 // total
            say(f"{done} of {total} images")

    return tell


def execute(
    planned: Sequence[PlannedRun],
    workspace: Path,
    jobs: int = 1,
    rerun_stale: bool = False,
    watch: Watch = UNWATCHED,
    train: Train | None = None,
    seconds: float | None = None,
) -> list[Outcome]:
    """Bring every planned run to its end, in order, and say how each stands. `train` defaults to the real trainer.

    After the first SIGINT or SIGTERM, or after so many seconds, the running ones checkpoint and stop, and the rest are
    not started; the second signal ends the process. Raises ResourceError if nothing can be written in `workspace`.
    """
    writable(workspace)
    outcomes: dict[int, Outcome] = {}
    todo: list[tuple[int, PlannedRun]] = []
    for number, run in enumerate(planned):
        if run.directory is None:
            raise ResourceError(f"{run.about.name}: {run.reason}")
        if settled := _settled(run, rerun_stale):
            outcomes[number] = settled
            watch.ended(settled)
            watch.deliver(settled.directory)  # at once if all is delivered; else what a tracker that was away missed
        else:
            todo.append((number, run))
    with Stop(lambda: watch.say("stopping after a checkpoint; interrupt again to end at once"), seconds) as stop:
        if jobs > 1:
            from experiments.workers import run_all

            outcomes |= run_all(todo, min(jobs, len(todo)), watch, stop, train)
        else:
            for number, run in todo:
                outcomes[number] = not_reached(run) if stop.asked else _run_here(run, watch, stop, train)
    return [outcomes[number] for number in sorted(outcomes)]


def raise_for(outcomes: Sequence[Outcome]) -> None:
    """KeyboardInterrupt, RunFailed (a single run's, with its fault's exit code) or SuiteFailed if called for.

    A start beside a run leaves that the single one.
    """
    if any(outcome.state == "interrupted" or not outcome.reached for outcome in outcomes):
        raise KeyboardInterrupt
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    single = sum(not outcome.about.untrained for outcome in outcomes) <= 1
    if len(failed) == 1 and single:
        error = RunFailed(f"{failed[0].about.name}: {failed[0].message}")
        error.exit_code = failed[0].exit_code
        raise error
    if failed:
        names = ", ".join(outcome.about.name for outcome in failed)
        raise SuiteFailed(f"{len(failed)} of {len(outcomes)} runs failed: {names}; `rasa retry` runs them again")


def run_one(
    run: PlannedRun,
    heard: Heard,
    say: Say,
    should_stop: Callable[[], bool],
    train: Train | None,
    threads: int | None = None,
) -> Outcome:
    """Train in this process, into the run's directory; never raises for a fault of the run itself.

    `threads` bounds the CPU threads, unless the config does.
    """
    assert run.directory is not None  # execute has looked
    with Lock(run.directory / LOCK) as lock:
        if not lock.acquired:
            return Outcome(run.about, run.directory, "running", "in another process")
        if (result := read_result(run.directory / RESULT)) is not None:  # another driver was faster
            return finished(run.about, run.directory, result)
        try:
            if not _begun(run.directory) and (result := copied(run)) is not None:
                say(f"copied from {result[COPIED_FROM]}, which is the same run")
                write_json(run.directory / RESULT, result)
                return finished(run.about, run.directory, result)
            write_json(run.directory / RESULT, _trained(run, run.directory, heard, say, should_stop, train, threads))
        except KeyboardInterrupt:
            return stopped(run)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is recorded and the other runs go on
            return failed(run, error)
        return finished(run.about, run.directory, read_result(run.directory / RESULT) or {})


def failed(run: PlannedRun, error: BaseException) -> Outcome:
    """Record a failure in the run's directory, as well as the disk allows."""
    assert run.directory is not None
    if isinstance(error, OSError) and error.errno is not None:  # the machine's fault, not the program's
        error = _refused_by_the_system(error, run.directory)
    message = str(error) if isinstance(error, RasaError) else f"{type(error).__name__}: {error}"
    message = " ".join(message.split())
    trace = "".join(traceback.format_exception(error))
    record = {"type": type(error).__name__, "message": message, "traceback": trace, "time": timestamp()}
    try:
        write_json(run.directory / FAILURE, record)
    except OSError as refused:
        message += f" (and {FAILURE} could not be written: {refused.strerror})"
    code = error.exit_code if isinstance(error, RasaError) else RunFailed.exit_code
    return Outcome(run.about, run.directory, "failed", message, exit_code=code)


def _refused_by_the_system(error: OSError, directory: Path) -> ResourceError:
    """A full disk, a folder that may not be written, ...: by its file, with what to do."""
    from rasa.memory import is_full, no_room

    file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else directory
    if is_full(error):
        fault = ResourceError(no_room(file))
    else:
        fault = ResourceError(f"{file}: {error.strerror}; see to it, then the same command goes on")
    fault.__cause__ = error
    return fault


def finished(about: About, directory: Path, result: dict[str, Any]) -> Outcome:
    """The outcome that a result file records."""
    r1, seconds = result.get("test", {}).get("r1"), result.get("cost", {}).get("seconds")
    return Outcome(about, directory, "finished", "", r1, seconds)


def stopped(run: PlannedRun) -> Outcome:
    """The outcome of a run that was asked to stop."""
    assert run.directory is not None
    return Outcome(run.about, run.directory, "interrupted", "stopped; the same command goes on from here")


def not_reached(run: PlannedRun) -> Outcome:
    """The outcome of a run that was not started because the command was asked to stop: it is as it was."""
    assert run.directory is not None
    message = "not reached; the same command goes on from here"
    return Outcome(run.about, run.directory, run.state, message, reached=False)


def writable(workspace: Path) -> None:
    """Make the folder of all runs. Raises ResourceError if that, or a file in it, cannot be made."""
    probe = workspace / RUNS / f".probe-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"{workspace / RUNS}: {error.strerror}; give a writable --workspace") from error


def begin(run: PlannedRun, watch: Watch) -> Path:
    """Make the run's directory, so that it can be listed and delivered from now on; a stale result is set aside."""
    assert run.directory is not None
    old = _set_aside(run.directory) if run.state == "stale" else None
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        if not (run.directory / ABOUT).exists():
            write_json(run.directory / ABOUT, run.about.model_dump(mode="json"))
    except OSError as error:
        raise ResourceError(f"{run.directory}: {error.strerror}; give a writable --workspace") from error
    watch.started(run)
    if old is not None:
        watch.deliver(old)
    return run.directory


def _run_here(run: PlannedRun, watch: Watch, stop: Stop, train: Train | None) -> Outcome:
    directory, first = begin(run, watch), True

    def heard(group: str, step: int, values: dict[str, float]) -> None:
        nonlocal first
        watch.heard(run.about, group, step, values)
        if first or group == "val":
            watch.deliver(directory)
        first = False

    outcome = run_one(run, heard, _named(run, watch.say), lambda: stop.asked, train)
    watch.ended(outcome)
    if outcome.state != "running":
        watch.deliver(directory)
    return outcome


def _named(run: PlannedRun, say: Say) -> Say:
    return lambda line: say(f"{run.about.name}: {line}")


def _set_aside(directory: Path) -> Path | None:
    """Rename the directory of a stale run; None if another process has begun to run it again."""
    with Lock(directory / LOCK) as lock:
        if not lock.acquired or judge(directory)[0] != "stale":
            return None
        names = (directory.with_name(f"{directory.name}.stale-{number}") for number in count(1))
        return directory.rename(next(name for name in names if not name.exists()))


def _trained(
    run: PlannedRun,
    directory: Path,
    heard: Heard,
    say: Say,
    should_stop: Callable[[], bool],
    train: Train | None,
    threads: int | None,
) -> dict[str, Any]:
    """Run the trainer and return what `result.json` is to hold."""
    _prepare(run, directory)
    metrics = MetricsLog(directory, say)

    def log(group: str, step: int, values: dict[str, float]) -> None:
        if metrics.append(group, step, values):
            heard(group, step, values)

    work = _work(run.about, train)
    optimisation = run.config.optimisation.model_copy(update={"threads": run.config.optimisation.threads or threads})
    result = work(
        run.config.model_copy(update={"optimisation": optimisation}),
        directory,
        log=log,
        should_stop=should_stop,
        resume_from_step=metrics.resume_from,
        cache=workspace_of(directory) / DATA,
        say=say,
    )
    began = read_json(directory / ENVIRONMENT) or {}
    about = run.about
    digests = {
        "data": about.data_digest,
        "weights": about.weights_digest,
        "row": about.row_digest,
        "code": code_digest(began.get("code", {})),
    }
    who = {"run_id": about.run_id, "suite": about.suite, "row": about.row, "profile": about.profile, "seed": about.seed}
    times = {"started": began.get("started"), "finished": timestamp()}
    return who | result | {"digests": {**result.get("digests", {}), **digests}} | times


def _work(about: About, train: Train | None) -> Train:
    """What is executed: the trainer, or for a start the evaluation of its weights."""
    if about.untrained:
        from rasa.evaluation.checkpoint import evaluate_start

        return evaluate_start
    if train is None:
        from rasa.training.train import train as the_trainer

        return the_trainer
    return train


def _prepare(run: PlannedRun, directory: Path) -> None:
    write_text(directory / SPEC, dump(run.config.model_dump(mode="json")))
    (directory / FAILURE).unlink(missing_ok=True)
    # A resumed run keeps the record of the code that it began with: a change in between leaves the result stale.
    if not _begun(directory):
        write_json(
            directory / ENVIRONMENT, environment() | {"started": timestamp(), "workspace": str(workspace_of(directory))}
        )


def _begun(directory: Path) -> bool:
    return any((directory / "checkpoints").glob("step-*"))


def _settled(run: PlannedRun, rerun_stale: bool) -> Outcome | None:
    """The outcome of a run that need not be executed."""
    if run.directory is None or (run.state != "finished" and (run.state != "stale" or rerun_stale)):
        return None
    outcome = finished(run.about, run.directory, read_result(run.directory / RESULT) or {})
    return outcome._replace(state=run.state, message=run.reason)
