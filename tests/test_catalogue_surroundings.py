"""FAULT 27 by the real thing: a bare environment, no network, odd paths.

Whole interpreters, started as a shell would.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.one_row import write_suite
from tests.helpers.people import write_people

pytestmark = pytest.mark.timeout(900)  # whole runs, on machines that may be busy

SMALL = {"epochs": 1, "checkpoint_steps": None, "max_steps_per_epoch": 2}


def bare(words, folder, **environment):
    """The words in an environment without HOME, in a network of its own without an interface if that may be made."""
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        alone = []
    done = subprocess.run(
        [*alone, *words],
        cwd=folder,
        env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        check=False,
    )
    return done, bool(alone)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"LC_ALL": "none", "LANG": "de_DE.ISO-8859-1"}, marks=pytest.mark.slow),
        pytest.param({"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, marks=pytest.mark.slow),
    ],
    ids=["ASCII", "a locale that there is not", "a notebook's"],
)
def test_run_and_report_with_no_home_no_network_no_locale_in_a_path_with_spaces_and_letters(tmp_path, environment):
    folder = tmp_path / "a wörk späce – 実験" / "it's"
    folder.mkdir(parents=True)
    people = write_people(folder / "péople", train=6, val=3, test=3)
    suite = write_suite(folder, people, {"cl": 0.5}, None, **SMALL)
    rasa, options = str(Path(sys.executable).with_name("rasa")), ["-o", f"data.root={people}"]
    for command, said in ((["run", str(suite), *options], b"finished"), (["report", str(suite), *options], b"r1")):
        done, alone = bare([rasa, *command], folder, **environment)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert b"Traceback" not in done.stderr and said in done.stdout.replace(b"R@1", b"r1")
        assert alone or os.geteuid(), "root can take the network away"
    made = {path.name for path in Path(folder).rglob("*") if path.is_file()}
    assert {"mlflow.db", "result.json", "report.html", "table.csv"} <= made
