"""What runs need before they begin: their data, what their configs name, a folder to write to."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.plan import DATA, located, not_built
from experiments.rundir import RUNS
from rasa.callbacks import Notify
from rasa.config.run import Config
from rasa.errors import ResourceError
from rasa.lock import check_locks


def ensure_data(configs: Sequence[Config], workspace: Path, notify: Notify) -> None:
    """Build the built-in benchmarks that these configs need and that are not there. Raises ResourceError."""
    for config in configs:
        for params in not_built(located(config, workspace)):
            from rasa.data.load import ensure_builtin

            notify(f"building the built-in benchmark in {workspace / DATA}")
            try:
                (workspace / DATA).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ResourceError(f"{workspace / DATA}: {error.strerror}; give a writable --workspace") from error
            ensure_builtin(params, workspace / DATA, _tenths(notify))


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


def _tenths(notify: Notify) -> Callable[[int, int], None]:
    """Tell of progress at every tenth."""
    shown = 0

    def tell(done: int, total: int) -> None:
        nonlocal shown
        if total and done * 10 // total > shown:
            shown = done * 10 // total
            notify(f"{done} of {total} images")

    return tell


def writable(workspace: Path) -> None:
    """Make the folder of all runs. Raises ResourceError if that, or a file in it, cannot be made, or not be locked."""
    probe = workspace / RUNS / f".probe-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        check_locks(probe.parent)
    except OSError as error:
        raise ResourceError(f"{workspace / RUNS}: {error.strerror}; give a writable --workspace") from error
