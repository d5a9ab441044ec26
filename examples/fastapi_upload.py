"""A FastAPI endpoint that hashes and stores an upload, which is received into pooled memory.

Serve it: ``uvicorn --http bytepool.uvicorn:Protocol --app-dir examples fastapi_upload:app``
Send a file: ``curl --data-binary @FILE http://127.0.0.1:8000/files/NAME``

Run as a program, it serves itself, sends a few files, and ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI

import bytepool
from bytepool.fastapi import BINARY, pooled_body

MAX_UPLOAD = 64 << 20
pool = bytepool.Pool(max_size=MAX_UPLOAD, max_bytes=4 * MAX_UPLOAD)
folder = Path(tempfile.mkdtemp())
Upload = Annotated[memoryview, Depends(pooled_body(max_size=MAX_UPLOAD, pool=pool))]

app = FastAPI()


def store(name: str, body: memoryview) -> str:
    """Write the body to a file, and return its SHA-256 digest. Other threads run meanwhile."""
    (folder / name).write_bytes(body)
    return hashlib.sha256(body).hexdigest()


@app.post("/files/{name}", openapi_extra=BINARY)
async def upload(name: str, body: Upload) -> dict[str, object]:
    """Store a file. One that is above MAX_UPLOAD is answered with status 413."""
    digest = await asyncio.to_thread(store, Path(name).name, body)
    return {"size": len(body), "sha256": digest}


if __name__ == "__main__":
    from http_client import post, serving

    with serving(app) as port:
        for data in (b"", b"small", b"large" * 1_000_000):
            reply = post(port, "/files/a.bin", data)
            assert reply == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            assert (folder / "a.bin").read_bytes() == data
            print(f"stored {len(data)} bytes")
        print(post(port, "/files/b.bin", b"", length=MAX_UPLOAD + 1)["detail"])
    print(f"in use: {pool.stats().outstanding}")
