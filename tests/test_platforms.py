"""What other systems lack, taken away here: the package works without it."""

from __future__ import annotations

import pytest
from helpers import run_python

WITHOUT = """
    import os, socket
    unix = socket.AF_UNIX
    del os.fork, os.register_at_fork, socket.AF_UNIX
    import bytepool.decay, bytepool.prometheus, bytepool.streams
    socket.AF_UNIX = unix  # the event loop of this system wakes itself with such a socket
"""


def test_streams_work_without_unix_sockets_and_fork_hooks() -> None:
    code = f"""{WITHOUT}
    import asyncio
    from bytepool import Pool, streams

    data = bytes(range(256)) * 2000

    async def echo(reader, writer):
        writer.write(await reader.readview(len(data)))
        writer.close()
        await writer.wait_closed()
        done.set()

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address)
            assert isinstance(reader, streams.StreamReader)
            writer.write(data)
            assert await reader.read() == data
            writer.close()
            await writer.wait_closed()
            await done.wait()

    done = asyncio.Event()
    with streams.install():
        asyncio.run(main())
    assert not hasattr(streams, "open_unix_connection")
    print(*sorted(name for name in streams.__all__ if "unix" in name), "done")
    """
    assert run_python(code) == "done\n"


def test_budget_and_decay_work_without_fork_hooks() -> None:
    code = f"""{WITHOUT}
    import threading
    from bytepool import Pool, decay

    pool = Pool(1024, 1024, max_bytes=1024, idle_timeout=0.01)
    with decay.in_thread(pool):
        alloc = pool.allocate(1000)
        threading.Timer(0.05, alloc.release).start()
        assert len(pool.view(1000, timeout=20)) == 1000
    print("done")
    """
    assert run_python(code) == "done\n"


@pytest.mark.parametrize("tool", ["advise", "bench"])
def test_tools_that_read_proc_name_the_system_that_they_need(tool: str) -> None:
    code = f"""
    import runpy, sys
    # Python's own modules are of this system: from CPython 3.12, shutil imports others for win32.
    import argparse, importlib.util, pathlib, tempfile
    sys.platform = "win32"
    sys.modules["resource"] = None  # which Windows lacks
    try:
        runpy.run_module("bytepool.{tool}", run_name="__main__")
    except SystemExit as exit:
        print(exit)
    """
    assert run_python(code) == (
        f"bytepool.{tool} needs Linux: it reads /proc (this system: win32)\n"
    )
