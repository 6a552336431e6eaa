"""`rasa reproduce`: what counts as the same bits, what is refused, and (slow) a changed checkout rebuilt elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from experiments import reproduce as reproducing
from experiments.environment import code_hashes
from experiments.machine import NUMBERS
from experiments.reproduce import _differs, _variables, reproduce
from experiments.reproduce_command import reproduce as command
from experiments.rundir import (
    CHANGES,
    ENVIRONMENT,
    METRICS,
    PREDICTIONS,
    RESTORED,
    RESULT,
    find_runs,
    read_json,
    write_json,
)
from experiments.sameness import KEY, compare, weights_digest
from rasa.errors import ResourceError
from rasa.weights.folder import save_checkpoint
from reports.commands import restore
from tests.test_publish import invoke, place  # noqa: F401  # place: a workspace of nine runs and a start

ROOT = Path(__file__).parent.parent


@pytest.fixture
def pair(place, tmp_path):  # noqa: F811
    """A run and one that is the same bit for bit, with selected weights, but for its times."""
    (run,) = (place / "ws").glob("runs/tiny/itm/synth/seed-1-*")
    recorded = Path(shutil.copytree(run, tmp_path / "ws/runs/tiny/itm/synth" / run.name))
    weights = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    save_checkpoint(recorded / "selected/epoch-0002", weights, {})
    rebuilt = Path(shutil.copytree(recorded, tmp_path / "again/runs/tiny/itm/synth" / run.name))
    result = read_json(rebuilt / RESULT)
    write_json(rebuilt / RESULT, result | {"finished": "later", "cost": {"seconds": 99.0}})
    return recorded, rebuilt


def parts(pair):
    return {part.name: part for part in compare(*pair)}


def test_the_same_bits_are_equal_whatever_the_times(pair):
    found = parts(pair)
    assert all(part.equal for part in found.values()) and [*found] == ["result", "metrics", "predictions", "weights"]
    assert found["predictions"].text == "48 queries, 5 arrays"
    assert found["metrics"].text == "31 figures"  # 20 losses, 2 validations with their epoch, 7 of the test


def test_a_figure_that_differs_is_named_with_how_much(pair):
    """r1 20 + 9 at step 10 becomes 29.5: by 0.5, relative 0.5 / 29; the loss of step 3 is 1/4 and its next number."""
    path = pair[1] / METRICS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if (line["group"], line["step"]) == ("val", 10):
            line["values"]["r1"] += 0.5
        if (line["group"], line["step"]) == ("train", 3):
            line["values"]["loss"] = float(np.nextafter(0.25, 1))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = parts(pair)["metrics"]
    assert found.equal is False
    assert found.text == (
        "2 of 31 figures differ, first train/loss at step 3: 0.25 -> 0.25000000000000006; "
        "at most by 0.5 (relative 1.7e-02), val/r1 at step 10: 29.0 -> 29.5"
    )


def test_a_figure_that_one_of_them_lacks_differs(pair):
    result = read_json(pair[1] / RESULT)
    del result["test"]["map"]
    write_json(pair[1] / RESULT, result)
    found = parts(pair)["result"]
    assert (
        found.equal is False
        and found.text.startswith("1 of ")
        and "test.map: " in found.text
        and "-> None" in found.text
    )


def test_one_query_s_rank_differs(pair):
    arrays = load_file(pair[1] / PREDICTIONS)
    query = int(np.argmax(arrays["first_rank"] == 1))
    arrays["first_rank"][query], arrays["average_precision"][query] = 2, arrays["average_precision"][query] - 0.25
    save_file(arrays, pair[1] / PREDICTIONS)
    found = parts(pair)["predictions"]
    assert found.equal is False
    assert found.text == (
        "average_precision, first_rank differ; 1 of 48 queries have another rank, 1 at R@1; "
        "average precisions by at most 0.25"
    )


def test_one_weight_differs(pair):
    """0.25 beside a largest value of 3 in that tensor: relative 8.3e-02."""
    save_checkpoint(pair[1] / "selected/epoch-0002", {"a": torch.tensor([0.0, 1, 2.25, 3]), "b": torch.ones(2, 2)}, {})
    found = parts(pair)["weights"]
    assert found.equal is False
    assert found.text == "1 of 2 tensors differ, at most by 0.25 (relative 8.3e-02 of the largest in a)"


def test_weights_that_are_gone_are_compared_by_the_digest_that_the_result_noted(pair):
    result = read_json(pair[0] / RESULT)
    digest = weights_digest(pair[0])
    write_json(pair[0] / RESULT, result | {"digests": {KEY: digest}})
    shutil.rmtree(pair[0] / "selected")
    assert parts(pair)["weights"].equal is True
    write_json(pair[0] / RESULT, result | {"digests": {KEY: "0" * 64}})
    assert parts(pair)["weights"].equal is False
    write_json(pair[0] / RESULT, result)
    assert parts(pair)["weights"].equal is None
    (pair[0] / PREDICTIONS).unlink()
    assert parts(pair)["predictions"].equal is None


def test_a_run_from_a_published_report_is_compared_in_what_that_keeps(pair, place, tmp_path):  # noqa: F811
    """Means over windows, and average precisions in thousandths: another run of the same bits is equal in those."""
    invoke(restore, place / "out", "--workspace", tmp_path / "restored")
    (recorded,) = (tmp_path / "restored").glob("runs/tiny/itm/synth/seed-1-*")
    found = {part.name: part for part in compare(recorded, pair[1])}
    assert [part.equal for part in found.values()] == [True, True, True, None]
    arrays = load_file(pair[1] / PREDICTIONS)
    arrays["first_rank"][5] += 1
    save_file(arrays, pair[1] / PREDICTIONS)
    assert [part.equal for part in compare(recorded, pair[1])] == [True, True, False, None]


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository whose commit has one file of the method, and no more."""
    root = tmp_path / "repository"
    (root / "rasa").mkdir(parents=True)
    (root / "rasa/draws.py").write_bytes((ROOT / "rasa/draws.py").read_bytes())
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def record(directory, **values):
    began = read_json(directory / ENVIRONMENT) | {"code": {"rasa/draws.py": code_hashes()["rasa/draws.py"]}}
    began.pop("changes", None)
    (directory / CHANGES).unlink(missing_ok=True)
    write_json(directory / ENVIRONMENT, began | values)


