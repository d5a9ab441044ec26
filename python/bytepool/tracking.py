"""Find the code that allocated a buffer and the objects that hold it.

A pool made with ``track="all"`` records every buffer, and where it was allocated; with
``track="sampled"`` it records one in 128. ``pool.tracked()`` lists the records of its buffers in
use, and ``tracked()`` those of all pools. A recorded handle that is dropped without ``release()``
gives a ``ResourceWarning`` with the lines that allocated its bytes.
"""

from __future__ import annotations

import gc
import inspect
import linecache
import sys
import threading
import warnings
from itertools import count
from types import FrameType
from typing import TYPE_CHECKING

from bytepool._bytepool import FREE_THREADED, AllocationRecord, records

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["AllocationRecord", "tracked"]

# A line of code is reported when it drops its first handle, its tenth, and so on.
_REPORTED = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


def tracked() -> list[AllocationRecord]:
    """Return the records of the tracked buffers in use of all pools, oldest first."""
    return list(records())  # in one step: other threads add records meanwhile


def _tracked_by(report: _DropReport | None) -> list[AllocationRecord]:
    """Return the records of one pool, which has no report before its first record."""
    return [record for record in tracked() if record._report is report]


class _DropReport:
    """Warns of handles of one pool that were dropped. All records of the pool refer to it."""

    __slots__ = ("_dropped", "_pool")

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._dropped: dict[str, count[int]] = {}

    def warn(self, record: AllocationRecord) -> None:
        """Report a dropped handle, unless its line of code was reported often enough."""
        if _format_frame is None:
            return  # the interpreter shuts down, and has cleared this module
        origin = record.origin
        line = origin[-1] if origin else ""
        times = next(self._dropped.setdefault(line, count(1)))
        if times in _REPORTED:
            so_far = f" ({times} times so far)" if times > 1 else ""
            lines = "\n".join(origin)
            warnings.warn(
                f"{record.size} bytes of {self._pool} were dropped without release(){so_far}; "
                f"they were allocated at (most recent call last):\n{lines}",
                ResourceWarning,
                stacklevel=2,
            )


def _describe(record: AllocationRecord) -> str:
    state = "released, still held" if record.released else "in use"
    origin = record.origin
    where = origin[-1].splitlines()[0].strip() if origin else "unknown"
    return f"<{record.size} bytes {state} for {record.age:.1f} s, from {where}>"


def _thread_name(ident: int) -> str:
    for thread in threading.enumerate():
        if thread.ident == ident:
            return thread.name
    return str(ident)


def _origin(codes: list[CodeType], last_instructions: bytes) -> list[str]:
    frames = list(zip(codes, memoryview(last_instructions).cast("i"), strict=True))
    return [_format_frame(*frame) for frame in reversed(frames)]


def _format_frame(code: CodeType, last: int) -> str:
    """Format a frame as a traceback does."""
    line = next((line for start, end, line in code.co_lines() if start <= last < end), None)
    text = f'  File "{code.co_filename}", line {line}, in {code.co_qualname}'
    source = linecache.getline(code.co_filename, line).strip() if line else ""
    return f"{text}\n    {source}" if source else text


def _holders(lease: int) -> list[str]:
    """Describe what holds memoryviews of the lease with this id."""
    gc.collect()
    views = [
        view
        for view in gc.get_objects()
        if type(view) is memoryview and id(_exporter(view)) == lease
    ]
    own = {id(view) for view in views} | {id(views)}
    found = {
        _name(holder, view)
        for view in views
        for holder in gc.get_referrers(view)
        if id(holder) not in own and not isinstance(holder, FrameType)
    }
    return sorted(found | _variables(views))


def _exporter(view: memoryview) -> object:
    try:
        return view.obj
    except ValueError:  # somebody called its release()
        return None


def _name(holder: object, view: object) -> str:
    """Return a text by which a reader can find the holder."""
    if isinstance(holder, dict):
        items = list(dict.items(holder))  # in one step, and not by a subclass's own items()
        names = [str(name) for name, held in items if held is view]
        module = dict.get(holder, "__name__")
        place = f"module {module}" if module and "__spec__" in holder else "a dict"
        return f"{', '.join(names)} in {place}"
    return f"a {type(holder).__qualname__} at {id(holder):#x}"


def _variables(views: list[memoryview]) -> set[str]:
    """Describe the local variables of running functions that are one of the views."""
    wanted = {id(view) for view in views}
    own = (_variables.__code__, _holders.__code__)
    found = set()
    # Without a GIL other threads run on, and looking at their frames can crash the process.
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
            copied = frame.f_code.co_flags & inspect.CO_OPTIMIZED and isinstance(names, dict)
            if copied and sys.getrefcount(names) <= _UNSHARED:
                names.clear()
            frame = frame.f_back
    del top, frame  # this frame would refer to itself, and the cycle would keep the views
    return found


def _references_to_unshared_copy() -> int:
    """Count the references to a copy of a function's variables that only its frame has.

    Before CPython 3.13, ``frame.f_locals`` of a function is a dict that the frame keeps, and that
    keeps the values of the variables alive. After reading it, ``_variables`` clears it. A function
    that has called ``locals()`` uses the same dict, which must not be cleared then: it has more
    references than this counts.
    """
    names = sys._getframe().f_locals
    return sys.getrefcount(names)


_UNSHARED = _references_to_unshared_copy()
