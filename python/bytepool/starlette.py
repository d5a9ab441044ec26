"""Multipart forms whose files are in pooled memory, for Starlette and FastAPI.

Starlette writes the files of a form to temporary files. ``form()`` receives the whole form into one
buffer of a pool instead, on any ASGI server:

    from bytepool.starlette import form

    async def upload(request):
        fields = await form(request, max_size=64 << 20)
        digest = hashlib.sha256(fields["file"].view)

For routes of FastAPI, see ``bytepool.fastapi.PooledForms``. Install what this needs with
``pip install 'bytepool[starlette]'`` or ``'bytepool[fastapi]'``.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

try:
    from anyio.lowlevel import checkpoint
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header
    from starlette.datastructures import FormData, Headers, UploadFile
    from starlette.exceptions import HTTPException
except ModuleNotFoundError as _error:
    raise ImportError(
        "bytepool.starlette needs starlette and python-multipart: pip install 'bytepool[starlette]'"
    ) from _error

from bytepool import asgi
from bytepool._frames import MAX_SIZE
from bytepool._view_file import ViewFile

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks
    from starlette.requests import Request

    from bytepool import Pool

__all__ = ["PooledFile", "form"]

# The parser gets copies of so many bytes, which stay in the processor's cache.
_STEP = 64 << 10
# After so many bytes other tasks may run.
_TURN = 1 << 20


class PooledFile(UploadFile):
    """A file of a form, with its content in pooled memory. It is Starlette's UploadFile, read-only.

    ``file`` is a file object of the standard library's kind, which no thread is needed for.
    ``write`` raises io.UnsupportedOperation. The memory is that of the whole form: it is returned
    to the pool when the files are closed or dropped, and nothing refers to their views any more.
    """

    file: ViewFile  # type: ignore[assignment]

    def __init__(self, view: memoryview, filename: str, headers: Headers) -> None:
        file = ViewFile(view)
        super().__init__(file, size=len(view), filename=filename, headers=headers)  # type: ignore[arg-type]

    @property
    def view(self) -> memoryview:
        """The content, without a copy. Raises ValueError after ``close()``."""
        return self.file.getbuffer()

    async def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes as a copy; all that are left if it is negative."""
        return self.file.read(size)

    async def write(self, data: bytes) -> None:
        """Raise io.UnsupportedOperation."""
        self.file.write(data)

    async def seek(self, offset: int) -> None:
        """Go to a position in the file, for ``read``."""
        self.file.seek(offset)

    async def close(self) -> None:
        """Close the file, and let go of its memory."""
        self.file.close()


async def form(
    request: Request,
    *,
    max_size: int = MAX_SIZE,
    max_files: float = 1000,
    max_fields: float = 1000,
    max_part_size: int = 1 << 20,
    pool: Pool | None = None,
) -> FormData:
    """Return the form that a request has as its body. Its files are ``PooledFile``s.

    Args:
        request: a request whose body was not read before, of Starlette or FastAPI.
        max_size: the largest form in bytes, with all its files. A larger one is answered with
            status 413; if its Content-Length says so, before anything is allocated.
        max_files: as of Starlette's ``Request.form``.
        max_fields: as of Starlette's ``Request.form``.
        max_part_size: the largest field in bytes, as of Starlette's ``Request.form``.
        pool: where the memory is taken; None is ``bytepool.default_pool()``.

    The form is received as by ``bytepool.asgi.body``, which says how a budget and a disconnect are
    treated. A form that is no valid one is answered with status 400, as by Starlette. One of
    another kind than multipart/form-data has no files, and is left to Starlette.
    """
    if not is_multipart(request):
        return await request.form(
            max_files=max_files, max_fields=max_fields, max_part_size=max_part_size
        )
    _, options = parse_options_header(request.headers["content-type"])
    if b"boundary" not in options:
        raise HTTPException(400, "Missing boundary in multipart.")
    parts = _Parts(options, max_files, max_fields, max_part_size)
    parts.memory = await asgi.body(request, max_size=max_size, pool=pool)
    try:
        await _parse(parts, options[b"boundary"])
        return FormData(parts.items)
    except FormParserError as error:
        raise HTTPException(400, "Invalid multipart data.") from error
    finally:
        # Or an error would keep the memory.
        parts.memory, parts.items = memoryview(b""), []


def is_multipart(request: Request) -> bool:
    """Whether the body of a request is a form that may have files."""
    return parse_options_header(request.headers.get("content-type"))[0] == b"multipart/form-data"


async def _parse(parts: _Parts, boundary: bytes) -> None:
    parser = MultipartParser(boundary, parts.callbacks())
    for begin in range(0, len(parts.memory), _STEP):
        parser.write(bytes(parts.memory[begin : begin + _STEP]))
        if not begin % _TURN:
            await checkpoint()
    parser.finalize()


class _Parts:
    """Takes the parts of a form from the parser, with the rules and words of Starlette's parser.

    The content of files moves towards the front of ``memory``, where the parser has been already.
    """

    def __init__(
        self, options: dict[bytes, bytes], max_files: float, max_fields: float, max_part_size: int
    ) -> None:
        self.memory = memoryview(b"")
        self.items: list[tuple[str, str | UploadFile]] = []
        self._charset = _codec(options.get(b"charset", b"utf-8").decode("latin-1"))
        self._files_left = self._max_files = max_files
        self._fields_left = self._max_fields = max_fields
        self._max_part_size = max_part_size
        # Where in the memory the present file begins, and where its next bytes go.
        self._begin = self._end = 0
        self._name = ""
        self._filename: str | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_name = self._header_value = b""
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self.on_part_begin,
            "on_header_field": self.on_header_field,
            "on_header_value": self.on_header_value,
            "on_header_end": self.on_header_end,
            "on_headers_finished": self.on_headers_finished,
            "on_part_data": self.on_part_data,
            "on_part_end": self.on_part_end,
        }

    def on_part_begin(self) -> None:
        self._headers = []
        self._value = bytearray()
        self._begin = self._end

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        self._headers.append((self._header_name.lower(), self._header_value))
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(dict(self._headers).get(b"content-disposition"))
        if b"name" not in options:
            raise HTTPException(
                400, 'The Content-Disposition header field "name" must be provided.'
            )
        self._name = self._decode(options[b"name"])
        self._filename = None
        if b"filename" in options:
            self._filename = self._decode(options[b"filename"])
            self._files_left -= 1
            if self._files_left < 0:
                raise HTTPException(
                    400, f"Too many files. Maximum number of files is {self._max_files}."
                )
        else:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise HTTPException(
                    400, f"Too many fields. Maximum number of fields is {self._max_fields}."
                )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._filename is not None:
            place, self._end = self._end, self._end + end - start
            self.memory[place : self._end] = memoryview(data)[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > self._max_part_size:
            raise HTTPException(
                400, f"Part exceeded maximum size of {self._max_part_size // 1024}KB."
            )

    def on_part_end(self) -> None:
        if self._filename is None:
            self.items.append((self._name, self._decode(self._value)))
            return
        view = self.memory[self._begin : self._end]
        file = PooledFile(view, self._filename, Headers(raw=self._headers))
        self.items.append((self._name, file))

    def _decode(self, text: bytes | bytearray) -> str:
        try:
            return text.decode(self._charset)
        except UnicodeDecodeError:
            return text.decode("latin-1")


def _codec(charset: str) -> str:
    try:
        return codecs.lookup(charset).name
    except LookupError:
        return "latin-1"
