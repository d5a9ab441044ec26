"""The other side: which files there are, and processes that send them."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

from server import HEADER, Source

if TYPE_CHECKING:
    from collections.abc import Sequence


def default_roots() -> list[str]:
    """The Python installation this runs on, and what is installed into it."""
    return sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platlib"), sys.base_prefix})


def find_files(roots: Sequence[str], most_files: int, most_bytes: int) -> list[str]:
    """Regular files below the roots, each once: the largest, and a sample of all the others."""
    sizes: dict[str, int] = {}
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.realpath(Path(folder) / name)
                if os.access(path, os.R_OK) and Path(path).is_file():
                    sizes[path] = Path(path).stat().st_size
    by_size = sorted(sizes, key=lambda path: (-sizes[path], path))
    others = by_size[most_files // 2 :]
    candidates = by_size[: most_files // 2] + others[:: max(len(others) // (most_files // 2), 1)]
    chosen = []
    for path in candidates:
        if sizes[path] <= most_bytes:
            most_bytes -= sizes[path]
            chosen.append(path)
    return chosen


def read_source(path: str) -> Source:
    """The file as it is now."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return Source(path, file.tell(), digest)


def send_files(
    address: tuple[str, int], sources: Sequence[Source], seed: int, until: float
) -> None:
    """Send all files in random order, again and again until the time is over."""
    order = list(range(len(sources)))
    choose = random.Random(seed)
    with socket.create_connection(address, timeout=30) as connection:
        while True:
            choose.shuffle(order)
            for index in order:
                if time.time() > until:
                    return
                connection.sendall(HEADER.pack(index, sources[index].size))
                with Path(sources[index].path).open("rb") as file:
                    connection.sendfile(file)
