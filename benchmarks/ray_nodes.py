"""A suite on two Ray nodes of this machine, of which one is killed while it trains: is every run done exactly once?

    python -m benchmarks.ray_nodes [--target table4] [--profile smoke] [--after 2] [--seeds 0]

Each node is a `ray start` of its own with one core. Once so many runs have ended, and the second node is at one that
has a checkpoint, all processes of that node get SIGKILL. Prints the figures as JSON; the exit code is 1 if a run is
missing, was tested twice, or has a step twice.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.rundir import RESULT, find_runs, read_points, read_result

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # of these nodes' own: nobody else's cluster is joined, and nobody joins this one
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
}
WAIT = 1800  # seconds


class Node:
    """A `ray start`, its raylet and its workers."""

    def __init__(self, folder: Path, name: str, options: Sequence[str]):
        self._out = (folder / f"{name}.log").open("w")
        command = [*RAY, "start", "--block", "--num-cpus=1", "--object-store-memory=100000000", *options]
        environment = os.environ | SETTINGS
        self.process = subprocess.Popen(command, stdout=self._out, stderr=self._out, env=environment)

    def pids(self) -> list[int]:
        """Of all its processes."""
        return [self.process.pid, *descendants(self.process.pid)]

    def kill(self) -> None:
        """All at once, as a power cut would."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self._out.close()


def descendants(pid: int) -> list[int]:
    """Processes that this one, or one of these, has started (Linux)."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            each = [int(child) for child in children.read_text().split()]
        except OSError:  # it has just ended
            continue
        found += [*each, *(below for child in each for below in descendants(child))]
    return found


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[str, Node, Node]]:
    """Inside: the cluster's address, the head, and the other node."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    head = Node(folder, "head", ["--head", f"--port={port}", "--include-dashboard=false"])
    other = None
    try:
        wait_for(lambda: _answers(port), head)
        other = Node(folder, "other", [f"--address={address}"])
        wait_for(lambda: any("raylet" in _command(pid) for pid in descendants(other.process.pid)), other)
        yield address, head, other
    finally:
        for node in (other, head):
            if node is not None and node.process.poll() is None:
                node.kill()


def wait_for(condition: Any, node: Node | None = None) -> None:
    """Until it is true. Raises RuntimeError if the node ends, or it takes too long."""
    deadline = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > deadline or (node is not None and node.process.poll() is not None):
            raise RuntimeError("a node of Ray did not start; see its log")
        time.sleep(0.2)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def run_and_kill(workspace: Path, arguments: Sequence[str], after: int) -> dict[str, Any]:
    """Run the command on two nodes, kill one, and say how each run stands."""
    began = time.monotonic()
    with two_nodes(workspace) as (address, _, other):
        words = ["run", *arguments, "--executor", "ray", "--ray-address", address, "--workspace", str(workspace)]
        with (workspace / "command.log").open("w") as log:
            command = subprocess.Popen(
                [sys.executable, "-m", "rasa", *words], stdout=log, stderr=log, env=os.environ | SETTINGS
            )
            victim = None
            while command.poll() is None and victim is None:
                done = len([run for run in find_runs(workspace) if (run / RESULT).exists()])
                victim = _at(workspace, other) if done >= after else None
                time.sleep(0.1)
            if victim is not None:
                other.kill()
            killed_at = time.monotonic()
            code = command.wait()
    found = audit(workspace)
    times = {"seconds": time.monotonic() - began, "seconds_after_the_kill": time.monotonic() - killed_at}
    return {"exit": code, "killed_at": victim} | found | times


def _at(workspace: Path, node: Node) -> str | None:
    """The run with a checkpoint that the node is at, by its lock's holder; None if there is none."""
    pids = {str(pid) for pid in node.pids()}
    begun = [line.split() for path in workspace.glob("executors/*/*.begun") for line in path.read_text().splitlines()]
    if not any(len(words) > 1 and words[1] in pids for words in begun):
        return None
    for run in find_runs(workspace):
        if (run / RESULT).exists() or not any((run / "checkpoints").glob("step-*")):
            continue
        inode = (run / "run.lock").stat().st_ino
        holders = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        if any(words[4] in pids and words[5].endswith(f":{inode}") for words in holders if "->" not in words):
            return str(run.relative_to(workspace))
    return None


def audit(workspace: Path) -> dict[str, Any]:
    """Runs, those that are done, steps and tests that were recorded more than once, and how often each was begun."""
    runs = find_runs(workspace)
    twice = []
    for run in runs:
        counts = Counter((point.group, point.step) for point in read_points(run))
        tests = sum(count for (group, _), count in counts.items() if group == "test")
        if tests != 1 or max(counts.values(), default=0) > 1:
            twice.append(str(run.relative_to(workspace)))
    attempts = [len(path.read_text().splitlines()) for path in workspace.glob("executors/*/*.begun")]
    return {
        "runs": len(runs),
        "done": sum(read_result(run / RESULT) is not None for run in runs),
        "not_once": twice,
        "begun": dict(sorted(Counter(attempts).items())),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="table4")
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--after", type=int, default=2, help="Runs that have ended before the kill.")
    parser.add_argument("--workspace", type=Path)
    options = parser.parse_args()
    workspace = options.workspace or Path(tempfile.mkdtemp(prefix="ray-nodes-"))
    workspace.mkdir(parents=True, exist_ok=True)
    arguments = [options.target, "--profile", options.profile, "--seeds", options.seeds]
    found = run_and_kill(workspace, arguments, options.after)
    print(json.dumps(found, indent=1))
    return 0 if found["killed_at"] and found["runs"] == found["done"] and not found["not_once"] else 1


if __name__ == "__main__":
    sys.exit(main())
