"""Objects that do not behave: whatever Python asks them, arbitrary code runs first."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.reader import Reader


class HostileError(Exception):
    """What a hostile object raises."""


class HostileExit(BaseException):
    """The same, and ``except Exception`` does not catch it."""


class Text(str):
    """A str that is equal to everything, and has no hash."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        raise HostileError("hash")


class Number(int):
    """An int that says it is another one."""

    def __index__(self) -> int:
        return 7


EDGES = [-1, 2**47, sys.maxsize, sys.maxsize + 1, 2**64, 2**200, -(2**63), -(2**200)]
"""Sizes that nobody can have, each of them refused at once; none that the system might grant."""


class Maker:
    """Makes arguments of all kinds from an input. ``interfere`` is what hostile ones run."""

    def __init__(self, reader: Reader, interfere: Callable[[], None]) -> None:
        self._reader = reader
        self._interfere = interfere
        self._thread = threading.get_ident()

    def act(self) -> None:
        """Do what the input says, and perhaps raise. Not in another thread, at any time."""
        if threading.get_ident() != self._thread:
            return
        kind = self._reader.below(8)
        if kind == 1:
            raise HostileError
        if kind == 2:
            raise HostileExit
        if kind == 3:
            gc.collect()
        elif kind >= 4:
            self._interfere()

    def size(self) -> int:
        """A size up to 1 MiB, mostly a small one."""
        kind = self._reader.below(8)
        if kind < 5:
            return self._reader.number()
        return self._reader.number(2) << (4 if kind == 7 else 0)

    def oddity(self) -> Any:
        """What is no size at all, or says it is one."""
        read = self._reader
        return read.pick(
            [None, 1.5, float("nan"), "x", b"12", True, 3j, [], object(), Number(3), Text("off")]
        )

    def number(self) -> Any:
        """What may stand where a number is wanted."""
        kind = self._reader.below(8)
        if kind < 4:
            return self.size()
        if kind == 4:
            return self._reader.pick(EDGES)
        if kind == 5:
            return self.oddity()
        return Sly(self)

    def seconds(self) -> Any:
        """What may stand where seconds are wanted; none that would take long."""
        read = self._reader
        return read.pick(
            [0.0, 0, 1e-4, -1.0, float("nan"), -float("inf"), "1", b"", 2**2000, 3j, Sly(self)]
        )

    def text(self, *words: str) -> Any:
        """What may stand where one of those words is wanted."""
        read = self._reader
        kinds = [*words, *words, None, "", "\ud800", "a\0b", "x" * 300, b"off", 1]
        return read.pick([*kinds, Text(words[0]), Sly(self)])

    def anything(self) -> Any:
        """What may stand anywhere."""
        kind = self._reader.below(4)
        return (self.number, self.seconds, self.oddity, lambda: Sly(self))[kind]()


class Sly:
    """Whatever it is asked, it acts first."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker

    def __index__(self) -> Any:
        self._maker.act()
        read = self._maker._reader
        kind = read.below(4)
        if kind < 2:
            return self._maker.size()
        return read.pick(EDGES) if kind == 2 else self._maker.oddity()

    def __float__(self) -> Any:
        self._maker.act()
        return self._maker._reader.pick([0.0, 1e-4, -1.0, float("nan"), 1, "x", None])

    def __eq__(self, other: object) -> Any:
        self._maker.act()
        return self._maker._reader.pick([False, True, None, "x"])

    def __hash__(self) -> int:
        self._maker.act()
        return 1

    def __bool__(self) -> bool:
        self._maker.act()
        return True

    def __len__(self) -> int:
        self._maker.act()
        return self._maker.size()

    def __str__(self) -> str:
        self._maker.act()
        return "sly"

    def __fspath__(self) -> Any:
        self._maker.act()
        return self._maker._reader.pick(["/dev/null", __file__, "/nowhere", b"/", None])

    def __buffer__(self, flags: int) -> memoryview:
        self._maker.act()
        return memoryview(bytearray(self._maker._reader.number()))

    def __release_buffer__(self, view: memoryview) -> None:
        self._maker.act()

    def __call__(self, *_: Any) -> None:
        self._maker.act()
