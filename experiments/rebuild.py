"""Run by `rasa reproduce` inside the sources that a run was made with: `python -P rebuild.py RUN WORKSPACE OPTIONS`.

It trains the run's own spec again, under the run's own id, in a workspace of its own. PYTHONPATH names those sources,
which may be older than this file: so it asks little of them, and imports nothing that it does not need. OPTIONS is
JSON: `threads`, `processes`, and `places`, which says where on this machine data and weights lie, by their fields. On
stdout: the new run's directory as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

BUILT_IN = "synthetic"


def main(run: Path, workspace: Path, options: dict[str, Any]) -> int:
    """Train, and say where the run lies; the exit code of a command."""
    from experiments.outcome import Callbacks
    from experiments.plan import data_reader, inputs_of, located, placed
    from experiments.resources import ensure_data
    from experiments.rundir import read_about, read_config
    from experiments.runner import execute
    from experiments.spec import identity_of, short_digest
    from rasa.errors import RasaError

    try:
        about, config = read_about(run), read_config(run)
        values = _placed_here(config.model_dump(mode="json"), about, options["places"])
        values["optimisation"]["threads"] = options["threads"] or values["optimisation"]["threads"]
        config = type(config).model_validate_json(json.dumps(values))
        ensure_data([config], workspace, _say)
        config = located(config, workspace)
        data, weights = inputs_of(config, data_reader())
        identity = identity_of(config)
        identity = {name: identity[name] for name in about.identity}  # of a start it is only what decides how it ranks
        if (found := short_digest([identity, data.digest, weights])) != about.run_id:
            pairs = ("data", about.data_digest, data.digest), ("initial weights", about.weights_digest, weights)
            causes = [
                f"{name}: recorded {old or 'none'}, here {new or 'none'}" for name, old, new in pairs if old != new
            ]
            return _refused(
                f"comes to the run id {found}: {'; '.join(causes) or 'the config means something else here'}"
            )
        roots = {"data_root": str(config.data.root or "")}
        if config.data.target is not None:
            roots["target_root"] = str(config.data.target.root or "")
        planned = placed(about.model_copy(update=roots), config, workspace, None)
        callbacks = Callbacks(lambda run: None, _told, lambda outcome: None, _say, lambda folder: None)
        (outcome,) = execute([planned], workspace, callbacks=callbacks, train=_trainer(options["processes"]))
    except RasaError as fault:
        return _refused(str(fault), fault.exit_code)
    if outcome.state != "finished":
        return _refused(f"{outcome.state}: {outcome.message}")
    print(json.dumps({"directory": str(outcome.directory)}))
    return 0


def _placed_here(values: dict[str, Any], about: Any, places: dict[str, str]) -> dict[str, Any]:
    """The config's paths as they are on this machine: given ones, what ships from these sources, the rest unchanged."""
    if about.data_name == BUILT_IN:
        values["data"]["root"] = None  # it is built again by these sources
    if about.target_root and about.target_name == BUILT_IN:
        values["data"]["target"]["root"] = None
    for section, name in (("model", "weights"), ("data", "tokenizer"), ("objectives", "masked_lm")):
        values[section][name] = _shipped(values[section].get(name))
    for field, place in places.items():
        *sections, name = field.split(".")
        part = values
        for section in sections:
            part = part[section]
        part[name] = place
    return values


def _shipped(path: str | None) -> str | None:
    """Of a path into a copy of this package the same file of these sources, if they have it."""
    import rasa

    parts = Path(path or "").parts
    for number in range(len(parts) - 1, 0, -1):
        if parts[number - 1] == "rasa" and (own := Path(rasa.__file__).parent.joinpath(*parts[number:])).exists():
            return str(own)
    return path


def _trainer(processes: int) -> Any:
    if processes < 2:
        return None
    from experiments.devices import Spread

    return Spread(processes)


def _told(about: Any, group: str, step: int, values: dict[str, float]) -> None:
    if group == "val" and "r1" in values:
        _say(f"epoch {values.get('epoch', 0):g}: val R@1 {values['r1']:.2f}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _refused(why: str, code: int = 1) -> int:
    print(json.dumps({"refused": why}))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])))