NEW = (
    b"diff --git a/rasa/new.py b/rasa/new.py\nnew file mode 100644\n"
    b"--- /dev/null\n+++ b/rasa/new.py\n@@ -0,0 +1 @@\n+A = 1\n"
)
OUT = NEW.replace(b"rasa/new.py", b"../new.py")
NEW_SHA = "0" * 64  # of another content


@pytest.mark.parametrize(
    "values, patch, text",
    [
        ({"git_commit": None}, b"", "names no commit: the run was made by an installed package"),
        ({"git_commit": "0" * 40}, b"", "lacks the commit 000000"),
        ({"code": {}}, b"", "has no digests of the code"),
        ({"code": {"rasa/new.py": NEW_SHA}}, b"", "rasa/new.py differ; its changes were not kept"),
        ({"code": {"rasa/new.py": NEW_SHA}}, NEW, "rasa/new.py differ; changes.patch does not have all of them"),
        (
            {"code": {"rasa/b.py": "0"}, "changes": {"left_out": {"rasa/b.py": "larger than 1 MiB"}}},
            NEW,
            "rasa/b.py (larger than 1 MiB) differ",
        ),
        (
            {},
            b"diff --git a/rasa/gone.py b/rasa/gone.py\n--- a/rasa/gone.py\n+++ b/rasa/gone.py\n@@ -1 +1 @@\n-A\n+B\n",
            "does not apply to its commit",
        ),
        ({}, OUT, "does not apply to its commit"),
    ],
)
def test_code_that_cannot_be_put_together_is_refused_and_nothing_is_left(
    pair, repository, tmp_path, monkeypatch, values, patch, text
):
    monkeypatch.setattr(reproducing.tempfile, "mkdtemp", lambda prefix: str(make(tmp_path / "place")))
    record(pair[0], **{"git_commit": git(repository, "rev-parse", "HEAD"), **values})
    if patch:
        (pair[0] / CHANGES).write_bytes(patch)
    with pytest.raises(ResourceError) as raised:
        reproduce(pair[0], repository, {}, keep=False, trust=False, notify=print)
    assert text in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "place").exists() and not (tmp_path / "new.py").exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def make(folder):
    folder.mkdir()
    return folder


