"""The classes by which ``install()`` replaces ``asyncio.StreamReader`` and its protocol.

Libraries call these classes, derive from them and check instances with them. So they are classes,
and ``isinstance`` accepts asyncio's own objects too, such as the streams of a subprocess.
"""

from __future__ import annotations

import asyncio
from abc import ABCMeta
from typing import TYPE_CHECKING, Any, TypeGuard

from bytepool.streams._protocol import StreamReaderProtocol
from bytepool.streams._reader import StreamReader

if TYPE_CHECKING:
    from bytepool.streams._protocol import ClientConnected

# Taken here, so that a later install() does not change them.
_AsyncioReader = asyncio.streams.StreamReader
_AsyncioProtocol = asyncio.streams.StreamReaderProtocol


class InstalledReader(StreamReader, metaclass=ABCMeta):
    """``StreamReader`` as ``asyncio.StreamReader``."""

    @classmethod
    def __subclasshook__(cls, kind: type) -> Any:
        return issubclass(kind, _AsyncioReader) if cls is InstalledReader else NotImplemented


class InstalledReaderProtocol(_AsyncioProtocol, metaclass=ABCMeta):
    """Makes a ``StreamReaderProtocol`` of ours for a reader of ours, and asyncio's otherwise.

    A subclass is always asyncio's, because it may have its own ``data_received``.
    """

    def __new__(
        cls,
        stream_reader: asyncio.StreamReader | None,
        client_connected_cb: ClientConnected | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Any:
        if cls is InstalledReaderProtocol and _receives_in_place(stream_reader):
            return StreamReaderProtocol(stream_reader, client_connected_cb, loop)
        return super().__new__(cls)

    @classmethod
    def __subclasshook__(cls, kind: type) -> Any:
        if cls is InstalledReaderProtocol:
            return issubclass(kind, (_AsyncioProtocol, StreamReaderProtocol))
        return NotImplemented


def _receives_in_place(reader: object) -> TypeGuard[StreamReader]:
    # A subclass with its own feed_data must get all received bytes.
    return isinstance(reader, StreamReader) and type(reader).feed_data is StreamReader.feed_data
