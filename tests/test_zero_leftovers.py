"""``zero="release"`` leaves no copy of an old message in the memory of the process.

A child process handles a message, and then searches all of its own memory for it.
"""

from __future__ import annotations

import pytest
from helpers import run_python

CODE = """
import gc, os, re, sys
from bytepool import Pool

# The message is computed, so that the only copies are the ones made below.
START, STEP = 17, 29
def canary():
    return bytes((START + STEP * i) % 251 for i in range(32))

def copies():
    # The number of copies in memory, without those that the search itself makes.
    gc.collect()
    mine = canary()
    needle = re.compile(re.escape(mine[:16]) + b"(?=" + re.escape(mine[16:]) + b")")
    del mine
    found = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in list(maps):
            area, rights = line.split()[:2]
            begin, end = (int(number, 16) for number in area.split("-"))
            if not rights.startswith("rw"):
                continue
            while begin < end:
                # Reads 1 MiB at a time. No copy crosses such a border.
                length = min(end - begin, 1 << 20)
                try:
                    memory.seek(begin)
                    chunk = memory.read(length)
                except OSError:
                    break
                found += len(needle.findall(chunk))
                del chunk
                begin += length
    re.purge()
    return found

def use(pool, sizes):
    for n in sizes:
        with pool.allocate(n) as alloc:
            for offset in (0, n // 2, n - 32):
                alloc.bytes()[offset:offset + 32] = canary()
        view = pool.view(n)
        assert canary() not in bytes(view)
        view[-32:] = canary()
        part = view[-40:]
        del view
        if SEEN:
            assert copies() > 0, "the search finds nothing"
        del part

def use_many(pool):
    # Enough buffers that later allocations cannot overwrite all of them once they are freed. Every
    # other one stays in use, so that the C library cannot return the memory to the system.
    views = [pool.view(5000) for _ in range(100)]
    for view in views[::2]:
        view[2500:2532] = canary()
    del view, views[::2]
    return views

sizes = [100, 5000, 70_000, 1 << 20, 3 << 20, 20 << 20]
pool = Pool(ZERO, max_buffers=MAX_BUFFERS)
SEEN = True
use(pool, sizes)
SEEN = False
for _ in range(3):
    use(pool, sizes)
others = use_many(pool)
print(copies() == 0, pool.stats().idle_bytes > 0)
"""


def search(zero: str, max_buffers: int) -> str:
    code = CODE.replace("ZERO", zero).replace("MAX_BUFFERS", str(max_buffers))
    return run_python(code)


@pytest.mark.parametrize("poison", ["", ", poison=True"])
def test_zero_release_leaves_no_copy_of_a_message_in_the_process(poison: str) -> None:
    assert search(f'zero="release"{poison}', 4) == "True True\n"


def test_zero_release_leaves_no_copy_of_a_message_in_freed_memory() -> None:
    assert search('zero="release"', 0) == "True False\n"


@pytest.mark.parametrize("max_buffers", [0, 4])
def test_search_finds_a_message_that_was_not_zeroed(max_buffers: int) -> None:
    assert search('zero="allocate"', max_buffers) == f"False {max_buffers > 0}\n"
