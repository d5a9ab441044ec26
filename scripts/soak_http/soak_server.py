"""The server of the HTTP soak: uvloop, ``bytepool.uvicorn``, and one pool with a budget.

Its argument is the file descriptor of a listening socket. What it reports goes to standard error.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import socket
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from bytepool import Pool, PoolExhaustedError, asgi, decay
from bytepool.uvicorn import Protocol

KIB, MIB = 1 << 10, 1 << 20
MAX_BODY = 4 * MIB
BUDGET = 16 * MIB
STALL = 1.0  # seconds after which a client without progress is disconnected


class Impatient(Protocol):
    stall_timeout = STALL


class Applications:
    """What the server does with a body: it answers with the checksum."""

    def __init__(self) -> None:
        self.pool = Pool(max_size=MAX_BODY, max_bytes=BUDGET, idle_timeout=0.2)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status, reply = 200, b""
        try:
            reply = await getattr(self, scope["path"][1:])(scope, receive)
        except asgi.ClientDisconnectedError:
            return
        except asgi.BodyTooLargeError:
            status = 413
        except PoolExhaustedError:
            status = 503
        headers = [(b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    async def whole(self, scope: Any, receive: Any) -> bytes:
        view = await asgi.body(scope, receive, max_size=MAX_BODY, pool=self.pool)
        return b"%d" % zlib.crc32(view)

    async def parts(self, scope: Any, receive: Any) -> bytes:
        body = asgi.Body(scope, receive, max_size=MAX_BODY, pool=self.pool)
        checksum = 0
        while part := await body.readview(256 * KIB):
            checksum = zlib.crc32(part, checksum)
            del part  # or the next part would wait while this one is kept
        return b"%d" % checksum

    async def hasty(self, scope: Any, receive: Any) -> bytes:
        """Cancel reads again and again. No byte may be lost."""
        body = asgi.Body(scope, receive, max_size=MAX_BODY, pool=self.pool)
        checksum, ended = 0, False
        while not ended:
            await asyncio.sleep(0.001)  # the transport reads meanwhile
            part = bytearray(random.choice([64 * KIB, MAX_BODY]))
            with suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.001, 0.02)):
                    n = await body.readinto(part)
                    checksum, ended = zlib.crc32(memoryview(part)[:n], checksum), not n
        return b"%d" % checksum

    async def unchanged(self, _scope: Any, receive: Any) -> bytes:
        checksum, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asgi.ClientDisconnectedError
            checksum = zlib.crc32(message["body"], checksum)
            more = message["more_body"]
        return b"%d" % checksum

    async def early(self, _scope: Any, _receive: Any) -> bytes:
        return b"not read"

    async def state(self, _scope: Any, _receive: Any) -> bytes:
        stats = self.pool.stats()  # before the garbage collection: no cycle may keep a body
        gc.collect()
        state = {
            "buffers in use": stats.outstanding,
            "idle bytes": stats.idle_bytes,
            "tasks": len(asyncio.all_tasks()),
            "resident": resident(),
        }
        return json.dumps(state).encode()


async def serve(listening: socket.socket) -> None:
    """Serve until the standard input ends, which it does with the process of the clients."""
    logging.basicConfig(level=logging.ERROR)
    app = Applications()
    options: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_config": None}
    server = uvicorn.Server(uvicorn.Config(app, http=Impatient, access_log=False, **options))
    asyncio.get_running_loop().add_reader(0, setattr, server, "should_exit", True)
    with decay.in_loop(app.pool):
        await server.serve([listening])


def resident() -> int:
    """Return the resident bytes of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * KIB


if __name__ == "__main__":
    uvloop.run(serve(socket.socket(fileno=int(sys.argv[1]))))
