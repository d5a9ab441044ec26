"""uvicorn's HTTP protocol, with large request bodies received in place.

``uvicorn --http bytepool.uvicorn:Protocol app:app`` and an unchanged application goes on as before,
at less cost. ``bytepool.asgi`` gives it whole bodies in pooled memory. Install both with
``pip install 'bytepool[uvicorn]'``.

This class handles bodies with a Content-Length of 128 KiB or more. All else is uvicorn's own code,
as with ``--http httptools``.
"""

from __future__ import annotations

import warnings

try:
    from bytepool.uvicorn import _known
except ModuleNotFoundError as _error:
    raise ImportError(
        "bytepool.uvicorn needs uvicorn and httptools: pip install 'bytepool[uvicorn]'"
    ) from _error

__all__ = ["Protocol"]

if _differences := _known.differences():
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Protocol

    warnings.warn(
        "bytepool does not know this version of uvicorn, and uses uvicorn's own protocol instead: "
        f"{', '.join(_differences)}",
        RuntimeWarning,
        stacklevel=2,
    )
else:
    from bytepool.uvicorn._protocol import Protocol  # type: ignore[assignment]
