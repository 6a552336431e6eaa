"""The screen of a running suite: its figures by hand, when there are lines instead, and a real terminal afterwards."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import click
import pytest
from rich.console import Console

from experiments.live import Screen, display_of
from experiments.options import plain_asked, plain_option
from experiments.outcome import NO_CALLBACKS, Outcome, raise_for
from experiments.plan import plan
from experiments.progress import Display
from experiments.runner import execute
from experiments.spec import load_suite
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer

PATIENCE = 200.0  # seconds: an interpreter that imports all takes its time on a machine that is busy
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=16, val=2, test=2, images=1)


def planned(people, workspace, *rows, seeds=(0,)):
    suite = load_suite("table4")
    given = [f"data.root={people}", "optimisation.epochs=2", "optimisation.batch_size=8"]
    runs = plan(suite, [suite.row(row) for row in rows], "smoke", given, seeds, workspace)
    return [run._replace(about=run.about.model_copy(update={"variant": ""})) for run in runs]  # is long, and shown


def terminal(encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=file, force_terminal=True, width=120, color_system=None, _environ={"TERM": "xterm"})


def shown(screen):
    """Its lines, blanks put together."""
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(screen.screen())
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_a_line_for_each_run_at_work_and_for_each_row_with_its_seeds(people, tmp_path):
    """By hand: figures of steps 0, 4, ..., 16 come every 2 s, so 2 steps/s, and 16 pairs/s at a batch of 8."""
    runs, now = planned(people, tmp_path, "cl", "itm", seeds=[0, 1]), [100.0]
    screen = Screen(runs, terminal(), lambda: now[0])
    assert shown(screen) == [
        "0 of 4 done, 0 running",
        "ROW SEEDS",
        "table4/cl 0 · 1 ·",
        "table4/itm 0 · 1 ·",
    ]
    first, second = runs[0], runs[1]
    screen.on_start(first)
    for step in range(0, 20, 4):
        screen.on_metrics(first.about, "train", step, {"loss": 1.0 / (step + 1)})
        now[0] += 2
    lines = shown(screen)
    assert lines[0].startswith("0 of 4 done, 1 running") and lines[1] == "RUN EPOCH STEP LOSS PAIRS/S VAL R@1 LEFT"
    assert lines[2].startswith("table4/cl seed 0 0/2 16 0.059 16.0")
    screen.on_metrics(first.about, "val", 20, {"r1": 12.5, "epoch": 1})
    assert "table4/cl seed 0 1/2 16 0.059 16.0 12.50" in shown(screen)[2]
    screen.on_end(Outcome(first.about, first.directory, "finished", "", 50.0, 4.0))
    screen.on_start(second)
    screen.on_end(Outcome(second.about, second.directory, "failed", "loss is nan"))
    lines = shown(screen)
    assert lines[0] == "2 of 4 done, 0 running, 1 failed" and lines[2:] == ["table4/cl 0 ✓ 1 ·", "table4/itm 0 ✗ 1 ·"]


def test_the_time_that_is_left_is_of_all_runs_with_as_many_at_a_time_as_now(people, tmp_path):
    """By hand: two of four run; of each 30 s are estimated, 10 s of which have passed. (2 x 20 + 2 x 30) / 2 = 50 s."""
    runs, now = [run._replace(seconds=30.0) for run in planned(people, tmp_path, "cl", "itm", seeds=[0, 1])], [0.0]
    screen = Screen(runs, terminal(), lambda: now[0])
    for run in runs[:2]:
        screen.on_start(run)
        screen.on_metrics(run.about, "train", 0, {"loss": 1.0})
    now[0] = 10.0
    assert shown(screen)[0] == "0 of 4 done, 2 running, about 50 s left"
    screen = Screen([runs[0], runs[1]._replace(seconds=None)], terminal(), lambda: now[0])
    screen.on_start(runs[0])
    assert shown(screen)[0] == "0 of 2 done, 1 running"  # half a sum would be taken for the whole


def test_a_resumed_runs_rate_is_of_this_attempt(people, tmp_path):
    (run,) = planned(people, tmp_path, "cl")
    run.directory.mkdir(parents=True)
    old = '{"group": "train", "step": %d, "values": {"loss": 1.0}, "time": %f}\n'
    (run.directory / "metrics.jsonl").write_text(old % (0, 0.0) + old % (1, 1000.0))
    now = [5000.0]
    screen = Screen([run], terminal(), lambda: now[0])
    screen.on_start(run._replace(state="interrupted"))
    for step in (2, 3):
        screen.on_metrics(run.about, "train", step, {"loss": 1.0})
        now[0] += 0.5
    assert "16.0" in shown(screen)[2]  # 2 steps/s of 8 pairs, whatever was before


def test_a_terminal_that_knows_ascii_alone_gets_other_signs(people, tmp_path):
    screen = Screen(planned(people, tmp_path, "cl", "itm"), terminal("ascii"))
    assert shown(screen)[2:] == ["table4/cl 0 .", "table4/itm 0 ."]


@pytest.mark.parametrize(
    ("settings", "plain", "kind"),
    [
        ({}, False, Screen),
        ({}, True, Display),
        ({"NO_COLOR": "1"}, False, Display),
        ({"NO_COLOR": ""}, False, Screen),
        ({"TERM": "dumb"}, False, Display),
    ],
)
def test_lines_where_a_screen_is_not_wanted_or_cannot_be(people, tmp_path, monkeypatch, settings, plain, kind):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    environ = {"TERM": "xterm"} | settings
    console = Console(file=io.StringIO(), force_terminal=True, _environ=environ)
    assert type(display_of(planned(people, tmp_path, "cl"), plain, console)) is kind
    assert type(display_of(planned(people, tmp_path, "cl"), False, Console(file=io.StringIO()))) is Display


def test_the_option_reaches_the_display():
    told = []

    @click.command()
    @plain_option
    def command():
        told.append(plain_asked())

    command.main(["--plain"], standalone_mode=False)
    command.main([], standalone_mode=False)
    assert told == [True, False] and not plain_asked()


# ---- A real terminal ----


def drive(workspace, people):
    """In a process at a terminal: three rows, with the screen that the command has."""
    from pathlib import Path

    runs = planned(Path(people), Path(workspace), "cl", "itm", "s-itm")
    with display_of(runs) as display:
        callbacks = NO_CALLBACKS._replace(
            on_start=display.on_start, on_metrics=display.on_metrics, on_end=display.on_end, notify=display.notify
        )
        outcomes = execute(runs, Path(workspace), callbacks=callbacks, train=trainer)
    print([outcome.state for outcome in outcomes])
    try:
        raise_for(outcomes)
    except KeyboardInterrupt:
        sys.exit(130)


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, workspace, people, step_seconds, **settings):
        self._ours, theirs = pty.openpty()
        self._before = termios.tcgetattr(theirs)
        code = "import sys, tests.test_live; tests.test_live.drive(*sys.argv[1:])"
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        environment |= {"TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40", "STEP_SECONDS": str(step_seconds)}
        environment |= {"PYTHONPATH": os.pathsep.join(sys.path)} | settings
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(workspace), str(people)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        self._theirs, self.shown = theirs, ""

    def read(self, until):
        """Read until `until(shown)`."""
        deadline = time.monotonic() + PATIENCE
        while not until(self.shown):
            assert time.monotonic() < deadline, self.shown
            if select.select([self._ours], [], [], 0.1)[0]:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")

    def interrupt(self):
        """As Ctrl-C: the terminal sends it to the process's group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def ended(self):
        """The exit code; all that was shown is read, and the terminal's settings are as they were."""
        self.read(lambda shown: self._process.poll() is not None)
        while select.select([self._ours], [], [], 0.2)[0]:
            self.shown += os.read(self._ours, 65536).decode(errors="replace")
        assert termios.tcgetattr(self._theirs) == self._before
        os.close(self._ours)
        os.close(self._theirs)
        return self._process.returncode


