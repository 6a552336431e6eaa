"""Hosts on this machine: each has a network of its own, joined to the others' by a bridge, and a name of its own.

Skipped, with the reason, where namespaces may not be made.
"""

import ctypes
import os
import socket
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

CLONE_NEWNET, CLONE_NEWUTS = 0x40000000, 0x04000000


class Host(NamedTuple):
    """One of them. `space` is its network namespace, `cable` the bridge's end of its cable."""

    name: str
    space: str
    cable: str
    address: str

    def enter(self):
        """Be a process of this host from now on, and all that this one starts."""
        libc = ctypes.CDLL(None, use_errno=True)
        handle = os.open(Path("/run/netns", self.space), os.O_RDONLY)
        for done in (libc.setns(handle, CLONE_NEWNET), libc.unshare(CLONE_NEWUTS)):
            if done:
                raise OSError(ctypes.get_errno(), "no process of a host")
        os.close(handle)
        socket.sethostname(self.name)

    def unplug(self):
        """Cut its cable: whoever talks to it hears nothing more, not even that it has gone."""
        _ip("link", "set", self.cable, "down")


@contextmanager
def hosts(count):
    """The address of this machine in their network, and so many hosts, until the context ends."""
    own, net = f"rasa{os.getpid() % 100000}", f"10.213.{os.getpid() % 250}"
    with ExitStack() as stack:
        _made(stack, ("link", "add", own, "type", "bridge"), ("link", "del", own))
        _ip("addr", "add", f"{net}.1/24", "dev", own)
        _ip("link", "set", own, "up")
        found = []
        for number in range(count):
            host = Host(f"host-{number}", f"{own}-{number}", f"{own}c{number}", f"{net}.{number + 2}")
            _made(stack, ("netns", "add", host.space), ("netns", "del", host.space))
            _made(stack, ("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.space), ())
            _ip("link", "set", host.cable, "master", own, "up")
            _ip("-n", host.space, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.space, "link", "set", device, "up")
            found.append(host)
        yield f"{net}.1", found


def _made(stack, make, unmake):
    try:
        done = subprocess.run(["ip", *make], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no program ip (iproute2)")
    if done.returncode:
        pytest.skip(f"no networks of our own here: {done.stderr.strip()}")
    if unmake:  # a cable goes with its host
        stack.callback(subprocess.run, ["ip", *unmake], check=True)


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)
