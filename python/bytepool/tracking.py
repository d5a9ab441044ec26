"""What is out, who took it, and who still holds it: the buffers that a pool tracks.

A pool made with ``track="all"``, or ``"sampled"`` for one in 128, notes for each such buffer where
it was allocated. ``pool.outstanding()`` lists those that are out, and a handle that is dropped
without ``release()`` gives a ``ResourceWarning`` that says where its bytes came from.
"""

from __future__ import annotations

import gc
import inspect
import linecache
import sys
import threading
import time
import warnings
import weakref
from itertools import count
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["Tracked", "everything"]

_DEPTH = range(8)  # frames that are noted, the innermost
_frame, _now, _thread = sys._getframe, time.monotonic, threading.get_ident
_REPORTED = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)  # how often a line may be warned about

_Key = tuple["CodeType", int]


class Tracked:
    """A buffer that is out, and what is known of it.

    ``size``: the bytes asked for. ``thread``: the name of the thread that took it, as far as it
    is known. ``released``: whether its handle was released, so that somebody else holds it.
    """

    __slots__ = (
        "_frames",
        "_handle",
        "_registry",
        "_since",
        "_thread",
        "lease",
        "released",
        "size",
    )

    lease: int
    """The id of what exports it, which the extension module makes, and sets, after this."""

    # This is most of what tracking costs.
    def __init__(self, registry: _Registry, size: int, handle: bool) -> None:
        frame: FrameType | None = _frame(1)
        frames: list[_Key] = []
        for _ in _DEPTH:
            if frame is None:
                break
            frames.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        self._frames = frames
        self._registry = registry
        self._handle = handle
        self._since = _now()
        self._thread = _thread()
        self.released = False
        self.size = size
        registry.out[id(self)] = self

    @property
    def age(self) -> float:
        """Seconds since it was taken."""
        return _now() - self._since

    @property
    def thread(self) -> str:
        """The name of the thread that took it; its number, if that thread is gone."""
        for thread in threading.enumerate():
            if thread.ident == self._thread:
                return thread.name
        return str(self._thread)

    @property
    def origin(self) -> list[str]:
        """Where it was allocated, a line of text for each frame, the innermost last."""
        return [_describe(key) for key in reversed(self._frames)]

    def holders(self) -> list[str]:
        """What holds views of it, as far as CPython can tell: a line of text for each holder.

        It looks at all objects there are, which takes a while. Libraries that keep memory
        without telling the garbage collector are not seen.
        """
        gc.collect()
        views = [
            view
            for view in gc.get_objects()
            if type(view) is memoryview and id(_exporter(view)) == self.lease
        ]
        own = {id(view) for view in views} | {id(views)}
        found = {
            _name(holder, view)
            for view in views
            for holder in gc.get_referrers(view)
            if id(holder) not in own and not isinstance(holder, FrameType)
        }
        return sorted(found | _variables(views))

    def __repr__(self) -> str:
        """Its size and age, and the line that took it."""
        state = "released, still held" if self.released else "out"
        where = _describe(self._frames[0]).splitlines()[0] if self._frames else "unknown"
        return f"<{self.size} bytes {state} for {self.age:.1f} s, from {where}>"

    # What the extension module calls.

    def release(self) -> None:
        """Its handle was released, and somebody else holds it."""
        self.released = True

    def gone(self, dropped: bool) -> None:
        """It has gone home; ``dropped``: without having been released."""
        self._registry.out.pop(id(self), None)
        if dropped and self._handle:
            self._registry.warn(self)


def everything() -> list[Tracked]:
    """What is out and tracked, of all pools."""
    return [tracked for registry in list(_registries) for tracked in registry.outstanding()]


class _Registry:
    """What a pool tracks, and what it has warned about. Made by the extension module."""

    __slots__ = ("__weakref__", "dropped", "out", "pool")

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.out: dict[int, Tracked] = {}
        self.dropped: dict[str, count[int]] = {}
        _registries.add(self)

    def outstanding(self) -> list[Tracked]:
        """As ``Pool.outstanding``."""
        out = list(self.out.values())  # at once: others may be taken meanwhile
        return sorted(out, key=lambda tracked: tracked._since)

    def warn(self, tracked: Tracked) -> None:
        """Say where a dropped handle came from, unless that was said often enough."""
        line = _describe(tracked._frames[0]) if tracked._frames else ""
        times = next(self.dropped.setdefault(line, count(1)))
        if times in _REPORTED:
            again = f" ({times} times by now)" if times > 1 else ""
            origin = "\n".join(tracked.origin)
            warnings.warn(
                f"{tracked.size} bytes of {self.pool} were dropped without release(){again}; "
                f"they were allocated at (most recent call last):\n{origin}",
                ResourceWarning,
                stacklevel=2,
            )


_registries: weakref.WeakSet[_Registry] = weakref.WeakSet()


def _exporter(view: memoryview) -> object:
    try:
        return view.obj
    except ValueError:  # it was released by hand
        return None


def _describe(key: _Key) -> str:
    """As a traceback shows it."""
    code, last = key
    line = next((line for start, end, line in code.co_lines() if start <= last < end), None)
    text = f'  File "{code.co_filename}", line {line}, in {code.co_qualname}'
    source = linecache.getline(code.co_filename, line).strip() if line else ""
    return f"{text}\n    {source}" if source else text


def _variables(views: list[memoryview]) -> set[str]:
    """The variables of all running functions that are such views, or contain them directly."""
    wanted = {id(view) for view in views}
    found = set()
    for top in sys._current_frames().values():
        frame = top.f_back if top is sys._getframe() else top
        while frame is not None:
            names = frame.f_locals
            if frame.f_code.co_name not in ("_variables", "holders"):
                found |= {
                    f"variable {name} of {frame.f_code.co_qualname}"
                    f" ({frame.f_code.co_filename}:{frame.f_lineno})"
                    for name, value in list(names.items())
                    if id(value) in wanted
                }
            if frame.f_code.co_flags & inspect.CO_OPTIMIZED and isinstance(names, dict):
                names.clear()  # a copy, which the frame would keep, and with it what it refers to
            frame = frame.f_back
    del top, frame  # or this function's frame would refer to itself, and keep all of this alive
    return found


def _name(holder: object, view: object) -> str:
    """What a reader can find the holder by."""
    if isinstance(holder, dict):
        names = [str(name) for name, held in holder.items() if held is view]
        module = holder.get("__name__")
        place = f"module {module}" if module and "__spec__" in holder else "a dict"
        return f"{', '.join(names)} in {place}"
    return f"a {type(holder).__qualname__} at {id(holder):#x}"