def cursor_is_shown(text):
    return text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_at_a_terminal_the_screen_goes_on_and_is_gone_at_the_end(people, tmp_path):
    terminal = Terminal(tmp_path, people, 0.05)
    assert terminal.ended() == 0
    assert "\x1b[?25l" in terminal.shown and cursor_is_shown(terminal.shown)
    text = ESCAPE.sub("", terminal.shown)
    assert "PAIRS/S" in text and "2 of 3 done, 1 running" in text and "✓" in text
    lines = [line.strip() for line in text.splitlines()]
    assert (
        "table4/itm seed 0: finished, R@1 50.00, 4 s" in lines and lines[-1] == "['finished', 'finished', 'finished']"
    )
    # The last thing that rich does is to take its lines away: nothing of the table is below the lines that stay.
    assert "SEEDS" not in ESCAPE.sub("", terminal.shown[terminal.shown.rfind("\x1b[2K") :])


def test_the_first_ctrl_c_stops_after_a_checkpoint_and_leaves_the_terminal_sane(people, tmp_path):
    terminal = Terminal(tmp_path, people, 0.3)
    terminal.read(lambda shown: "PAIRS/S" in shown and list(tmp_path.glob("runs/*/*/*/*/checkpoints/step-*")))
    terminal.interrupt()
    assert terminal.ended() == 130
    assert cursor_is_shown(terminal.shown) and "['interrupted', 'new', 'new']" in terminal.shown
    assert "stopping after a checkpoint; interrupt again to end at once" in ESCAPE.sub("", terminal.shown)


@pytest.mark.slow
def test_the_second_ctrl_c_gives_the_cursor_back(people, tmp_path):
    terminal = Terminal(tmp_path, people, 30)
    terminal.read(lambda shown: "PAIRS/S" in shown and list(tmp_path.glob("runs/*/*/*/*/metrics.jsonl")))
    terminal.interrupt()
    terminal.read(lambda shown: "interrupt again" in shown)
    terminal.interrupt()
    assert terminal.ended() == 130 and cursor_is_shown(terminal.shown)


@pytest.mark.slow
def test_without_colours_there_are_lines_and_nothing_else(people, tmp_path):
    terminal = Terminal(tmp_path, people, 0, NO_COLOR="1")
    assert terminal.ended() == 0
    assert "\x1b" not in terminal.shown and "table4/cl seed 0: epoch 2 val R@1 10.00" in terminal.shown
