"""Hostile arguments: objects that run arbitrary code whenever Python uses them."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.reader import Reader


class HostileError(Exception):
    """The exception of a hostile object."""


class HostileExit(BaseException):
    """The exception of a hostile object that ``except Exception`` does not catch."""


class Text(str):
    """A str that equals everything and has no hash."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        raise HostileError("hash")


class Number(int):
    """An int whose ``__index__`` returns another value."""

    def __index__(self) -> int:
        return 7


EDGES = [-1, 2**47, sys.maxsize, sys.maxsize + 1, 2**64, 2**200, -(2**63), -(2**200)]
"""Sizes that are refused before any memory is requested from the system."""


class Maker:
    """Makes arguments of all kinds from an input. Hostile ones call ``interfere``."""

    def __init__(self, reader: Reader, interfere: Callable[[], None]) -> None:
        self._reader = reader
        self._interfere = interfere
        self._thread = threading.get_ident()

    def act(self) -> None:
        """Interfere or raise, as the input says. Other threads never do."""
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
        """Return a size up to 1 MiB, usually a small one."""
        kind = self._reader.below(8)
        if kind < 5:
            return self._reader.number()
        return self._reader.number(2) << (4 if kind == 7 else 0)

    def oddity(self) -> Any:
        """Return an object that is not a number, or pretends to be one."""
        read = self._reader
        return read.pick(
            [None, 1.5, float("nan"), "x", b"12", True, 3j, [], object(), Number(3), Text("off")]
        )

    def number(self) -> Any:
        """Return an argument in place of a number."""
        kind = self._reader.below(8)
        if kind < 4:
            return self.size()
        if kind == 4:
            return self._reader.pick(EDGES)
        if kind == 5:
            return self.oddity()
        return Sly(self)

    def seconds(self) -> Any:
        """Return an argument in place of seconds. Valid ones are short."""
        read = self._reader
        return read.pick(
            [0.0, 0, 1e-4, -1.0, float("nan"), -float("inf"), "1", b"", 2**2000, 3j, Sly(self)]
        )

    def text(self, *words: str) -> Any:
        """Return an argument in place of one of these words."""
        read = self._reader
        kinds = [*words, *words, None, "", "\ud800", "a\0b", "x" * 300, b"off", 1]
        return read.pick([*kinds, Text(words[0]), Sly(self)])

    def anything(self) -> Any:
        """Return an argument of any kind."""
        kind = self._reader.below(4)
        return (self.number, self.seconds, self.oddity, lambda: Sly(self))[kind]()


class Sly:
    """An object that runs code in every special method."""

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
