"""The sending processes of the demo: they choose source files, and send them."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

from server import HEADER, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def default_roots() -> list[str]:
    """Return the folders of this Python's standard library and of its installed packages."""
    return [sysconfig.get_path("stdlib"), sysconfig.get_path("platlib")]


def regular_files(folder: str) -> Iterator[tuple[int, str]]:
    """Yield size and path of all readable files, except links and changing cache files."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__":
                yield from regular_files(entry.path)
        elif entry.is_file(follow_symlinks=False) and os.access(entry.path, os.R_OK):
            yield entry.stat().st_size, entry.path


def find_files(roots: Sequence[str], most_files: int, most_bytes: int) -> list[str]:
    """Choose files below the roots: the largest ones, and a sample of the others."""
    by_size = sorted({file for root in roots for file in regular_files(root)}, reverse=True)
    half = most_files // 2
    others = by_size[half:]
    chosen = []
    for size, path in by_size[:half] + others[:: max(len(others) // half, 1)]:
        if size <= most_bytes:
            most_bytes -= size
            chosen.append(path)
    return chosen


def read_source(path: str) -> Source:
    """Return the path, size and digest of a file."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return Source(path, file.tell(), digest)


def send_files(
    address: tuple[str, int], sources: Sequence[Source], seed: int, seconds: float
) -> None:
    """Connect, and send all files in random order, again and again for ``seconds``."""
    order = list(range(len(sources)))
    choose = random.Random(seed)
    with socket.create_connection(address, timeout=30) as connection:
        end = time.monotonic() + seconds  # a process may start late on a busy machine
        while True:
            choose.shuffle(order)
            for index in order:
                if time.monotonic() > end:
                    return
                connection.sendall(HEADER.pack(index, sources[index].size))
                with Path(sources[index].path).open("rb") as file:
                    connection.sendfile(file)
