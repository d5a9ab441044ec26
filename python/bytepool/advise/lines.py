"""Attribute a call stack to the user's line, and know what to write instead of it."""

from __future__ import annotations

import functools
import linecache
import re
import site
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Frame: TypeAlias = tuple[str, str, int]
"""Function, file and line."""

_LIBRARIES = tuple(
    {
        str(Path(path).resolve())
        for path in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            *site.getsitepackages(),
            site.getusersitepackages(),
        )
    }
)
_STANDARD = str(Path(sysconfig.get_path("stdlib")).resolve())


@dataclass(frozen=True)
class Way:
    """A way to get memory that a pool can replace."""

    kind: str
    """How the memory is made: ``bytearray``, ``bytes`` or ``malloc``."""
    pattern: str
    """What the line looks like."""
    instead: str
    """What to write instead."""


WAYS = (
    Way("bytearray", r"\bbytearray\(", "pool.view(n)"),
    Way(
        "malloc",
        r"\b(np|numpy)\.(empty|zeros|ones)\(",
        "np.frombuffer(pool.view(nbytes), dtype).reshape(shape); zeros and ones: fill it",
    ),
    Way("bytes", r"\.recv\(", "sock.recv_into(view) with view = pool.view(n)"),
    Way("bytes", r"\.(readexactly)\(", "await reader.readview(n) of bytepool.streams"),
    Way("bytes", r"\.read_bytes\(", "bytepool.blocking.read_file(path, pool)"),
    Way("bytes", r"\.read\(", "file.readinto(view) with view = pool.view(n)"),
)
# Modules that receive through asyncio's streams.
STREAMS = "asyncio/streams.py"


@functools.cache
def is_users(file: str) -> bool:
    """Return whether a file is the user's own code, and no library's."""
    if file.startswith("<"):
        return False
    path = str(Path(file).resolve())
    return not path.startswith(_LIBRARIES) and "/bytepool/" not in path


def attribute(stack: list[Frame]) -> Frame | None:
    """Return the innermost line of the user's code; else that of a package; else the innermost."""
    for frame in stack:
        if is_users(frame[1]):
            return frame
    for frame in stack:
        in_package = "-packages/" in frame[1]
        if in_package:
            return frame
    return stack[0] if stack else None


def text(frame: Frame) -> str:
    """Return the source text of a line."""
    return linecache.getline(frame[1], frame[2]).strip()


def way(line: str) -> Way | None:
    """Return how the line makes its memory, if a pool can replace it."""
    return next((way for way in WAYS if re.search(way.pattern, line)), None)


def short(file: str) -> str:
    """Return a file name for people: relative to the working directory, or to its library."""
    path = Path(file)
    for folder in (Path.cwd(), *map(Path, _LIBRARIES)):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return file
