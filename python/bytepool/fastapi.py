"""FastAPI routes that get the body of their request in pooled memory.

A route names it as a parameter:

    from bytepool.fastapi import BINARY, PooledBody

    @app.post("/upload", openapi_extra=BINARY)
    async def upload(body: PooledBody) -> str:
        return hashlib.sha256(body).hexdigest()

``PooledBody`` is up to 16 MiB. For another limit or another pool, use ``pooled_body()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from bytepool import asgi
from bytepool._frames import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bytepool import Pool

__all__ = ["BINARY", "PooledBody", "pooled_body"]

#: For ``openapi_extra`` of a route: describes its body, which FastAPI does not see, as binary data.
BINARY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def pooled_body(
    *, max_size: int = MAX_SIZE, pool: Pool | None = None
) -> Callable[[Request], Awaitable[memoryview]]:
    """Return a dependency that is the body of the request, as from ``bytepool.asgi.body``.

    ``Annotated[memoryview, Depends(pooled_body(max_size=64 << 20))]`` is the type of a parameter. A
    larger body is answered with status 413 before anything is allocated.
    """

    async def body(request: Request) -> memoryview:
        return await asgi.body(request, max_size=max_size, pool=pool)

    return body


PooledBody = Annotated[memoryview, Depends(pooled_body())]
