"""When memory runs out, calls raise MemoryError and the pool stays usable."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from helpers import run_file, run_python

SETUP = """
import asyncio, resource, sys, threading
from bytepool import Pool, PoolExhaustedError, blocking

KIB, MIB = 1 << 10, 1 << 20
def limit():
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 64 * MIB, resource.RLIM_INFINITY))

def use_up(take):
    kept, refused = [], 0
    while refused < 3:
        try:
            kept.append(take())
        except MemoryError as error:
            assert not isinstance(error, PoolExhaustedError)
            refused += 1
    count = len(kept)
    kept.clear()
    return count

def check(pool):
    stats = pool.stats()
    assert stats.outstanding == 0, stats
    for bucket in stats.buckets:
        assert bucket.hits + bucket.misses == bucket.returned, stats
        assert bucket.returned - bucket.freed - bucket.hits == bucket.depth, stats
"""

# Each case exhausts a limited address space several times, and checks the pool in between.
CASES = {
    "views": """
        limit()
        pool = Pool(max_size=MIB, max_buffers=1000)
        for n in (MIB, 100 * KIB, MIB, 5 * MIB):
            assert use_up(lambda: pool.view(n)) >= 5
            pool.trim()
            check(pool)
    """,
    "handles": """
        limit()
        import warnings
        warnings.simplefilter("ignore")  # for dropped handles
        pool = Pool(max_size=MIB, max_buffers=1000, track="all")
        for _ in range(3):
            assert use_up(lambda: pool.allocate(MIB)) >= 30
            pool.trim()
            check(pool)
            assert pool.tracked() == []
    """,
    "idle memory": """
        limit()
        pool = Pool(max_size=MIB, max_buffers=1000, max_idle_bytes=1 << 40)
        for _ in range(3):
            assert use_up(lambda: pool.allocate(MIB)) >= 30
            idle = pool.stats().idle_bytes
            assert idle >= 30 * MIB
            try:
                pool.view(1 << 50)  # no idle memory is large enough, so none is evicted
            except MemoryError:
                assert pool.stats().idle_bytes == idle
            pool.view(25 * MIB)  # evicts idle memory
            assert pool.stats().idle_bytes < idle
            check(pool)
            pool.trim()
    """,
    "a null pool": """
        limit()
        pool = Pool.null()
        for n in (MIB, 100 * KIB, 5 * MIB):
            assert use_up(lambda: pool.view(n)) >= 5
            check(pool)
    """,
    "a budget": """
        limit()
        pool = Pool(max_size=MIB, max_buffers=1000, max_bytes=1 << 40)
        for _ in range(3):
            assert use_up(lambda: pool.allocate(MIB, timeout=1)) >= 30
            pool.trim()
            check(pool)
        with pool.allocate(MIB), pool.allocate(100):
            assert pool.stats().outstanding == 2
    """,
    "threads": """
        pool = Pool(max_size=MIB, max_buffers=1000)
        counts = []
        limited = threading.Event()
        def work():
            limited.wait()
            for _ in range(3):
                counts.append(use_up(lambda: pool.view(MIB)))
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        limit()  # starting threads takes memory
        limited.set()
        for thread in threads:
            thread.join()
        assert len(counts) == 9 and sum(counts) > 0, counts
        pool.trim()
        check(pool)
        assert use_up(lambda: pool.view(MIB)) >= 20
    """,
    "a message that is too large": """
        limit()
        from bytepool import streams
        async def main():
            pool = Pool()
            reader = streams.StreamReader(pool=pool)
            reader.feed_data(b"x" * 10)
            try:
                await reader.readview(100 * MIB)
            except MemoryError:
                pass
            else:
                raise AssertionError
            assert await reader.readview(10) == b"x" * 10
            check(pool)
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("case", CASES)
def test_memory_error_loses_no_buffer_and_the_pool_stays_usable(case: str) -> None:
    code = f"{SETUP}\n{dedent(CASES[case])}\nprint('end')"
    assert run_python(code) == "end\n"


STARVED = str(Path(__file__).parent / "starved_calls.py")


# Begins generators without memory.
GENERATORS = """
import _testcapi

for n in range(60):
    _testcapi.set_nomemory(n, n + 1)
    try:
        list(x for x in (1, 2))
    except MemoryError:
        pass
    finally:
        _testcapi.remove_mem_hooks()
"""


def test_failed_python_allocation_raises_and_loses_no_buffer() -> None:
    pytest.importorskip("_testcapi", reason="this Python came without its own tests")
    alone = subprocess.run([sys.executable, "-c", GENERATORS], stderr=subprocess.DEVNULL)
    if alone.returncode == -signal.SIGSEGV:
        pytest.skip("CPython 3.12 and 3.13 crash by themselves when they begin a generator")
    assert int(run_file(STARVED, "python")) > 400


def test_failed_allocation_of_the_extension_raises_and_loses_no_buffer(tmp_path: Path) -> None:
    library = str(tmp_path / "failing_malloc.so")
    source = Path(__file__).parent / "failing_malloc.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    assert int(run_file(STARVED, "extension", LD_PRELOAD=library).splitlines()[-1]) > 100
