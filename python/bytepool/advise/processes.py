"""Look at other processes through ``/proc``: their memory, their children, whether they listen."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

Usage: TypeAlias = resource.struct_rusage

TCP_LISTEN = "0A"
UNIX_LISTEN = "00010000"


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def peak_rss(pid: int) -> int:
    """Return the most resident bytes of a process so far; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return 0


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    found = []
    for path in Path("/proc").glob(f"{pid}/task/*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


def listens(pid: int) -> bool:
    """Return whether a process or one of its descendants listens on a socket."""
    own = {inode for member in (pid, *descendants(pid)) for inode in _sockets(member)}
    return bool(own) and any(inode in own for inode in _listening(pid))


def _sockets(pid: int) -> Iterator[str]:
    """Yield the inodes of the sockets that a process has open."""
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = path.readlink().name
                if target.startswith("socket:["):
                    yield target[8:-1]


def _listening(pid: int) -> Iterator[str]:
    """Yield the inodes of all listening sockets in the network namespace of a process."""
    for table, column, wanted, inode in (
        ("tcp", 3, TCP_LISTEN, 9),
        ("tcp6", 3, TCP_LISTEN, 9),
        ("unix", 3, UNIX_LISTEN, 6),
    ):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if len(fields) > inode and fields[column] == wanted:
                    yield fields[inode]
