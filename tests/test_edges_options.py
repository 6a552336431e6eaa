"""What is typed after -o is what is read; runs and studies by the names that a person has at hand;
streams and locales."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.layers import parse_override
from experiments.plan import plan
from experiments.runner import execute
from experiments.spec import load_suite, resolve
from rasa.commands.cli import main
from rasa.errors import SpecError
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer

AS_TYPED = [
    "/data/set #2",
    "/data/a & b",
    "&set",
    "*set",
    "!set",
    "set: 2",
    "[set]",
    "{set}",
    "2024",
    "1e-5",
    "yes",
    "~/set",
    "~",
    "a, b",
    "- a",
    "%set",
    "@set",
    "`set`",
    "|",
    "> a",
    "?",
    "set\\2",
    "a 'b'",
    'a "b"',
    " set",
    "None",
    "a=b",
    "ä",
]


@pytest.mark.parametrize("text", AS_TYPED)
@pytest.mark.parametrize("field", ["data.root", "data.tokenizer", "model.weights"])
def test_a_path_or_a_text_is_taken_as_typed(field, text):
    section, key = field.split(".")
    assert parse_override(f"{field}={text}").values == {section: {key: text}}


def test_quotes_still_quote_and_null_is_none_unless_such_a_file_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_override("data.root='set #2'").values == {"data": {"root": "set #2"}}
    assert parse_override("data.root=null").values == {"data": {"root": None}}
    assert parse_override("data.tokenizer=null").values == {"data": {"tokenizer": "null"}}  # which may not be unset
    Path("null").mkdir()
    with pytest.raises(SpecError, match=r"-o data.root=null: null means none, but there is a file .* write ./null"):
        parse_override("data.root=null")
    assert parse_override("data.root=./null").values == {"data": {"root": "./null"}}


@pytest.mark.parametrize("text", ["3 # epochs", "&a 3", "*a", "!!int 3", "| 3", "@3", "#3"])
def test_what_yaml_would_drop_from_a_number_is_refused_with_the_way_to_quote_it(text):
    with pytest.raises(
        SpecError, match=r"-o optimisation.epochs=.*: YAML does not read .* as text; write -o 'optimisation"
    ):
        parse_override(f"optimisation.epochs={text}")


def test_numbers_lists_and_words_are_read_as_before():
    config = resolve(
        load_suite("table4"),
        "cl",
        "smoke",
        [
            "optimisation.learning_rate=1e-5",
            "data.format=cuhk-pedes",
            "model.temperature_range=[0.01, 0.5]",
            "objectives.weights={cl: 0.5}",
        ],
        0,
    )
    assert (config.optimisation.learning_rate, config.data.format) == (1e-5, "cuhk-pedes")
    assert config.model.temperature_range == (0.01, 0.5)


def test_a_run_is_shown_by_its_directory_its_id_and_a_part_of_it(tmp_path, monkeypatch, capsys):
    people = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    suite = load_suite("table4")
    (run,) = plan(suite, [suite.row("cl")], "smoke", [f"data.root={people}", "optimisation.epochs=7"], [0], tmp_path)
    execute([run], tmp_path, train=trainer)
    monkeypatch.chdir(tmp_path)
    for name in (str(run.directory), run.about.run_id, run.about.run_id[:8], run.directory.name):
        assert main(["show", name]) == 0
        assert "epochs: 7" in capsys.readouterr().out
    assert main(["show", "0123456789ab"]) == 3
    assert "no suite '0123456789ab'" in capsys.readouterr().err


def run(*arguments, **options):
    command = [sys.executable, "-c", "import sys; from rasa.commands.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def close(*handles):
    def before():
        for handle in handles:
            os.close(handle)

    return before


@pytest.mark.parametrize("handles", [(1,), (2,), (0, 1, 2)])
def test_closed_streams_change_no_exit_code_and_write_into_no_file(handles, tmp_path):
    done = run("list", "--json", preexec_fn=close(*handles), cwd=tmp_path)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_an_output_that_is_full_is_said_in_a_line():
    with open("/dev/full", "w") as full:
        command = [
            sys.executable,
            "-c",
            "import sys; from rasa.commands.cli import main; sys.exit(main())",
            "list",
            "--json",
        ]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        5,
        "rasa: standard output could not be written (No space left on device)\n",
    )


def test_a_locale_that_knows_ascii_alone_reads_and_shows_other_letters(tmp_path):
    place = tmp_path / "wörk"
    place.mkdir()
    environment = os.environ | {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = run("status", "--workspace", str(place), env=environment, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, f"no runs in {place / 'runs'}\n")


def test_a_notebook_s_way_to_show_pictures_is_left_aside(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    assert main(["list"]) == 0
    assert os.environ["MPLBACKEND"] == "agg"
