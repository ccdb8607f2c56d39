"""What a file lies on, who may use it, who has it locked: what the machine tells, and nothing is guessed."""

from __future__ import annotations

import os
import stat
import time
from functools import partial
from pathlib import Path

from balancer import events

_MOUNTS = Path("/proc/self/mountinfo")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = frozenset(
    """
    nfs nfs4 cifs smb3 smbfs smb2 9p afs ceph coda gfs gfs2 glusterfs gpfs lustre ncpfs ocfs2 orangefs
    pvfs2 virtiofs beegfs fuse.sshfs fuse.s3fs fuse.glusterfs fuse.ceph fuse.rclone fuse.gcsfuse
    """.split()  # noqa: SIM905  # a list of names reads best as one
)
_warned: set[str] = set()

# It goes on while the machine is suspended, as the jobs on the server do.
machine_now = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Return seconds since the machine was started: the same for all its processes, and nobody can set it."""


def boot_id() -> str:
    """Return what names this start of the machine; empty where the system has no name for it."""
    try:
        return _BOOT_ID.read_text("utf-8").strip()
    except OSError:
        return ""


# -- users ------------------------------------------------------------------------------------------


def share(file: int, folder: Path) -> None:
    """Have a new file be used by everybody who may use the folder it lies in, and by nobody else.

    Who may put files into the folder may read and write this one. What the superuser makes belongs to the
    folder's owner: one look around by an operator must not keep the application out.
    """
    rights = folder.stat()
    made = os.fstat(file)
    if (made.st_uid, made.st_gid) != (rights.st_uid, rights.st_gid):
        try:
            os.chown(file, rights.st_uid if os.geteuid() == 0 else -1, rights.st_gid)
        except OSError:
            pass  # it is not ours to give to that group
    os.chmod(file, mode_for(rights.st_mode, folder=stat.S_ISDIR(made.st_mode)))


def mode_for(rights: int, *, folder: bool = False) -> int:
    """Return the mode of a file or folder, from that of the folder it lies in."""
    mode = 0o700 if folder else 0o600
    for who in (0o070, 0o007):
        if rights & who & 0o022:
            mode |= (0o777 if folder else 0o666) & who
    return mode


def make(path: Path, *, exclusive: bool = False) -> int:
    """Return a descriptor of a file, which is made if it is not there. Raises OSError."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if exclusive:
            raise
        return os.open(path, os.O_RDWR)
    share(file, path.parent)
    return file


# -- mounts -----------------------------------------------------------------------------------------


def warn_of_network(path: str, mounts: Path = _MOUNTS) -> None:
    """Log once for each file that lies on a network file system: its locks cannot be relied on."""
    kind = file_system(path, mounts)
    if kind in _NETWORK and path not in _warned:
        _warned.add(path)
        events.emit("warning", "sqlite_network_filesystem", path=path, filesystem=kind)


def file_system(path: str, mounts: Path = _MOUNTS) -> str:
    """Return the type of the file system that ``path`` lies on; empty if that cannot be known."""
    real, best, found = os.path.realpath(path), "", ""
    for point, kind in _mount_points(mounts):
        if len(point) >= len(best) and (real + "/").startswith(point.rstrip("/") + "/"):
            best, found = point, kind
    return found


def mounted_alone(path: str, mounts: Path = _MOUNTS) -> bool:
    """Whether a file is a mount point itself: what lies beside it here does not elsewhere."""
    real = os.path.realpath(path)
    return any(point == real for point, _ in _mount_points(mounts))


def _mount_points(mounts: Path) -> list[tuple[str, str]]:
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    parts = (line.partition(" - ") for line in lines)
    return [(_plain(left.split(" ")[4]), right.split(" ")[0]) for left, _, right in parts]


def _plain(point: str) -> str:
    """Return a mount point with its escaped blanks put back."""
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(escaped, plain)
    return point


# -- locks ------------------------------------------------------------------------------------------


def holders(*paths: str) -> str:
    """Say which processes have one of these files locked, as far as the kernel tells; empty: it does not."""
    return ", ".join(map(_describe, _who_has_locked(*paths)))


def a_holder_is_stopped(path: str | Path) -> bool:
    """Whether a process that has a file locked is stopped, as by a debugger."""
    return any(_is_stopped(_state(pid)[1]) for pid in _who_has_locked(path))


def a_holder_runs(path: str | Path) -> bool:
    """Whether a process that has a file locked is at work, or would be if the machine had time for it."""
    return any(_states_of_threads(pid) & {"R", "D"} for pid in _who_has_locked(path))


def _who_has_locked(*paths: str | Path) -> list[int]:
    files = {_identity(path) for path in paths} - {None}
    found = [pid for pid, identity in _locks() if identity in files and pid > 0 and pid != os.getpid()]
    return list(dict.fromkeys(found))


def _locks() -> list[tuple[int, str]]:
    """Return who has write locks, and on what file: ``major:minor:inode``."""
    try:
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return []
    found = (line.split() for line in lines if "->" not in line)
    return [(int(words[4]), words[5]) for words in found if len(words) > 5 and words[3] == "WRITE"]


def _identity(path: str | Path) -> str | None:
    try:
        state = Path(path).stat()
    except OSError:
        return None
    return f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"


def _describe(pid: int) -> str:
    name, state = _state(pid)
    if not name:
        return f"process {pid}"
    return f"process {pid} ({name}, which is stopped)" if _is_stopped(state) else f"process {pid} ({name})"


def _state(pid: int) -> tuple[str, str]:
    """Return the name of a process and the letter of its state; empty: they are not to be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return "", ""
    name, _, rest = text.partition("(")[2].rpartition(")")
    return name, rest.split()[0]


def _states_of_threads(pid: int) -> set[str]:
    """Return the letters of the states that the threads of a process are in."""
    try:
        threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208  # but for its name
    except OSError:
        return set()
    return {_state(thread)[1] for thread in threads}


def _is_stopped(state: str) -> bool:
    return state in ("T", "t")


def process_lives(host_pid: str, host: str) -> bool | None:
    """Whether a process of this machine lives, by its id; None: that cannot be known from here."""
    where, _, pid = host_pid.rpartition(":")
    if where != host or not pid.isdecimal():
        return None
    return Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else None
