"""`rasa clean` removes what nothing needs, and nothing else; a run that finished keeps no checkpoints."""

import json
import os
import shutil
import time

import pytest
from click.testing import CliRunner

from experiments import clean as cleaning
from experiments.clean import CHECKPOINTS, remove, unneeded
from experiments.clean_command import clean
from experiments.plan import plan, state_of
from experiments.rundir import ENVIRONMENT, FAILURE, LOCK, RESULT, read_json, write_json
from experiments.runner import execute
from experiments.spec import load_suite
from rasa.errors import Diverged, RunFailed
from rasa.lock import Lock
from tests.helpers.people import write_people
from tests.helpers.stand_in import checkpoint, stops_at_step_7, trainer

CACHE = "data/image-cache/96x48-0.u8"


def diverges(config, directory, **rest):
    checkpoint(directory, 1)
    raise Diverged("loss is nan at epoch 1, step 3")


def runs_out_of_memory(config, directory, **rest):
    checkpoint(directory, 1)
    raise RunFailed("out of memory")


def with_checkpoints(config, directory, **rest):
    """Finishes, and leaves checkpoints as an older version did."""
    found = trainer(config, directory, **rest)
    shutil.copytree(directory / CHECKPOINTS, directory / "kept")
    return found


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1)


@pytest.fixture
def workspace(people, tmp_path):
    """Runs that finished, were run again, diverged, ran out of memory, were interrupted; and a cache."""
    workspace, suite = tmp_path / "workspace", load_suite("table4")
    how = {"cl": with_checkpoints, "itm": trainer, "s-itm": diverges, "p-itm": runs_out_of_memory}
    for name, train in (how | {"mlm": stops_at_step_7}).items():
        options = [f"data.root={people}", "optimisation.epochs=2"]
        (run,) = plan(suite, [suite.row(name)], "smoke", options, [0], workspace)
        execute([run], workspace, train=train)
        if name in ("cl", "itm"):
            checkpoint(run.directory, 3)
        if name == "itm":
            run.directory.rename(run.directory.with_name(f"{run.directory.name}.stale-1"))
    (workspace / CACHE).parent.mkdir(parents=True)
    (workspace / CACHE).write_bytes(b"x" * 100)
    return workspace


def of(workspace, row):
    (directory,) = workspace.glob(f"runs/table4/{row}/smoke/seed-*")
    return directory


def has_checkpoints(workspace):
    rows = ("cl", "itm", "s-itm", "p-itm", "mlm")
    return {row for row in rows if any((of(workspace, row) / CHECKPOINTS).glob("*/*"))}


def test_a_run_that_finishes_keeps_no_checkpoints_unless_it_is_told_to(people, tmp_path):
    suite = load_suite("table4")
    for keep in (False, True):
        folder = tmp_path / f"keep-{keep}"
        runs = plan(suite, [suite.row("cl")], "smoke", [f"data.root={people}", "optimisation.epochs=2"], [0], folder)
        (outcome,) = execute([runs[0]._replace(keep_checkpoints=keep)], folder, train=trainer)
        assert outcome.state == "finished"
        assert any((runs[0].directory / CHECKPOINTS).glob("step-*")) == keep
        assert state_of(runs[0].directory)[0] == "finished"


def test_what_is_over_goes_and_what_can_go_on_stays(workspace):
    before = {path for path in workspace.rglob("*") if CHECKPOINTS not in path.parts and path.name != LOCK}
    assert has_checkpoints(workspace) == {"cl", "itm", "s-itm", "p-itm", "mlm"}
    found = list(unneeded(workspace))
    assert {each.path.parent for each in found} == {of(workspace, row) for row in ("cl", "itm", "s-itm")}
    assert all(remove(each) for each in found)
    assert has_checkpoints(workspace) == {"p-itm", "mlm"}
    after = {path for path in workspace.rglob("*") if CHECKPOINTS not in path.parts and path.name != LOCK}
    assert after == before
    assert list(unneeded(workspace)) == []


def test_a_cache_goes_where_no_run_can_go_on(workspace):
    shutil.rmtree(of(workspace, "mlm"))
    assert workspace / CACHE in {each.path for each in unneeded(workspace)}


def test_only_what_is_older(workspace):
    old = time.time() - 10 * cleaning.DAY
    for path in [of(workspace, "cl") / CHECKPOINTS, *(of(workspace, "cl") / CHECKPOINTS).rglob("*")]:
        os.utime(path, (old, old))
    assert [each.path.parent for each in unneeded(workspace, 9 * cleaning.DAY)] == [of(workspace, "cl")]
    assert list(unneeded(workspace, 11 * cleaning.DAY)) == []


def test_a_run_that_somebody_has_begun_again_is_left_alone(workspace):
    found = {each.path.parent: each for each in unneeded(workspace)}
    directory = of(workspace, "s-itm")
    with Lock(directory / LOCK):
        assert not remove(found[directory])
    (directory / FAILURE).unlink()  # as a resumed run does
    assert not remove(found[directory])
    assert any((directory / CHECKPOINTS).iterdir())


def test_stale_runs_are_over_too(workspace):
    directory = of(workspace, "cl")
    environment = read_json(directory / ENVIRONMENT)
    environment["code"] = dict.fromkeys(environment["code"], "other")
    write_json(directory / ENVIRONMENT, environment)
    assert state_of(directory)[0] == "stale" and (directory / RESULT).exists()
    assert directory in {each.path.parent for each in unneeded(workspace)}


def test_the_command_says_what_goes_and_tries_it_dry_first(workspace):
    runner = CliRunner()
    dry = runner.invoke(clean, ["--dry-run", "--workspace", str(workspace)])
    assert dry.exit_code == 0 and dry.output.splitlines()[-1].startswith("would free ")
    assert has_checkpoints(workspace) == {"cl", "itm", "s-itm", "p-itm", "mlm"}
    told = json.loads(runner.invoke(clean, ["--dry-run", "--json", "--workspace", str(workspace)]).output)
    assert sum(each["bytes"] for each in told) == sum(each.bytes for each in unneeded(workspace))
    assert runner.invoke(clean, ["--older", "1d", "--workspace", str(workspace)]).output == "freed 0.0 MiB\n"
    done = runner.invoke(clean, ["--workspace", str(workspace)])
    assert done.exit_code == 0 and done.output.splitlines()[-1].startswith("freed ")
    assert done.output.splitlines()[:-1] == dry.output.splitlines()[:-1]
    assert has_checkpoints(workspace) == {"p-itm", "mlm"}


@pytest.mark.parametrize("age", ["30", "d", "-1d", "30 days"])
def test_an_age_that_is_none_is_refused(tmp_path, age):
    ended = CliRunner().invoke(clean, ["--older", age, "--workspace", str(tmp_path)])
    assert ended.exit_code == 2 and "give hours, days or weeks, e.g. 12h, 30d, 2w" in ended.output


def test_named_runs_alone_are_cleaned(workspace):
    """Of the row `cl` the checkpoints go; those of every other run, and the image cache, stay."""
    others = [path for path in workspace.glob("runs/*/*/*/*/checkpoints") if path.parents[2].name != "cl"]
    assert others and any(unneeded(workspace, directories=[each.parent for each in others]))
    told = CliRunner().invoke(clean, ["table4/cl", "--workspace", str(workspace)])
    assert told.exit_code == 0 and "runs/table4/cl/smoke" in told.output
    assert not [*workspace.glob("runs/table4/cl/*/*/checkpoints")]
    assert all(path.is_dir() for path in others) and (workspace / CACHE).exists()
