"""Servers that send 10 MB at a time, as MongoDB and as a worker of Dask."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 10_000_000
HEADER = struct.Struct("<iiii")
OP_MSG = 2013


@contextlib.contextmanager
def serve(kind: str) -> Iterator[int]:
    """Run a server in a process of its own, and yield its port."""
    command = [sys.executable, "-m", "libraries.replies", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def answer(command: str) -> dict[str, Any]:
    """Return MongoDB's reply to a command."""
    if command == "find":
        return {
            "cursor": {"id": 0, "ns": "db.files", "firstBatch": [{"content": bytes(SIZE)}]},
            "ok": 1,
        }
    return {
        "isWritablePrimary": True,
        "helloOk": True,
        "minWireVersion": 0,
        "maxWireVersion": 25,
        "maxBsonObjectSize": 16 << 20,
        "maxMessageSizeBytes": 48 << 20,
        "ok": 1,
    }


async def mongo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer OP_MSG messages. The name of a command is the first key of its document."""
    import bson

    replies: dict[str, bytes] = {}
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            size, number, _, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
            content = await reader.readexactly(size - HEADER.size)
            command = next(iter(bson.decode(content[5:])))
            if command not in replies:
                replies[command] = bson.encode(answer(command))
            reply = bytes(5) + replies[command]
            writer.write(HEADER.pack(HEADER.size + len(reply), 0, number, OP_MSG) + reply)
            await writer.drain()
    writer.close()


async def serve_mongo() -> None:
    server = await asyncio.start_server(mongo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def serve_dask() -> None:
    import numpy as np

    comms: Any = importlib.import_module("distributed.comm")
    protocol: Any = importlib.import_module("distributed.protocol")
    content = np.ones(SIZE, np.uint8)

    async def handle(comm: Any) -> None:
        with contextlib.suppress(comms.CommClosedError):
            while await comm.read():
                await comm.write({"content": protocol.to_serialize(content)})

    listener = await comms.listen("tcp://127.0.0.1:0", handle)
    print(listener.contact_address.rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run({"mongo": serve_mongo, "dask": serve_dask}[sys.argv[1]]())
