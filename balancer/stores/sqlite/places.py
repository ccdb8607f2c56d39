"""Where a file lies: on a disk of this machine, or on somebody else's."""

from __future__ import annotations

import os
from pathlib import Path

from balancer import events

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    """
    nfs nfs4 cifs smb3 smbfs smb2 9p afs ceph coda gfs gfs2 glusterfs gpfs lustre ncpfs ocfs2 orangefs
    pvfs2 virtiofs beegfs fuse.sshfs fuse.s3fs fuse.glusterfs fuse.ceph fuse.rclone fuse.gcsfuse
    """.split()  # noqa: SIM905  # a list of names reads best as one
)
_warned: set[str] = set()


def warn_of_network(path: str, mounts: Path = _MOUNTS) -> None:
    """Log once for each file that lies on a network file system: its locks cannot be relied on."""
    kind = file_system(path, mounts)
    if kind in _NETWORK and path not in _warned:
        _warned.add(path)
        events.emit("warning", "sqlite_network_filesystem", path=path, filesystem=kind)


def file_system(path: str, mounts: Path = _MOUNTS) -> str:
    """Return the type of the file system that ``path`` lies on; empty if that cannot be known."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    real, best, kind = os.path.realpath(path), "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = _plain(left.split(" ")[4])
        if len(point) >= len(best) and (real + "/").startswith(point.rstrip("/") + "/"):
            best, kind = point, right.split(" ")[0]
    return kind


def _plain(point: str) -> str:
    """Return a mount point with its escaped blanks put back."""
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(escaped, plain)
    return point
