"""A web service that stores uploads under their checksum."""

import zlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

stored: dict[int, int] = {}


async def upload(request: "Request") -> PlainTextResponse:
    body = await request.body()
    checksum = zlib.crc32(body)
    stored[checksum] = len(body)
    return PlainTextResponse(f"{checksum:08x}")


app = Starlette(routes=[Route("/", upload, methods=["POST"])])
