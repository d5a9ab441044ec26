"""FastAPI routes that get the body of their request, or the files of a form, in pooled memory.

A route names it as a parameter:

    from bytepool.fastapi import BINARY, PooledBody

    @app.post("/upload", openapi_extra=BINARY)
    async def upload(body: PooledBody) -> str:
        return hashlib.sha256(body).hexdigest()

``PooledBody`` is up to 16 MiB. For another limit or another pool, use ``pooled_body()``.

Forms need no change of their routes: a class of routes receives all files in pooled memory.

    router = APIRouter(route_class=PooledForms)

    @router.post("/form")
    async def upload(file: UploadFile) -> str:
        return hashlib.sha256(file.view).hexdigest()

``PooledForms`` takes up to 16 MiB per form. For another limit or another pool, inherit from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

try:
    from fastapi import Depends, HTTPException, Request
    from fastapi.routing import APIRoute
except ModuleNotFoundError as _error:
    raise ImportError("bytepool.fastapi needs fastapi: pip install 'bytepool[fastapi]'") from _error

from bytepool import PoolExhaustedError, asgi
from bytepool._frames import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.datastructures import FormData
    from starlette.responses import Response

    from bytepool import Pool

__all__ = ["BINARY", "PooledBody", "PooledForms", "pooled_body"]

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


class PooledForms(APIRoute):
    """A route whose forms have their files in pooled memory, as ``bytepool.starlette.form``.

    Give the class to ``APIRouter(route_class=...)``, or set ``app.router.route_class``. Parameters
    of type ``UploadFile``, and the files of ``await request.form()``, are then
    ``bytepool.starlette.PooledFile``s. All else, and the OpenAPI document, stays as it is. To
    change a class attribute, inherit from it.

    If the pool has a budget (``max_bytes``) that is used up, forms wait in line. One without
    Content-Length cannot wait while its buffer grows: it is answered with status 503.
    """

    #: The largest form in bytes, with all its files. A larger one is answered with status 413.
    max_size: ClassVar[int] = MAX_SIZE
    #: Where the memory is taken; None is ``bytepool.default_pool()``.
    pool: ClassVar[Pool | None] = None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what FastAPI calls with a request."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            pooled = _PooledRequest(request.scope, request.receive)
            pooled._route = self
            return await handle(pooled)

        return handler


class _PooledRequest(Request):
    _route: PooledForms

    # Starlette's form() calls this, and keeps the result in _form.
    async def _get_form(self, **limits: Any) -> FormData:
        # It needs python-multipart, which FastAPI does not install.
        from bytepool.starlette import form, is_multipart

        if self._form is None and is_multipart(self):
            route = self._route
            try:
                self._form = await form(self, max_size=route.max_size, pool=route.pool, **limits)
            except PoolExhaustedError as error:
                # FastAPI answers any other error of a form with status 400.
                raise HTTPException(503, "There is no memory left for this form.") from error
        return await super()._get_form(**limits)
