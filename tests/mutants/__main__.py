"""`make mutants`: each mistake is made in a copy of the tree, where the tests named beside it must then fail.

    python -m tests.mutants                   all of them, and first the same tests without a mistake
    python -m tests.mutants train pretrain    those whose file or name holds one of the words
    python -m tests.mutants --list            what there is

A survivor, an old text that no longer stands once in its file, or a mistake that breaks more than a test's assertion
(pytest's exit code is not 1) makes the exit code 1. Each mistake's tests run in a process of their own, forked from one
that has imported the libraries but nothing of this project (so not on Windows).
"""

import argparse
import compileall
import os
import py_compile
import shutil
import sys
import tempfile
import time
import traceback
from importlib.metadata import entry_points
from pathlib import Path

from _pytest.config import default_plugins

from tests.mutants.listed import MUTANTS
from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
CRASHED = 99
COPIED = (
    "rasa",
    "experiments",
    "studies",
    "reports",
    "benchmarks",
    "tests",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
)
LIBRARIES = (
    "torch",
    "torch._dynamo",
    "timm.models.vision_transformer",
    "tokenizers",
    "safetensors.torch",
    "PIL.Image",
    "transformers.models.distilbert.modeling_distilbert",
    "pydantic",
    "scipy.stats",
    "ruamel.yaml",
    "rich.console",
    "click",
    "pytest",
    *(f"_pytest.{name}" for name in default_plugins),
)
# Compiled files are known by their source's hash: one of the same second and size would hide a mistake.
COMPILED = py_compile.PycInvalidationMode.CHECKED_HASH


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.mutants", description="Does the suite notice mistakes?")
    arguments.add_argument("words", nargs="*", help="only mistakes whose file or name holds one of these words")
    arguments.add_argument("--list", action="store_true", help="print them and stop")
    arguments.add_argument("--no-baseline", action="store_true", help="trust that the tests pass without a mistake")
    given = arguments.parse_args()
    chosen = [m for m in MUTANTS if not given.words or any(word in f"{m.file} {m.name}" for word in given.words)]
    if given.list or not chosen:
        print("\n".join(f"{m.file}: {m.name}  [{' '.join(m.tests)}]" for m in chosen) or "no mistake of that name")
        return 0 if chosen else 2
    if lost := [problem for m in chosen if (problem := m.problem(ROOT))]:
        print("\n".join(lost))
        return 1
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models; more threads only wait for each other
    for library in LIBRARIES:
        __import__(library)
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    sys.dont_write_bytecode = True
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copied(Path(folder))
        if not given.no_baseline and not passes(copy, sorted({test for m in chosen for test in m.tests})):
            return 1
        unnoticed = [m for m in chosen if not noticed(copy, m)]
    minutes = (time.monotonic() - started) / 60
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} mistakes noticed, {minutes:.1f} minutes")
    for mutant in unnoticed:
        print(f"  {mutant.file}: {mutant.name}")
    return 1 if unnoticed else 0


def copied(folder: Path) -> Path:
    """The tree as it is, compiled anew."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, folder / name)
    compileall.compile_dir(folder, quiet=1, invalidation_mode=COMPILED)
    return folder


def passes(copy: Path, tests: list[str]) -> bool:
    """Whether the tests pass without a mistake, which they must if their failure is to say anything."""
    code, seconds, said = run(copy, tests)
    print(f"without a mistake: {said[-1]} ({seconds:.0f} s)", flush=True)
    if code:
        print("\n".join(said))
    return code == 0


def noticed(copy: Path, mutant: Mutant) -> bool:
    """Make the mistake, run its tests, take it back."""
    file = copy / mutant.file
    before = file.read_text()
    file.write_text(mutant.applied(before))
    try:
        code, seconds, said = run(copy, list(mutant.tests))
    finally:
        file.write_text(before)
    by = next((line.removeprefix("FAILED ").split(" - ")[0] for line in said if line.startswith("FAILED ")), "")
    verdict = {0: "SURVIVED", 1: "noticed by"}.get(code, f"BROKEN ({code})")
    print(f"{verdict:10} {by or said[-1]}  <-  {mutant.file}: {mutant.name} ({seconds:.0f} s)", flush=True)
    return code == 1


def run(copy: Path, tests: list[str]) -> tuple[int, float, list[str]]:
    """(pytest's exit code, seconds, the lines it printed), in a process forked for it."""
    output = copy / "pytest.out"
    started = time.monotonic()
    child = os.fork()
    if not child:
        code = CRASHED
        try:
            code = in_child(copy, tests, output)
        except BaseException:  # noqa: BLE001  # whatever it is, this process must not go on as its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # nothing of the parent's is cleaned up here
    _, status = os.waitpid(child, 0)
    lines = output.read_text(errors="replace").splitlines() or ["nothing said"]
    return os.waitstatus_to_exitcode(status), time.monotonic() - started, lines


def in_child(copy: Path, tests: list[str], output: Path) -> int:
    """Pytest's exit code, of the copy's tests and modules alone."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    sys.path[:] = [str(copy), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "rasa")]:
        del sys.modules[name]
    import pytest

    # A library that brings a plugin of pytest's is here already, which is no fault of the tests.
    already = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    code = pytest.main(
        ["-x", "-q", "-n", "0", "--tb=line", "--assert=plain", "-p", "no:cacheprovider", *already, *tests]
    )
    ours = getattr(sys.modules.get("rasa"), "__file__", None)
    if ours is not None and not Path(ours).is_relative_to(copy.resolve()):
        print(f"{ours} was tested, not the copy")
        return CRASHED
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
