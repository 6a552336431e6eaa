"""What a run's records say of its code and its machine: packages, variables, the uncommitted changes as a patch."""

import importlib.metadata
import json
import re
import subprocess

import pytest

from experiments import environment, execution, machine
from experiments.machine import NUMBERS, installed_packages, normalised, variables
from experiments.records import files_of, read_record, read_run, write_run
from experiments.rundir import CHANGES, ENVIRONMENT, read_json
from experiments.runner import execute
from experiments.store import default_uri
from experiments.uncommitted import SECRET, TOO_LARGE, TOO_MUCH, Changes, uncommitted
from experiments.uploader import sync
from reports.compare import _others
from tests.helpers.people import write_people
from tests.test_publish import draws
from tests.test_runner import planned


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path):
    """A committed tree: two sources, one binary file, ignored runs."""
    root = tmp_path / "checkout"
    (root / "rasa").mkdir(parents=True)
    (root / "rasa/a.py").write_text("A = 1\n")
    (root / "rasa/b.py").write_text("B = 1\n")
    (root / "rasa/weights.bin").write_bytes(bytes(range(256)))
    (root / ".gitignore").write_text("/runs/\n*.pyc\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def rebuilt(checkout, changes, tmp_path):
    """The files of the commit with the patch applied."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(checkout), str(clone))
    (tmp_path / "patch").write_bytes(changes.patch)
    git(clone, "apply", "--whitespace=nowarn", str(tmp_path / "patch"))
    return {path.relative_to(clone).as_posix(): path.read_bytes() for path in clone.rglob("*") if path.is_file()}


def test_a_patch_gives_back_what_was_edited_deleted_staged_and_never_added(checkout, tmp_path):
    (checkout / "rasa/a.py").write_bytes(b"A = 2  \r\nno newline at the end, caf\xe9")
    (checkout / "rasa/b.py").unlink()
    (checkout / "rasa/weights.bin").write_bytes(bytes(reversed(range(256))))
    (checkout / "rasa/new room").mkdir()
    (checkout / "rasa/new room/ü.py").write_text("C = 1\n")
    (checkout / "rasa/new room/__init__.py").touch()  # an empty file has no hunk
    (checkout / "staged.py").write_text("D = 1\n")
    git(checkout, "add", "staged.py")
    (checkout / "own.yaml").write_text("suite: own\n")
    git(checkout, "config", "diff.noprefix", "true")  # a user's own taste
    git(checkout, "config", "color.ui", "always")
    found = uncommitted(checkout)
    assert found.left_out == {}
    assert found.files == (
        "own.yaml",
        "rasa/a.py",
        "rasa/b.py",
        "rasa/new room/__init__.py",
        "rasa/new room/ü.py",
        "rasa/weights.bin",
        "staged.py",
    )
    again = rebuilt(checkout, found, tmp_path)
    for name in found.files:
        there = checkout / name
        assert again.get(name) == (there.read_bytes() if there.exists() else None), name


def test_what_is_no_source_a_secret_or_too_large_is_left_out_and_said(checkout, tmp_path):
    (checkout / "rasa/large.py").write_bytes(b"#" * (2**20 + 1))
    (checkout / "rasa/weights.bin").write_bytes(bytes(2**20 + 1))
    (checkout / "rasa/.env").write_text("KEY=hunter2")
    (checkout / "api-token.yaml").write_text("hunter2")
    (checkout / "rasa/tokenizer.py").write_text("T = 1\n")
    (checkout / "notes.txt").write_text("of no use to a run")
    for ignored in ("runs", "elsewhere"):
        (checkout / ignored).mkdir()
        (checkout / ignored / "spec.yaml").write_text("hunter2")
    found = uncommitted(checkout)
    assert found.files == ("rasa/tokenizer.py",)
    assert found.left_out == {
        "api-token.yaml": SECRET,
        "rasa/.env": SECRET,
        "rasa/large.py": TOO_LARGE,
        "rasa/weights.bin": TOO_LARGE,
    }
    assert b"hunter2" not in found.patch
    assert found.described()["changes"]["left_out"] == found.left_out


def test_a_patch_that_is_too_large_keeps_sources_first(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.uncommitted.WHOLE", 3000)
    (checkout / "docs.txt").write_text("old\n")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "second")
    (checkout / "docs.txt").write_text("text\n" * 400)
    (checkout / "rasa/a.py").write_text("A = 1\n" * 300)
    found = uncommitted(checkout)
    assert (found.files, found.left_out) == (("rasa/a.py",), {"docs.txt": TOO_MUCH})
    assert rebuilt(checkout, found, tmp_path)["rasa/a.py"] == (checkout / "rasa/a.py").read_bytes()


def test_a_folder_that_git_does_not_know_says_so(tmp_path):
    assert uncommitted(tmp_path).left_out == {".": "git did not answer"}


def test_packages_are_all_that_are_installed():
    found = installed_packages()
    slow = {normalised(each.metadata["Name"]): each.version for each in reversed([*importlib.metadata.distributions()])}
    assert found == dict(sorted(slow.items()))
    assert {"torch", "ruamel-yaml", "pillow", "rasa-ablations"} <= found.keys()


def test_variables_are_the_named_ones_alone(monkeypatch):
    for name in variables():
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("OMP_NUM_THREADS", "3" * 500)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("TORCH_HUB_TOKEN", "hunter2")
    assert variables() == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_NUM_THREADS": "3" * 200}
    asked = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_CBWR", "NVIDIA_TF32_OVERRIDE", "PYTHONHASHSEED")
    assert {*asked} <= {*NUMBERS} and not any(
        re.search("KEY|TOKEN|SECRET|PASS|HOME|PATH|DIR", name) for name in NUMBERS
    )


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch, tmp_path):
    def refuses(name):
        raise OSError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", refuses)
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    assert machine.gpus.__wrapped__() == {"driver": None, "gpus": []}
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n"
    (tmp_path / "version").write_text(line)
    assert machine.gpus.__wrapped__()["driver"] == "570.86.15"


class Nvml:
    """NVIDIA's library as it answers on a machine with two cards, of which the second is lost."""

    def __init__(self, path):
        self.open = False

    def nvmlInit_v2(self):
        self.open = True
        return 0

    def nvmlShutdown(self):
        self.open = False
        return 0

    def nvmlSystemGetDriverVersion(self, text, length):
        text.value = b"570.86.15"
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number, device):
        return 0 if number == 0 else 15

    def nvmlDeviceGetName(self, device, text, length):
        text.value = b"NVIDIA H100 80GB HBM3"
        return 0


