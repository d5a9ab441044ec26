"""A Starlette endpoint that hashes an upload of any size in one buffer of its own.

Serve it: ``uvicorn --http bytepool.uvicorn:Protocol --app-dir examples starlette_stream:app``
Send a file: ``curl -T FILE http://127.0.0.1:8000/``

Run as a program, it serves itself, sends a few files, and ends.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import bytepool
from bytepool import asgi

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_UPLOAD = 10 << 30
PART = 1 << 20
pool = bytepool.Pool()


async def upload(request: Request) -> JSONResponse:
    """Return the size and the digest of the body. Only a part of it is in memory at a time."""
    body = asgi.Body(request, max_size=MAX_UPLOAD)
    size, digest = 0, hashlib.sha256()
    with pool.allocate(PART) as alloc:
        while n := await body.readinto(alloc.bytes()):
            digest.update(alloc.bytes()[:n])
            size += n
    return JSONResponse({"size": size, "sha256": digest.hexdigest()})


app = Starlette(routes=[Route("/", upload, methods=["POST", "PUT"])])


if __name__ == "__main__":
    from http_client import post, serving

    with serving(app) as port:
        for data in (b"", b"small", b"large" * 1_000_000):
            reply = post(port, "/", data)
            assert reply == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            print(f"hashed {len(data)} bytes")
    print(f"in use: {pool.stats().outstanding}")
