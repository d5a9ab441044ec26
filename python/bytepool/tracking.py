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
import warnings
import weakref
from itertools import count
from types import FrameType
from typing import TYPE_CHECKING

from bytepool._bytepool import FREE_THREADED

if TYPE_CHECKING:
    from types import CodeType

    from bytepool._bytepool import Note

__all__ = ["Tracked", "everything"]

_REPORTED = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)  # how often a line may be warned about


class Tracked:
    """A buffer that is out, or was when this was made, and what is known of it."""

    __slots__ = ("_note",)

    def __init__(self, note: Note) -> None:
        self._note = note

    @property
    def size(self) -> int:
        """The bytes asked for."""
        return self._note.size

    @property
    def age(self) -> float:
        """Seconds since it was taken."""
        return self._note.age

    @property
    def released(self) -> bool:
        """Whether its handle was released, so that somebody else holds it."""
        return self._note.released

    @property
    def thread(self) -> str:
        """The name of the thread that took it; its number, if that thread is gone."""
        for thread in threading.enumerate():
            if thread.ident == self._note.thread:
                return thread.name
        return str(self._note.thread)

    @property
    def origin(self) -> list[str]:
        """Where it was allocated, a line of text for each frame, the innermost last."""
        return [_describe(*frame) for frame in reversed(self._note.frames)]

    def holders(self) -> list[str]:
        """What holds views of it, as far as CPython can tell: a line of text for each holder.

        It looks at all objects there are, which takes a while. Libraries that keep memory
        without telling the garbage collector are not seen, nor is what ``gc.freeze()`` has put
        aside, nor are in a free-threaded Python the variables of functions that other threads
        run.
        """
        gc.collect()
        views = [
            view
            for view in gc.get_objects()
            if type(view) is memoryview and id(_exporter(view)) == self._note.lease
        ]
        own = {id(view) for view in views} | {id(views)}
        found = {
            _name(holder, view)
            for view in views
            for holder in gc.get_referrers(view)
            if id(holder) not in own and not isinstance(holder, FrameType)
        }
        return sorted(found | _variables(views))

    def __eq__(self, other: object) -> bool:
        """Whether both are of the same buffer, taken at the same time."""
        return isinstance(other, Tracked) and self._note is other._note

    def __hash__(self) -> int:
        """That of the buffer."""
        return hash(self._note)

    def __repr__(self) -> str:
        """Its size and age, and the line that took it."""
        state = "released, still held" if self.released else "out"
        where = self.origin[-1].splitlines()[0].strip() if self.origin else "unknown"
        return f"<{self.size} bytes {state} for {self.age:.1f} s, from {where}>"


def everything() -> list[Tracked]:
    """What is out and tracked, of all pools."""
    registries = [reference() for reference in _registries.valuerefs()]
    return [tracked for registry in registries if registry for tracked in registry.outstanding()]


class _Registry:
    """What a pool tracks, and what it has warned about. Made by the extension module."""

    __slots__ = ("__weakref__", "dropped", "out", "pool")

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.out: set[Note] = set()  # the extension module adds and discards
        self.dropped: dict[str, count[int]] = {}
        _registries[id(self)] = self

    def outstanding(self) -> list[Tracked]:
        """As ``Pool.outstanding``."""
        notes = list(self.out)  # at once: others may be taken meanwhile
        return [Tracked(note) for note in sorted(notes, key=lambda note: note.number)]

    def warn(self, note: Note) -> None:
        """Say where a dropped handle came from, unless that was said often enough."""
        if _describe is None:
            return  # the interpreter goes down, and has taken this module apart
        origin = Tracked(note).origin
        line = origin[-1] if origin else ""
        times = next(self.dropped.setdefault(line, count(1)))
        if times in _REPORTED:
            again = f" ({times} times by now)" if times > 1 else ""
            lines = "\n".join(origin)
            warnings.warn(
                f"{note.size} bytes of {self.pool} were dropped without release(){again}; "
                f"they were allocated at (most recent call last):\n{lines}",
                ResourceWarning,
                stacklevel=2,
            )


# Not a WeakSet, which does not say at once what it has: others may be added meanwhile.
_registries: weakref.WeakValueDictionary[int, _Registry] = weakref.WeakValueDictionary()


def _exporter(view: memoryview) -> object:
    try:
        return view.obj
    except ValueError:  # it was released by hand
        return None


def _describe(code: CodeType, last: int) -> str:
    """As a traceback shows it."""
    line = next((line for start, end, line in code.co_lines() if start <= last < end), None)
    text = f'  File "{code.co_filename}", line {line}, in {code.co_qualname}'
    source = linecache.getline(code.co_filename, line).strip() if line else ""
    return f"{text}\n    {source}" if source else text


def _variables(views: list[memoryview]) -> set[str]:
    """The variables of all running functions that are such views."""
    wanted = {id(view) for view in views}
    own = (_variables.__code__, Tracked.holders.__code__)
    found = set()
    # To look at a frame that runs on meanwhile may crash; a GIL stops all others.
    for top in [sys._getframe()] if FREE_THREADED else sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None:
            names = frame.f_locals
            if frame.f_code not in own:
                found |= {
                    f"variable {name} of {frame.f_code.co_qualname}"
                    f" ({frame.f_code.co_filename}:{frame.f_lineno})"
                    for name, value in list(names.items())
                    if id(value) in wanted
                }
            # Before CPython 3.13 it is a copy that the frame keeps, and with it what it refers to;
            # unless the function has called locals(), and is using it.
            copied = frame.f_code.co_flags & inspect.CO_OPTIMIZED and isinstance(names, dict)
            if copied and sys.getrefcount(names) <= _OURS:
                names.clear()
            frame = frame.f_back
    del top, frame  # or this function's frame would refer to itself, and keep all of this alive
    return found


_OURS = 3  # references to such a copy: the frame's, our variable's and the call's that counts them


def _name(holder: object, view: object) -> str:
    """What a reader can find the holder by."""
    if isinstance(holder, dict):
        items = list(dict.items(holder))  # at once, and whatever a subclass makes of it
        names = [str(name) for name, held in items if held is view]
        module = dict.get(holder, "__name__")
        place = f"module {module}" if module and "__spec__" in holder else "a dict"
        return f"{', '.join(names)} in {place}"
    return f"a {type(holder).__qualname__} at {id(holder):#x}"
