"""Decisions read from the bytes of an input, alike with atheris and without."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Reader:
    """Reads an input from its start. At the end all numbers are 0, the tamest decision."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._at < len(self._data)

    def bytes(self, n: int) -> bytes:
        """The next ``n``, or as many as there are."""
        taken = self._data[self._at : self._at + n]
        self._at += len(taken)
        return taken

    def number(self, size: int = 1) -> int:
        """The number in the next bytes."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "little")

    def below(self, n: int) -> int:
        """A number below ``n``, which is 256 at most."""
        at, self._at = self._at, self._at + 1
        return self._data[at] % n if at < len(self._data) else 0

    def pick(self, choices: Sequence[T]) -> T:
        """One of them, of 256 at most."""
        return choices[self.below(len(choices))]
