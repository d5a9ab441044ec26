"""What the servers send and the clients compare, and a certificate for servers."""

from __future__ import annotations

import functools
import random
import ssl
import tempfile
from pathlib import Path

import trustme

SIZES = (64 << 10, 10_000_000)  # bytes


@functools.cache
def value(size: int) -> bytes:
    """Return the same bytes of no pattern in every process."""
    return random.Random(size).randbytes(size)


def write_certificate(folder: str) -> Path:
    """Write a server's certificate and its key into one file."""
    path = Path(folder, "server.pem")
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(write_certificate(folder))
    return context
