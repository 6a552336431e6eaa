"""Completion: the scripts in real shells, at a real prompt where there is one, and quick enough for a key."""

import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from experiments import completers
from experiments.rundir import RUNS
from rasa.commands.cli import main

OTHERS = pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
# Two processes are started at each TAB: on a machine that is busy that takes its time.
PATIENCE = 30.0


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a suite of one's own and a run, and `rasa` on the path."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "rasa").write_text(
        f"#!{sys.executable}\nimport sys\nfrom rasa.commands.cli import main\nsys.exit(main())\n"
    )
    (bin_folder / "rasa").chmod(0o755)
    here = tmp_path / "here"
    (here / "runs" / "table4" / "m-rtd" / "smoke" / "seed-0-b5480a330b16").mkdir(parents=True)
    (here / "own.yaml").write_text("suite: own\nrows:\n- {name: first, extends: table4/cl}\n")
    (here / "broken.yaml").write_text("suite: [\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return here


def offered(*words, shell="bash"):
    """What the program answers at a TAB behind these words, by click's protocol: (kind, candidate) each."""
    place = words[-1] if shell == "fish" else str(len(words) - 1)
    told = {"COMP_WORDS": " ".join(words), "COMP_CWORD": place, "_RASA_COMPLETE": f"{shell}_complete"}
    done = subprocess.run(
        ["rasa"], env={**os.environ, **told}, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stderr == ""
    return [tuple(line.split(",", 1)) for line in done.stdout.splitlines()]


def plain(*words):
    return [value for kind, value in offered(*words) if kind == "plain"]


def in_bash(*words):
    """COMPREPLY and the options that bash's own completion function leaves, called as readline calls it."""
    script = """eval "$(rasa completion bash)"; compopt() { echo "option $2"; }
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rasa_completion rasa; printf '%s\\n' "${COMPREPLY[@]}" """
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    lines = [line for line in done.stdout.splitlines() if line]
    return [line for line in lines if not line.startswith("option")], {
        line[7:] for line in lines if line.startswith("option")
    }


CASES = [
    (("rasa", "compl"), ["completion"], set()),
    (("rasa", "run", "figure"), None, {"default"}),
    (("rasa", "run", "table4/m-"), ["table4/m-rtd"], set()),
    (("rasa", "run", "figure4/p-mask"), None, set()),
    (("rasa", "run", "own.yaml/"), ["own.yaml/first"], set()),
    (("rasa", "run", "broken.yaml/"), [], set()),  # and no word of what is wrong with it
    (("rasa", "run", "folder/ow"), [], {"default"}),
    (("rasa", "run", "table4", "--profile", "sy"), ["synth"], {"default"}),
    (("rasa", "run", "table4", "-o", "optimisation.ep"), ["optimisation.epochs="], {"nospace"}),
    # bash takes `=` for a word of its own, and replaces what stands behind it.
    (("rasa", "run", "table4", "-o", "fidelity", "=", "r"), ["released"], set()),
    (("rasa", "run", "table4", "-o", "fidelity", "="), ["released", "paper"], set()),
    (("rasa", "run", "table4", "-o", "data.root", "=", "x"), [], set()),
    (("rasa", "status", "b54"), ["b5480a330b16"], {"default"}),
    (("rasa", "gallery", "table4/"), ["table4/m-rtd"], {"default"}),
    (("rasa", "evaluate", "sta"), ["start"], {"default"}),
    (("rasa", "study", "run", "relat"), ["relation"], {"default"}),
    (("rasa", "completion", "z"), ["zsh"], set()),
    (("rasa", "data", "check", "x"), [], {"default"}),
    (("rasa", "report", "table4", "--out", "x"), [], {"dirnames"}),
]


@pytest.mark.parametrize(("words", "replies", "options"), CASES, ids=[" ".join(words) for words, *_ in CASES])
def test_the_function_of_the_script_in_a_real_bash(place, words, replies, options):
    found, set_options = in_bash(*words)
    assert set_options == options
    if replies is None:
        assert words[-1] in found or len(found) > 1
    else:
        assert found == replies


def test_a_suite_that_is_spelt_out_goes_on_with_its_rows_and_sweeps(place):
    found = plain("rasa", "run", "figure4")
    assert found[:3] == ["figure4", "figure4/p-weak", "figure4/p-mask"] and "figure4/p-weak-0.1" in found
    assert plain("rasa", "run", "tab") == [f"table{number}" for number in range(1, 9)]


def test_every_config_field_is_offered_and_no_section(place):
    from experiments.layers import parse_override
    from experiments.wording import field_paths
    from rasa.config.run import Config

    keys = [value.removesuffix("=") for kind, value in offered("rasa", "run", "table4", "-o", "") if kind == "more"]
    assert {"objectives.p_weak", "objectives.weights.rtd", "data.synthetic.noise", "fidelity"} <= {*keys}
    assert not {"seed", "data", "optimisation", "objectives.weights", "data.target"} & {*keys}
    assert {*keys} <= {*field_paths(Config)} and len(keys) > 100
    assert plain("rasa", "run", "x", "-o", "optimisation.compile", "=") == ["true", "false", "auto"]
    for word in plain("rasa", "run", "x", "-o", "objectives.generator", "="):
        parse_override(f"objectives.generator={word}")


def test_ids_come_with_their_row_once_two_digits_are_typed(place):
    (place / "runs" / "table4" / "m-rtd" / "smoke" / "seed-1-b5ffffffffff.stale-1").mkdir()
    assert offered("rasa", "status", "b5", shell="fish")[0] == ("plain", "b5480a330b16\ttable4/m-rtd seed 0 at smoke")
    assert [value for kind, value in offered("rasa", "status", "b5") if kind == "plain"] == ["b5480a330b16"]
    assert plain("rasa", "status", "") == ["table4", "table4/m-rtd"]
    assert plain("rasa", "status", "--workspace", "elsewhere", "b5") == []
    assert completers.RUNS == RUNS


@OTHERS
def test_each_script_is_printed_and_its_shell_can_read_it(place, shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "_RASA_COMPLETE" in text and "%(" not in text
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=PATIENCE)
    assert main(["completion", "tcsh"]) == 2


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
def test_in_a_real_fish(place):
    def completed(line):
        script = f"rasa completion fish | source; complete -C '{line}'"
        done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert completed("rasa run table4/m-r") == ["table4/m-rtd"]
    assert completed("rasa run ow") == ["own.yaml"]
    assert completed("rasa run table4 -o fidelity=r") == ["fidelity=released"]
    assert completed("rasa compar") == ["compare\tTwo runs, rows or suites side by side."]


class Prompt:
    """A shell at a terminal of its own."""

    def __init__(self, *command):
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.environ |= {"TERM": "dumb", "PS1": "> ", "HISTFILE": ""}
            os.execvp(command[0], command)
        self.shown = ""

    def type(self, text, until):
        """Type, and wait for what is to appear."""
        os.write(self._terminal, text.encode())
        deadline = time.monotonic() + PATIENCE
        while until not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._terminal], [], [], 0.1)[0]:
                self.shown += os.read(self._terminal, 65536).decode(errors="replace")

    def close(self):
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


