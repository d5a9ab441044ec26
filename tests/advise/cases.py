"""The programs that the advisor is tried on, and how to do as it tells."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = Path(__file__).with_name("programs")
SEND = Path(__file__).with_name("send.py")
KIB, MIB = 1 << 10, 1 << 20
Edit = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """One program with its arguments. ``{port}`` stands for the port of its server."""

    name: str
    arguments: tuple[str, ...]
    allowed: frozenset[str]
    """The verdicts that are right."""
    load: str | None = None
    """The arguments of ``send.py``, if the program is a server."""
    needs_redis: bool = False
    edits: tuple[Edit, ...] = ()
    """What to replace in the program's text to do as told."""
    more_arguments: tuple[str, ...] = ()
    """What to add to the command to do as told."""
    short: tuple[str, ...] = field(default=())
    """Arguments for a short run, if it has one in the test suite."""


def case(name: str, arguments: str, allowed: str, **more: object) -> Case:
    return Case(name, tuple(arguments.split()), frozenset(allowed.split()), **more)  # type: ignore[arg-type]


STREAMS: tuple[Edit, ...] = (
    (
        "import asyncio\nimport sys\n",
        "import asyncio\nimport sys\n\nfrom bytepool import streams\n",
    ),
    ("asyncio.start_server", "streams.start_server"),
)
INSTALL: tuple[Edit, ...] = (
    (
        '"""\n\nimport asyncio\n',
        '"""\n\nimport asyncio\nfrom bytepool import streams\nstreams.install()\n',
    ),
)
POOL: tuple[Edit, ...] = (
    (
        "from pathlib import Path\n",
        "from pathlib import Path\n\nfrom bytepool import Pool\n\n{step}\n",
    ),
    ("buffer = bytearray(8_000_000)", "buffer = pool.view(8_000_000)"),
)

CASES = [
    case(
        "asyncio server, 1 MiB",
        "stream_server.py {port}",
        "import",
        load=f"tcp {{port}} {MIB} {MIB} 600",
        edits=STREAMS,
    ),
    case(
        "asyncio server, 2 KiB",
        "order_server.py {port}",
        "stop",
        load=f"orders {{port}} {2 * KIB} {2 * KIB} 10000",
    ),
    case(
        "Starlette on uvicorn, uploads",
        "-m uvicorn upload_app:app --port {port} --log-level warning",
        "import setting",
        load=f"http {{port}} {MIB} {16 * MIB} 100",
        more_arguments=("--http", "bytepool.uvicorn:Protocol"),
    ),
    case(
        "redis-py, values of 10 MB",
        "redis_values.py {port} 30",
        "import setting",
        needs_redis=True,
        edits=INSTALL,
    ),
    case("NumPy, heat on a plate", "heat.py 1000 80", "setting"),
    case("pandas, a report", "sales.py 100000 8", "setting stop"),
    case("OpenCV, thumbnails", "thumbnails.py 20", "setting stop"),
    case("tokenize, of the standard library", "-m tokenize {stdlib}/_pydecimal.py", "stop"),
    case(
        "checksums of files, in threads",
        "checksums.py {stdlib}/email 90",
        "pool",
        edits=POOL,
    ),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def edit(text: str, edits: tuple[Edit, ...], step: Callable[[], str]) -> str:
    """Return the program's text with all replacements. Each must be possible."""
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new.replace("{step}", step()))
    return text
