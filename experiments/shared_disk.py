"""For whom the locks hold that keep two drivers from one run: all machines, this one alone, or nobody.

On Linux a lock is flock's. NFS carries it to the server since Linux 2.6.12, and so do Lustre (mounted with `flock`),
CephFS, GPFS and GlusterFS. Some mounts keep it to the machine, which nobody notices until two machines train one run;
others have none and say so. Sources: nfs(5), mount.lustre(8), mount.cifs(8), and of FUSE its kernel documentation.
"""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# Kinds of disk whose locks stay on the machine, always or with one of these options.
ALWAYS = ("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.mount-s3", "vboxsf", "virtiofs")
NFS = ("nolock", "local_lock=all", "local_lock=flock")
WITH = {"nfs": NFS, "nfs4": NFS, "lustre": ("localflock",), "cifs": ("nobrl",), "smb3": ("nobrl",)}
ADVICE = "let one machine work in it, and give each other one a --workspace of its own with the same tracker"


def note_of(folder: Path) -> str:
    """A line for whoever shares the disk of `folder` with other machines; nothing where locks hold for all."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # no Linux
        return ""
    why = local_alone(folder.resolve(), mounts)
    return f"{folder}: locks hold on this machine alone ({why}); {ADVICE}" if why else ""


def local_alone(folder: Path, mounts: str) -> str:
    """Why locks in `folder` (absolute) stay on this machine though its disk may be shared, e.g. `nfs4, nolock`."""
    kind, options = _mount(folder, mounts)
    if kind in ALWAYS:
        return kind
    return next((f"{kind}, {option}" for option in WITH.get(kind, ()) if option in options), "")


def _mount(folder: Path, mounts: str) -> tuple[str, set[str]]:
    """Kind and options of the mount that holds `folder`: of several at one place the last lies on top."""
    found: tuple[int, str, set[str]] = (-1, "", set())
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields, about = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(about) < 3:
            continue
        point = Path(re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), fields[4]))
        if folder.is_relative_to(point) and len(point.parts) >= found[0]:
            found = (len(point.parts), about[0], {*fields[5].split(","), *about[2].split(",")})
    return found[1], found[2]
