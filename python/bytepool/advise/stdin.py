"""Give every run of a program the same standard input."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 1 << 16


class Input:
    """The standard input of this process, for several runs.

    The first run has it as it is. A pipe is recorded while the first run reads it. Later runs get
    the same bytes from a file. They get nothing in the place of a terminal.
    """

    def __init__(self, folder: Path) -> None:
        self._copy = folder / "stdin"
        self._is_open = True
        try:
            self._mode = os.fstat(0).st_mode
        except OSError:  # it is closed, and stays so
            self._is_open = False
        if self._is_open and stat.S_ISREG(self._mode):
            self._start = os.lseek(0, 0, os.SEEK_CUR)

    @property
    def _is_pipe(self) -> bool:
        return self._is_open and (stat.S_ISFIFO(self._mode) or stat.S_ISSOCK(self._mode))

    def first(self) -> int | None:
        """Return the descriptor for the first run; None for the one of this process."""
        if not self._is_pipe:
            return None
        reads, writes = os.pipe()
        threading.Thread(target=self._record, args=(writes,), daemon=True).start()
        return reads

    def _record(self, writes: int) -> None:
        """Copy the pipe to the program and to a file, until either end is closed."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for ``run``
        with self._copy.open("wb", buffering=0) as copy, contextlib.suppress(OSError):
            while chunk := os.read(0, CHUNK):
                copy.write(chunk)
                with memoryview(chunk) as rest:
                    sent = 0
                    while sent < len(chunk):
                        sent += os.write(writes, rest[sent:])
        os.close(writes)

    def again(self) -> int:
        """Return a descriptor for a later run."""
        if self._is_pipe and self._copy.exists():
            return os.open(self._copy, os.O_RDONLY)
        if self._is_open and stat.S_ISREG(self._mode):
            with contextlib.suppress(OSError):
                # A new open file, because a copy of the descriptor would share its position.
                again = os.open("/proc/self/fd/0", os.O_RDONLY)
                os.lseek(again, self._start, os.SEEK_SET)
                return again
        return os.open(os.devnull, os.O_RDONLY)
