"""Put the functions of ``bytepool.streams`` in the place of asyncio's, for the whole process."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from bytepool import streams

if TYPE_CHECKING:
    from types import TracebackType

_NAMES = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")
_lock = threading.Lock()
# What asyncio had before; empty while nothing is installed.
_replaced: dict[str, Any] = {}


class Installation:
    """What ``install()`` returns. As a context manager, it undoes the installation at its end."""

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
        """Put asyncio's functions back, if this installation replaced them."""
        with _lock:
            if self._owns:
                for name, function in _replaced.items():
                    # A function that somebody else has put there since then stays.
                    for module in (asyncio, asyncio.streams):
                        if getattr(module, name) is getattr(streams, name):
                            setattr(module, name, function)
                _replaced.clear()
            self._owns = False


def install() -> Installation:
    """Replace asyncio's ``open_connection``, ``start_server`` and their unix twins in this process.

    Libraries that call ``asyncio.open_connection(...)`` then use ``bytepool.streams`` without an
    edit. A second call changes nothing. ``with install():`` puts asyncio's functions back at the
    end of the block, unless an earlier call had replaced them already.

    This does not reach connections that exist already, code that imported the functions by name
    before this call (``from asyncio import open_connection``), nor code that builds its streams
    from ``asyncio.StreamReader`` and ``asyncio.StreamReaderProtocol`` or uses its own protocols.
    """
    with _lock:
        if _replaced:
            return Installation(owns=False)
        for name in _NAMES:
            if hasattr(streams, name):
                _replaced[name] = getattr(asyncio, name)
                for module in (asyncio, asyncio.streams):
                    setattr(module, name, getattr(streams, name))
        return Installation(owns=True)
