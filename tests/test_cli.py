"""The command line: fast and light to start, exit codes and one-line faults, data on stdout."""

import json
import resource
import subprocess
import sys

import pytest

from experiments.yaml_io import load_mapping
from rasa.commands.cli import main
from tests.helpers.light_start import LIGHT
from tests.helpers.people import write_people


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["doctor", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    done = subprocess.run([sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_help_answers_in_under_a_third_of_a_second():
    def seconds():
        # Of processor time, since other processes on the machine take no part in the promise.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", "from rasa.commands.cli import main; main(['--help'])"]
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_every_command_of_this_package_is_found_and_loads(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("list", "show", "plan", "run", "status", "retry", "sync", "doctor", "data", "checkpoint", "report"):
        assert f"\n  {name} " in shown
    assert "cannot be loaded" not in shown


CASES = [
    (["frobnicate"], 2, "No such command 'frobnicate'"),
    (["rnu"], 2, "No such command 'rnu'. Did you mean run?"),
    (["run"], 2, "Missing argument 'TARGET...'"),
    (["run", "table4", "--seeds", "a"], 2, "give whole numbers from 0 on, or ranges"),
    (["run", "table4", "--jobs", "0"], 2, "--jobs"),
    (["show"], 2, "name a row"),
    (["show", "table4"], 2, "table4 has 10 rows; name one: table4/cl"),
    (["show", "table4/cl", "--diff", "table4/cl", "table4/itm"], 2, "two with --diff, not both"),
    (["plan", "table4/"], 3, "rasa: table4.yaml: no row ''; there is cl, itm"),
    (["run", "table4", "--tracking-uri", "nonsense"], 5, "use sqlite:///FILE.db or http://HOST:PORT"),
    (["run", "table4", "--tracking-uri", "file:///tmp/mlruns"], 5, "use sqlite:///FILE.db or http://HOST:PORT"),
    (["sync", "--tracking-uri", "nonsense"], 5, "rasa: --tracking-uri: 'nonsense' is no store of runs"),
    (["show", "tabel4/cl"], 3, "rasa: no suite 'tabel4' (a file ends in .yaml); did you mean table4?"),
    (["plan", "table4/m-rdt"], 3, "rasa: table4.yaml: no row 'm-rdt'; did you mean m-rtd"),
    (["plan", "table4", "--profile", "smok"], 3, "did you mean smoke?"),
    (["plan", "table4", "-o", "epochs=3"], 3, "rasa: -o: epochs: unknown key; did you mean optimisation.epochs?"),
    (["run", "table4", "-o", "optimisation.epochs=many"], 3, 'input should be a valid integer ("many")'),
    (["run", "table4/m-rtd", "-o", "objectives.positives=annotated"], 3, "weights.prd needs positives of both kinds"),
    (["run", "table4", "--profile", "paper"], 3, "rasa: data.root is not set; give the data set's folder"),
    (["run", "table4/cl", "-o", "data.root=/nowhere"], 5, "/nowhere: does not exist"),
    (["status", "tabel4"], 3, "rasa: no suite 'tabel4'; did you mean table4?"),
    (["plan", "missing.yaml"], 3, "rasa: missing.yaml: cannot be read (No such file or directory)"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), CASES)
def test_faults_are_one_line_with_an_exit_code(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    if code != 2:
        assert printed.err.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name != "runs"]


def test_list_names_every_row_and_profile(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "table4/p-itm-prd" in text
    assert "--profile smoke" in text
    assert main(["list", "--json"]) == 0
    rows = {suite["name"]: suite["rows"] for suite in json.loads(capsys.readouterr().out)["suites"]}
    assert len(rows["table4"]) == 10 and rows["table2"] == ["albef", "rasa"]


def test_show_prints_a_config_that_reads_back(capsys):
    assert main(["show", "table4/m-rtd", "-o", "objectives.p_weak=0.2"]) == 0
    config = load_mapping(capsys.readouterr().out, "shown")
    assert (config["objectives"]["generator"], config["objectives"]["p_weak"]) == ("momentum", 0.2)
    assert "seed" not in config


def test_show_diff_says_what_a_row_changes(capsys):
    assert main(["show", "--diff", "table4/o-rtd", "table4/m-rtd"]) == 0
    assert capsys.readouterr().out == 'objectives.generator: "online" -> "momentum"\n'


def test_plan_and_status_say_how_runs_stand(capsys, tmp_path):
    people = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    where = ["--workspace", str(tmp_path)]
    assert main(["plan", "table4", "-o", f"data.root={people}", "--seeds", "0,1", *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    # Four people: the steps take a second, so what is left is the start of each program.
    assert " ".join(lines[0].split()) == "table4/cl seed 0 new: never run (about 5 s)"
    assert lines[-1] == "20 of 20 to run, about 2 min"
    assert main(["plan", "table4/cl", "-o", f"data.root={people}", "--json", *where]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["row"], run["state"], run["seed"]) == ("cl", "new", 0)
    assert main(["status", *where]) == 0
    assert capsys.readouterr().out == ""
    assert main(["retry", "table4", *where]) == 0


def test_progress_is_plain_lines_where_stderr_is_no_terminal(capsys, tmp_path):
    people = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    assert main(["data", "check", str(people), "--val-identities", "2"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "8 of 8 images" and all(line.endswith(" of 8 images") for line in lines)


def test_a_reader_that_has_enough_is_no_fault():
    command = f"{sys.executable} -c 'import sys; from rasa.commands.cli import main; sys.exit(main([\"list\"]))' | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
