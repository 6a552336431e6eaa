"""For whom locks hold on a disk, by how it is mounted; and disks without locks, as the kernel itself refuses them."""

import ctypes
import errno
import os
import platform
import struct
from functools import partial
from pathlib import Path

import pytest

from experiments.shared_disk import local_alone
from rasa.lock import Lock, is_locked, without_locks
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import forked, rasa

FLOCK, X86_64 = 73, 0xC000003E
MOUNTS = """\
22 1 259:1 / / rw,relatime - ext4 /dev/root rw
40 22 0:45 / /nfs rw,relatime - nfs4 server:/a rw,vers=4.2,hard,proto=tcp,local_lock=none
41 22 0:46 / /nfs/alone rw,relatime - nfs server:/b rw,vers=3,nolock,local_lock=all
42 22 0:47 / /flock rw,relatime shared:9 - nfs server:/c rw,vers=3,local_lock=flock
43 22 0:48 / /posix rw,relatime - nfs server:/c rw,vers=3,local_lock=posix
44 22 0:49 / /lustre rw,flock - lustre 10.0.0.1@tcp:/l rw,flock,user_xattr
45 22 0:50 / /local rw - lustre 10.0.0.1@tcp:/l rw,localflock
46 22 0:51 / /my\\040home rw,nosuid - fuse.sshfs me@host: rw,user_id=0
47 22 0:52 / /smb rw - cifs //host/share rw,nobrl
48 22 0:53 / /over rw - cifs //host/share rw,nobrl
49 22 0:54 / /over rw - xfs /dev/b rw
a torn line
"""


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("/home/me", ""),
        ("/nfs/work", ""),
        ("/nfs/alone/work", "nfs, nolock"),
        ("/nfs/alone2", ""),
        ("/flock", "nfs, local_lock=flock"),
        ("/posix/a/b", ""),
        ("/lustre/x", ""),
        ("/local/x", "lustre, localflock"),
        ("/my home/x", "fuse.sshfs"),
        ("/smb/x", "cifs, nobrl"),
        ("/over/x", ""),
    ],
)
def test_locks_that_stay_on_the_machine_are_told_by_the_mount(folder, why):
    assert local_alone(Path(folder), MOUNTS) == why


def test_this_machine_s_own_disk_is_no_news(tmp_path):
    assert local_alone(tmp_path, Path("/proc/self/mountinfo").read_text()) == ""


def refuse_locks(number):
    """From now on the kernel answers each flock of this process with this error, as a disk without locks does."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Load the machine; if it is another, allow. Load the number of the call; flock: the error, else allow.
    steps = [(0x20, 0, 0, 4), (0x15, 0, 3, X86_64), (0x20, 0, 0, 0), (0x15, 0, 1, FLOCK)]
    steps += [(0x06, 0, 0, 0x00050000 | number), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is written for x86-64")


@x86
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_refused_in_a_line_before_anything_is_trained(tmp_path, number):
    people = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    suite, folder = write_suite(tmp_path, 1), tmp_path / "work"
    given = ("run", suite, "-o", f"data.root={people}", "--tracking-uri", "http://127.0.0.1:1")
    run = rasa(*given, folder=folder, code=5, before=partial(refuse_locks, number))
    (line,) = [line for line in run.err.splitlines() if "cannot be locked" in line]
    assert f"runs: files cannot be locked here ({os.strerror(number)})" in line and "--workspace on another" in line
    assert not list(folder.glob("runs/*/*/*/*/result.json"))


def read_only_look(path, number):
    os.setresuid(65534, 65534, 65534)  # root may write to anything
    if number:
        refuse_locks(number)
    os._exit(int(is_locked(path)))


@x86
@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_who_may_only_read_sees_a_lock_and_sees_none_where_there_can_be_none(tmp_path):
    """On NFS a file that is open for reading cannot be locked for one alone, so the look takes a shared lock."""
    path = tmp_path / "run.lock"
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() == "root" and folder != Path("/") and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    with Lock(path) as lock:
        assert lock.acquired
        path.chmod(0o444)
        for number, seen in ((0, 1), (errno.ENOLCK, 0)):
            look = forked(read_only_look, path, number)
            look.join()
            assert look.exitcode == seen


def test_only_what_says_that_there_are_no_locks_is_told_so():
    assert without_locks(OSError(errno.EACCES, "Permission denied")) == ""
    assert "Lustre: flock" in without_locks(OSError(errno.ENOLCK, "No locks available"))
