"""`rasa reproduce`: a run's code put together again from its commit, trained again there, and the bits compared."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from experiments import rebuild
from experiments.environment import checkout, environment
from experiments.machine import NUMBERS, normalised
from experiments.rundir import CHANGES, ENVIRONMENT, RESTORED, RESULT, read_about, read_json, read_result
from experiments.sameness import Part, compare
from rasa.callbacks import Notify
from rasa.errors import ResourceError, RunFailed

SOURCES, WORKSPACE = "sources", "workspace"  # in the place of a reproduction
MACHINE = ("python", "platform", "cpu", "cpu_capability", "cuda", "driver", "gpus")
PLACES = ("data.root", "data.target.root", "data.tokenizer", "model.weights", "objectives.masked_lm")
SHOWN = 3  # files or packages that a line names
HOOKLESS = ("-c", f"core.hooksPath={os.devnull}", "-c", "advice.detachedHead=false")


class Reproduced(NamedTuple):
    """What came of it. `differs`: in which packages, and in what of the machine, this place is not the recorded one."""

    run_id: str
    parts: list[Part]
    differs: dict[str, tuple[Any, Any]]
    place: Path | None  # where sources and run lie, if they were kept

    @property
    def equal(self) -> bool:
        """Whether all that could be compared is the same bit for bit."""
        return all(part.equal is not False for part in self.parts)


def reproduce(
    directory: Path,
    repository: Path | None,
    places: Mapping[str, str],
    keep: bool,
    trust: bool,
    notify: Notify,
) -> Reproduced:
    """Rebuild and train the finished run in `directory` from `repository`'s commits; None: the checkout of this code.

    `places` says where data and weights lie on this machine, by their fields. The patch of a run that came from
    elsewhere is run only with `trust`. Raises ResourceError if the code cannot be put together as it was, RunFailed if
    the run cannot be trained.
    """
    directory = directory.absolute()
    about, began = read_about(directory), read_json(directory / ENVIRONMENT) or {}
    result = read_result(directory / RESULT)
    if result is None:
        raise ResourceError(f"{directory}: not finished, so there is nothing to compare; `rasa run` finishes it")
    if (directory / RESTORED).exists() and (directory / CHANGES).exists() and not trust:
        raise ResourceError(
            f"{directory / CHANGES}: code from a published report or a bundle, which would be run here; read it, and "
            "give --trust"
        )
    repository = repository or checkout()
    if repository is None:
        raise ResourceError("this is an installed package and no checkout; give the clone with --repository DIR")
    commit = str(began.get("git_commit") or "")
    if not commit:
        raise ResourceError(f"{directory / ENVIRONMENT}: names no commit: the run was made by an installed package")
    place = Path(tempfile.mkdtemp(prefix="rasa-reproduce-"))
    try:
        with _sources(repository, commit, place / SOURCES, keep) as sources:
            _apply(directory, sources)
            _check(directory, began, sources)
            notify(f"{about.name}: sources of {commit[:10]} are as recorded; training again")
            numerics = result.get("numerics", {})
            options = {
                "threads": began.get("threads"),
                "processes": int(numerics.get("processes") or 1),
                "places": dict(places),
            }
            again = _train(directory, sources, place / WORKSPACE, options, began.get("variables"))
            parts = compare(directory, again)
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    return Reproduced(about.run_id, parts, dict(_differs(began)), place if keep else None)


@contextmanager
def _sources(repository: Path, commit: str, folder: Path, keep: bool) -> Iterator[Path]:
    """A worktree of the commit, removed at the end unless it is kept."""
    if _git(repository, "rev-parse", "--show-toplevel").returncode:
        raise ResourceError(f"--repository {repository}: no git clone, or git is missing")
    if _git(repository, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise ResourceError(f"{repository}: lacks the commit {commit}; `git fetch` the branch that has it")
    done = _git(repository, *HOOKLESS, "worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        if done.returncode:
            raise ResourceError(f"{repository}: no worktree of {commit[:10]} can be made ({_line(done.stderr)})")
        yield folder
    finally:
        if not keep:
            _git(repository, "worktree", "remove", "--force", str(folder))
            shutil.rmtree(folder, ignore_errors=True)
            _git(repository, "worktree", "prune")


def _apply(directory: Path, sources: Path) -> None:
    patch = directory / CHANGES
    if not patch.exists():
        return
    done = _git(sources, "apply", "--whitespace=nowarn", str(patch))
    if done.returncode:
        raise ResourceError(f"{patch}: does not apply to its commit ({_line(done.stderr)}); the record is damaged")


def _check(directory: Path, began: Mapping[str, Any], sources: Path) -> None:
    """Refuse sources of which a file of the method is not as the run recorded it."""
    recorded = began.get("code")
    if not isinstance(recorded, dict) or not recorded:
        raise ResourceError(f"{directory / ENVIRONMENT}: has no digests of the code, so it cannot be checked")
    wrong = [name for name, digest in sorted(recorded.items()) if _sha256(sources / name) != digest]
    if not wrong:
        return
    left_out = (began.get("changes") or {}).get("left_out", {})
    named = ", ".join(f"{name}{f' ({left_out[name]})' if name in left_out else ''}" for name in wrong[:SHOWN])
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    why = "its changes were not kept" if not (directory / CHANGES).exists() else f"{CHANGES} does not have all of them"
    raise ResourceError(f"{directory}: the code cannot be put together as it was: {named}{more} differ; {why}")


def _train(
    directory: Path, sources: Path, workspace: Path, options: Mapping[str, Any], variables: Mapping[str, str] | None
) -> Path:
    """Train in a process of its own that has these sources; the new run's directory."""
    workspace.mkdir()
    command = [sys.executable, "-P", rebuild.__file__, str(directory), str(workspace), json.dumps(options)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", cwd=workspace, env=_variables(sources, variables)
    )
    try:
        out, _ = process.communicate()
    except BaseException:  # Ctrl-C reaches both; what is left of it must not outlive its folder
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    said = _said(out)
    if process.returncode or "directory" not in said:
        why = said.get("refused") or f"its process ended with {process.returncode}"
        fault = RunFailed(f"{directory}: cannot be trained again: {why}")
        fault.exit_code = process.returncode if process.returncode in (1, 3, 5) else RunFailed.exit_code
        raise fault
    return Path(said["directory"])


def _variables(sources: Path, recorded: Mapping[str, str] | None) -> dict[str, str]:
    """This process's variables; those that change numbers as they were. A record that names none leaves them alone."""
    own = dict(os.environ)
    if recorded is not None:
        own = {name: value for name, value in own.items() if name not in NUMBERS}
        own |= {name: value for name, value in recorded.items() if name in NUMBERS}
    return own | {"PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1"}


def _said(out: str) -> dict[str, Any]:
    lines = out.strip().splitlines()
    try:
        value = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _differs(began: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What of the machine and the packages is another than recorded; what the record does not say is not asked."""
    now = environment()
    for name in MACHINE:
        if name in began and began[name] != now[name]:
            yield name, (began[name], now[name])
    for name, version in began.get("packages", {}).items():
        own = normalised(name)
        if version is not None and own != "rasa-ablations" and now["packages"].get(own) != version:
            yield f"packages.{own}", (version, now["packages"].get(own))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(folder), *arguments]
    # Of a hook or an alias that has called this: they would mean another repository.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", env=own, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
