"""Libraries that read through asyncio's streams, and through ours after ``streams.install()``.

They get values from servers in threads of this process. With ``BYTEPOOL_TEST_SERVERS=real`` (``make
test-clients``) they get them from real servers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from libraries import fakes, servers
from libraries.values import SIZES

if TYPE_CHECKING:
    from collections.abc import Iterator

REAL = os.environ.get("BYTEPOOL_TEST_SERVERS") == "real"
# Libraries, by the server that they need.
LIBRARIES = {
    "redis": ["redis-py", "redis-py, hiredis"],
    "nats": ["nats-py"],
    "nats-tls": ["nats-py, TLS"],
    "mysql": ["aiomysql"],
    "amqp": ["aio-pika"],
    "none": ["hypercorn"],
}


@pytest.fixture(scope="module", params=LIBRARIES)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    name = request.param
    if name == "none":
        yield name, 0
    elif REAL:
        with servers.serve(name) as port:
            yield name, port
    else:
        with fakes.serve(name) as port:
            yield name, port


def get(library: str, loop: str, port: int, size: int, connections: int) -> set[str]:
    """Get and compare values in a new process, and return the classes of its stream readers."""
    command = [sys.executable, "-m", "libraries.worker", library, loop, "bytepool"]
    done = subprocess.run(
        [*command, *map(str, (port, size, 2, connections))],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout)["readers"])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("size", SIZES)
def test_library_gets_the_same_values_through_our_streams(
    server: tuple[str, int], loop: str, size: int
) -> None:
    name, port = server
    connections = 3 if size == min(SIZES) else 1
    for library in LIBRARIES[name]:
        readers = get(library, loop, port, size, connections)
        assert readers
        assert all(reader.startswith("bytepool.") for reader in readers)