def test_sources_that_cannot_train_say_so_and_are_removed(pair, repository, tmp_path, monkeypatch):
    """The patched file is there and as recorded; but this package is one file, and the process ends."""
    monkeypatch.setattr(reproducing.tempfile, "mkdtemp", lambda prefix: str(make(tmp_path / "place")))
    record(pair[0], git_commit=git(repository, "rev-parse", "HEAD"))
    (pair[0] / CHANGES).write_bytes(NEW)
    (repository / "rasa/__init__.py").touch()
    (repository / "experiments").mkdir()
    (repository / "experiments/__init__.py").write_text("raise SystemExit(7)\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    record(pair[0], git_commit=git(repository, "rev-parse", "HEAD"))
    done = invoke(command, pair[0], "--repository", repository)
    assert "cannot be trained again: its process ended with 7" in str(done.exception) and done.exception.exit_code == 1
    assert not (tmp_path / "place").exists() and len(git(repository, "worktree", "list").splitlines()) == 1
    invoke(command, pair[0], "--repository", repository, "--keep")
    assert (tmp_path / "place/sources/rasa/draws.py").exists()


def test_code_from_elsewhere_needs_trust(pair, repository):
    record(pair[0], git_commit=git(repository, "rev-parse", "HEAD"))
    (pair[0] / CHANGES).write_bytes(NEW)
    (pair[0] / RESTORED).write_text("{}")
    fault = invoke(command, pair[0], "--repository", repository).exception
    assert isinstance(fault, ResourceError) and "read it, and give --trust" in str(fault)


def test_only_where_things_lie_can_be_another(pair):
    done = invoke(command, pair[0], "-o", "data.rot=/x")
    assert done.exit_code == 2 and "data.root" in done.output
    assert invoke(command, pair[0], "-o", "optimisation.epochs=1").exit_code == 2


def test_variables_that_change_numbers_are_the_recorded_ones(monkeypatch, tmp_path):
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    own = _variables(tmp_path, {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "0", "LD_PRELOAD": "evil.so"})
    assert {name: own[name] for name in NUMBERS if name in own} == {"OMP_NUM_THREADS": "3"}
    assert own["CUDA_VISIBLE_DEVICES"] == "1" and "LD_PRELOAD" not in own and own["PYTHONPATH"] == str(tmp_path)
    assert _variables(tmp_path, None)["MKL_NUM_THREADS"] == "7"  # a record of before names none


def test_another_machine_and_other_packages_are_said():
    began = {"python": "3.9.0", "cpu": "another", "packages": {"torch": "1.0", "Pillow": None, "gone-package": "1"}}
    assert {name: old for name, (old, _) in _differs(began)} == {
        "python": "3.9.0",
        "cpu": "another",
        "packages.torch": "1.0",
        "packages.gone-package": "1",
    }


EXTRA = '''

from rasa.training.extra import FACTOR

_committed = learning_rates


def learning_rates(*given):
    """Those of the commit, by a factor that an untracked file holds."""
    return tuple(FACTOR * rate for rate in _committed(*given))
'''


def rasa(clone, *arguments, cwd):
    """The command line as the code in `clone` has it."""
    variables = os.environ | {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}
    variables.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-P", "-m", "rasa", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    """Two clones of this code; in one of them a source is changed and another is new, and a smoke run is made there."""
    place = tmp_path_factory.mktemp("clones")  # noqa: F811
    names = git(
        ROOT,
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "rasa",
        "experiments",
        "reports",
        "studies",
        "setup.cfg",
        "pyproject.toml",
        ".gitignore",
    )
    for name in names.splitlines():
        if (ROOT / name).is_file():
            (place / "a" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / "a" / name)
    git(place / "a", "init", "-q")
    git(place / "a", "add", "-A")
    git(place / "a", "commit", "-qm", "as it is")
    git(place, "clone", "-q", "a", "b")
    with (place / "a/rasa/training/optimizer.py").open("a") as file:
        file.write(EXTRA)
    (place / "a/rasa/training/extra.py").write_text("FACTOR = 1.5\n")
    (place / "ws").mkdir()
    done = rasa(
        place / "a", "run", "table4/p-itm", "--profile", "smoke", "-o", "optimisation.epochs=1", cwd=place / "ws"
    )
    assert done.returncode == 0, done.stderr
    (run,) = [each for each in find_runs(place / "ws") if each.parts[-3] == "p-itm"]
    return place, run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_changed_checkout_is_rebuilt_on_another_clone_to_equal_bits(dirty):
    place, run = dirty  # noqa: F811
    began = read_json(run / ENVIRONMENT)
    assert began["git_dirty"] and began["changes"]["files"] == ["rasa/training/extra.py", "rasa/training/optimizer.py"]
    shutil.rmtree(place / "ws/data")  # all is made again
    (place / "elsewhere").mkdir()
    done = rasa(place / "b", "reproduce", run, "--json", cwd=place / "elsewhere")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["equal"] and found["differs"] == {} and run.name.endswith(found["run_id"])
    assert [(part["name"], part["equal"]) for part in found["parts"]] == [
        ("result", True),
        ("metrics", True),
        ("predictions", True),
        ("weights", True),
    ]
    assert len(git(place / "b", "worktree", "list").splitlines()) == 1
    assert git(place / "b", "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_other_code_comes_to_other_bits_and_says_by_how_much(dirty, tmp_path):
    """Without the changes, and a record that takes the commit's own files for those of the run: other rates."""
    place, run = dirty  # noqa: F811
    other = Path(shutil.copytree(run, tmp_path / "ws/runs/table4/p-itm/smoke" / run.name))
    (other / CHANGES).unlink()
    done = rasa(place / "b", "reproduce", other, cwd=tmp_path)
    assert done.returncode == 5 and "rasa/training/extra.py, rasa/training/optimizer.py differ" in done.stderr
    began = read_json(other / ENVIRONMENT)
    write_json(other / ENVIRONMENT, began | {"code": {"rasa/draws.py": began["code"]["rasa/draws.py"]}})
    done = rasa(place / "b", "reproduce", other, cwd=tmp_path)
    assert done.returncode == 1 and "not equal" in done.stderr, done.stdout + done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "DIFFERS" in lines["weights"] and "tensors differ, at most by" in lines["weights"]
    assert "DIFFERS" in lines["metrics"] and "at step 0: " in lines["metrics"]  # the rates from the first step on


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_bundle_of_a_changed_checkout_is_enough(dirty, tmp_path):
    place, run = dirty  # noqa: F811
    assert rasa(place / "b", "bundle", run, tmp_path / "run.zip", cwd=tmp_path).returncode == 0
    for arguments in (("verify", tmp_path / "run.zip"), ("restore", tmp_path / "run.zip")):
        done = rasa(place / "b", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    refused = rasa(place / "b", "reproduce", run.name[-12:], cwd=tmp_path)
    assert refused.returncode == 5 and "give --trust" in refused.stderr
    done = rasa(place / "b", "reproduce", run.name[-12:], "--trust", cwd=tmp_path)
    assert done.returncode == 0 and "reproduced, bit for bit" in done.stdout, done.stdout + done.stderr
    assert "weights      equal" in done.stdout  # by the digest in the bundle
