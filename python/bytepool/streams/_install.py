"""Replace asyncio's functions by those of ``bytepool.streams``, for the whole process."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from bytepool import streams
from bytepool.streams._asyncio_classes import InstalledReader, InstalledReaderProtocol

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

_FUNCTIONS = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")
# asyncio's own modules, such as that of subprocesses, keep the classes of asyncio.streams.
_CLASSES = {"StreamReader": InstalledReader, "StreamReaderProtocol": InstalledReaderProtocol}
_lock = threading.Lock()
# The replaced attributes of asyncio, with their old and new values.
_replaced: list[tuple[ModuleType, str, Any, Any]] = []


class Installation:
    """The result of ``install()``. As a context manager, it undoes the installation at its end."""

    def __init__(self, *, owns: bool) -> None:
        self._owns = owns

    def __enter__(self) -> Installation:
        """Return the installation."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put asyncio's names back, if this installation replaced them."""
        with _lock:
            if self._owns:
                for module, name, before, ours in _replaced:
                    # Another library's replacement stays.
                    if getattr(module, name) is ours:
                        setattr(module, name, before)
                _replaced.clear()
            self._owns = False


def install() -> Installation:
    """Have libraries that use asyncio's streams use ``bytepool.streams``, without an edit.

    This replaces asyncio's ``open_connection``, ``start_server`` and their unix twins in this
    process, and ``asyncio.StreamReader`` and ``asyncio.StreamReaderProtocol`` for libraries that
    build their streams from these. A second call changes nothing. ``with install():`` puts all
    names back at the end of the block, unless an earlier call had replaced them already.

    Call it before you import such libraries. It does not reach connections that exist already,
    names that were imported before this call (``from asyncio import open_connection``), subclasses
    of asyncio's classes that were made before, subclasses of ``asyncio.StreamReaderProtocol``, nor
    code with its own protocols. ``asyncio.streams`` keeps its classes.
    """
    with _lock:
        if _replaced:
            return Installation(owns=False)
        functions = {name: getattr(streams, name) for name in _FUNCTIONS if hasattr(streams, name)}
        for module, replacements in (
            (asyncio, {**functions, **_CLASSES}),
            (asyncio.streams, functions),
        ):
            for name, ours in replacements.items():
                _replaced.append((module, name, getattr(module, name), ours))
                setattr(module, name, ours)
        return Installation(owns=True)