def test_cards_and_driver_are_told_by_nvml(monkeypatch):
    monkeypatch.setattr(machine.ctypes, "CDLL", Nvml)
    assert machine.gpus.__wrapped__() == {"driver": "570.86.15", "gpus": ["NVIDIA H100 80GB HBM3", "unknown"]}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of code that has a change beside its commit."""
    changed = Changes(b"--- a/rasa/x.py\n+++ b/rasa/x.py\n", ("rasa/x.py",), {"rasa/y.py": TOO_LARGE})
    monkeypatch.setattr(execution, "changes", lambda: changed)
    monkeypatch.setattr(environment, "changes", lambda: changed)
    people = write_people(tmp_path / "people", train=4, val=2, test=24, images=1)
    (run,) = planned(people, tmp_path, "cl", overrides=["optimisation.threads=1"])
    execute([run], tmp_path, train=draws)
    return run


def test_a_run_keeps_the_patch_and_says_what_it_ran_on(run):
    began = read_json(run.directory / ENVIRONMENT)
    assert (run.directory / CHANGES).read_bytes() == b"--- a/rasa/x.py\n+++ b/rasa/x.py\n"
    assert began["changes"]["files"] == ["rasa/x.py"] and began["changes"]["left_out"] == {"rasa/y.py": TOO_LARGE}
    assert began["threads"] == 1 and began["cpu"] == machine.cpu_model() and began["packages"] == installed_packages()
    assert began["packages"]["torch"].startswith("2.") and {"cuda", "driver", "gpus", "variables"} <= began.keys()


def test_code_as_committed_has_no_patch_whatever_lay_there(run, monkeypatch):
    (run.directory / "result.json").unlink()
    monkeypatch.setattr(execution, "changes", lambda: Changes(b"", (), {}))
    monkeypatch.setattr(environment, "changes", lambda: Changes(b"", (), {}))
    execute([run._replace(state="new")], run.directory.parents[4], train=draws)
    assert "changes" not in read_json(run.directory / ENVIRONMENT) and not (run.directory / CHANGES).exists()


def test_the_patch_goes_where_the_run_goes(run, tmp_path):
    """Into a published record and back, into a copy of the run, and to the tracker."""
    own, shared = files_of(read_run(run.directory))
    (patch,) = (content for name, content in shared.items() if re.fullmatch(r"changes-[0-9a-f]{12}\.patch", name))
    assert patch == (run.directory / CHANGES).read_bytes()
    for folder, files in ((tmp_path / "own", own), (tmp_path / "shared", shared)):
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    (tmp_path / "back").mkdir()
    write_run(read_record(tmp_path / "own", tmp_path / "shared"), tmp_path / "back", tmp_path)
    assert (tmp_path / "back" / CHANGES).read_bytes() == patch
    workspace = run.directory.parents[4]
    (copy,) = planned(tmp_path / "people", workspace, "cl", overrides=["optimisation.threads=2"])
    folder = workspace / "runs/table4/other/smoke" / copy.directory.name
    other = copy._replace(directory=folder, state="new")
    execute([other], workspace, train=draws)
    assert (other.directory / CHANGES).read_bytes() == patch
    sync(workspace, default_uri(workspace), print)
    sent = [path for path in workspace.rglob(CHANGES) if "artifacts" in path.parts]
    assert [path.read_bytes() for path in sent] == [patch]


def test_a_record_of_before_is_compared_in_what_both_say(run):
    """An old record names nine packages, one of them in another spelling, and neither driver nor variables."""
    file = run.directory / ENVIRONMENT
    new = read_json(file)
    kept = {name: new["packages"][normalised(name)] for name in ("torch", "Pillow")} | {"numpy": "1.0"}
    old = {key: value for key, value in new.items() if key in ("python", "platform", "machine", "cpus", "code")}

    class Both:
        about = run.about
        directory = run.directory

    class Old(Both):
        directory = run.directory.parent / "old"

    Old.directory.mkdir()
    (Old.directory / ENVIRONMENT).write_text(json.dumps(old | {"omp_num_threads": None, "packages": kept}))
    found = dict(_others(Old, Both))
    assert found == {"packages.numpy": ("1.0", new["packages"]["numpy"])}