@pytest.mark.parametrize(
    ("shell", "command", "setup"),
    [
        ("bash", ["bash", "--norc", "--noprofile", "-i"], ""),
        ("zsh", ["zsh", "-f", "-i"], "unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; "),
    ],
)
def test_at_a_prompt_with_the_tab_key(place, shell, command, setup):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    prompt = Prompt(*command)
    try:
        prompt.type(f'{setup}eval "$(rasa completion {shell})"; echo rea""dy\r', "ready")
        prompt.type("rasa run table4/m-r\t", "rasa run table4/m-rtd")
        # No space behind a key that wants its value, so that it can be typed on.
        prompt.type(" -o optimisation.ep\t", "optimisation.epochs=")
        prompt.type("3 -o fidelity=rel\t", "epochs=3 -o fidelity=released")
    finally:
        with suppress(OSError):
            prompt.close()


def test_a_key_is_answered_quickly_and_loads_nothing_heavy(place):
    """Of processor time, since other processes on the machine take no part in the promise."""

    def seconds(*words):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        offered(*words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    for words, most in (
        (("rasa", "run", "tab"), 0.3),
        (("rasa", "status", "b5"), 0.3),
        (("rasa", "run", "table4/"), 0.6),
        (("rasa", "run", "table4", "-o", "opt"), 0.6),
    ):
        assert min(seconds(*words) for _ in range(3)) < most, words
    heavy = "import sys; from rasa.commands.cli import main\ntry: main([])\nexcept SystemExit: pass\n"
    heavy += "print([m for m in ('torch', 'mlflow', 'optuna', 'pandas', 'matplotlib', 'numpy') if m in sys.modules])"
    for words in ("rasa run table4/", "rasa study run r", "rasa run table4 -o o"):
        told = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_RASA_COMPLETE": "bash_complete"}
        done = subprocess.run(
            [sys.executable, "-c", heavy], env={**os.environ, **told}, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]", done
