"""One run, in this process and in its own directory: begun, trained, recorded, whatever happens to it."""

import errno
import os
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from experiments.adopt import COPIED_FROM, copied
from experiments.clean import drop_checkpoints
from experiments.environment import changes, code_digest, environment
from experiments.model_card import write_card
from experiments.outcome import Callbacks, Died, OnMetrics, Outcome, Train, finished, stopped
from experiments.plan import DATA, PlannedRun, state_of
from experiments.rundir import (
    ABOUT,
    CHANGES,
    ENVIRONMENT,
    FAILURE,
    LOCK,
    RESULT,
    SPEC,
    About,
    MetricsLog,
    note_attempt,
    read_json,
    read_result,
    timestamp,
    workspace_of,
    write_bytes,
    write_json,
    write_text,
)
from experiments.sameness import weights_digest
from experiments.yaml_io import dump
from rasa.callbacks import Notify
from rasa.errors import OutOfMemory, RasaError, ResourceError, RunFailed
from rasa.lock import Lock


def begin(run: PlannedRun, callbacks: Callbacks) -> Path:
    """Make the run's directory, so that it can be listed and delivered from now on; a stale result is set aside."""
    old = prepare(run)
    assert run.directory is not None
    callbacks.on_start(run)
    if old is not None:
        callbacks.deliver(old)
    return run.directory


def prepare(run: PlannedRun) -> Path | None:
    """Make the run's directory; the stale one that was set aside for it, if there was one. Raises ResourceError."""
    assert run.directory is not None
    old = _set_aside(run.directory) if run.state == "stale" else None
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        if not (run.directory / ABOUT).exists():
            write_json(run.directory / ABOUT, run.about.model_dump(mode="json"))
    except OSError as error:
        raise ResourceError(f"{run.directory}: {error.strerror}; give a writable --workspace") from error
    return old


def run_one(
    run: PlannedRun,
    on_metrics: OnMetrics,
    notify: Notify,
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
                notify(f"copied from {result[COPIED_FROM]}, which is the same run")
                write_json(run.directory / RESULT, result)
                _describe(run.directory, result, notify)
                return finished(run.about, run.directory, result)
            result = _trained(run, run.directory, on_metrics, notify, should_stop, train, threads)
            write_json(run.directory / RESULT, result)
            _describe(run.directory, result, notify)
            if not run.keep_checkpoints:
                drop_checkpoints(run.directory)
        except KeyboardInterrupt:
            return stopped(run)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is recorded and the other runs go on
            return failed(run, error)
        return finished(run.about, run.directory, read_result(run.directory / RESULT) or {})


def failed(run: PlannedRun, error: BaseException) -> Outcome:
    """Record a failure in the run's directory, as well as the disk allows: the last one, and one attempt more."""
    assert run.directory is not None
    died = _killed(error)
    if isinstance(error, OSError) and error.errno is not None:  # the machine's fault, not the program's
        error = _refused_by_the_system(error, run.directory)
    message = str(error) if isinstance(error, RasaError) else f"{type(error).__name__}: {error}"
    message = " ".join(message.split())
    trace = "".join(traceback.format_exception(error))
    record = {"type": type(error).__name__, "message": message, "traceback": trace, "time": timestamp()}
    try:
        write_json(run.directory / FAILURE, record)
        note_attempt(run.directory, record)
    except OSError as refused:
        message += f" (and {FAILURE} could not be written: {refused.strerror})"
    code = error.exit_code if isinstance(error, RasaError) else RunFailed.exit_code
    starved = isinstance(error, OutOfMemory | MemoryError)
    return Outcome(run.about, run.directory, "failed", message, exit_code=code, out_of_memory=starved, died=died)


def _killed(error: BaseException) -> bool:
    """Whether the process, or one that it had started, was killed or had no memory: nothing that the run itself did."""
    if isinstance(error, Died | OutOfMemory | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")  # as torch says it


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


def _set_aside(directory: Path) -> Path | None:
    """Rename the directory of a stale run; None if another process has begun to run it again."""
    with Lock(directory / LOCK) as lock:
        if not lock.acquired or state_of(directory)[0] != "stale":
            return None
        names = (directory.with_name(f"{directory.name}.stale-{number}") for number in count(1))
        return directory.rename(next(name for name in names if not name.exists()))


def _trained(
    run: PlannedRun,
    directory: Path,
    on_metrics: OnMetrics,
    notify: Notify,
    should_stop: Callable[[], bool],
    train: Train | None,
    threads: int | None,
) -> dict[str, Any]:
    """Run the trainer and return what `result.json` is to hold."""
    _prepare(run, directory, threads)
    metrics = MetricsLog(directory, notify)

    def log(group: str, step: int, values: dict[str, float]) -> None:
        if metrics.append(group, step, values):
            on_metrics(group, step, values)

    work = _work(run.about, train)
    optimisation = run.config.optimisation.model_copy(update={"threads": run.config.optimisation.threads or threads})
    result = work(
        run.config.model_copy(update={"optimisation": optimisation}),
        directory,
        log=log,
        should_stop=should_stop,
        resume_from_step=metrics.resume_from,
        cache=workspace_of(directory) / DATA,
        notify=notify,
    )
    began = read_json(directory / ENVIRONMENT) or {}
    about = run.about
    digests = {
        "data": about.data_digest,
        "weights": about.weights_digest,
        "row": about.row_digest,
        "code": code_digest(began.get("code", {})),
    }
    if selected := weights_digest(directory):
        digests["selected"] = selected
    who = {"run_id": about.run_id, "suite": about.suite, "row": about.row, "profile": about.profile, "seed": about.seed}
    times = {"started": began.get("started"), "finished": timestamp()}
    return who | result | {"digests": {**result.get("digests", {}), **digests}} | times


def _describe(directory: Path, result: dict[str, Any], notify: Notify) -> None:
    """The card beside its weights. The run has finished: a fault of the card is told, and is none of the run."""
    try:
        write_card(directory, result)
    except Exception as error:  # noqa: BLE001  # also what a result of another trainer lacks
        notify(f"its model card could not be written ({type(error).__name__}: {' '.join(str(error).split())[:200]})")


def _work(about: About, train: Train | None) -> Train:
    """What is executed: the trainer, or for a start the evaluation of its weights."""
    if about.untrained:
        from rasa.evaluation.checkpoint import evaluate_start

        return evaluate_start
    if train is None:
        from rasa.training.train import train as the_trainer

        return the_trainer
    return train


def _prepare(run: PlannedRun, directory: Path, threads: int | None) -> None:
    write_text(directory / SPEC, dump(run.config.model_dump(mode="json")))
    (directory / FAILURE).unlink(missing_ok=True)
    # A resumed run keeps the record of the code that it began with: a change in between leaves the result stale.
    if not _begun(directory):
        (directory / CHANGES).unlink(missing_ok=True)
        if patch := changes().patch:
            write_bytes(directory / CHANGES, patch)
        began = {"started": timestamp(), "workspace": str(workspace_of(directory))}
        write_json(directory / ENVIRONMENT, environment(run.config.optimisation.threads or threads) | began)


def _begun(directory: Path) -> bool:
    return any((directory / "checkpoints").glob("step-*"))
