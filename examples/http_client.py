"""What the HTTP examples use to try themselves: a server in a thread, and a client."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from bytepool.uvicorn import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def serving(app: Any, http: Any = Protocol) -> Iterator[int]:
    """Serve the application on a free port, which is yielded, until the end of the block."""
    server = uvicorn.Server(uvicorn.Config(app, http=http, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def post(port: int, path: str, body: bytes, length: int | None = None) -> Any:
    """Send an upload, and return the JSON of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        size = len(body) if length is None else length
        connection.request("POST", path, body, {"Content-Length": str(size)})
        return json.loads(connection.getresponse().read())
