"""``zero="release"``: no byte of an old message is left in later views, or anywhere in the process.

The process searches all of its own memory for the message that it had.
"""

from __future__ import annotations

import pytest
from helpers import run_python

CODE = """
import gc, os, re, sys
from bytepool import Pool

# Never written down whole, so that the only copies are those that are made below.
START, STEP = 17, 29
def canary():
    return bytes((START + STEP * i) % 251 for i in range(32))

def copies():
    # How often it stands anywhere in memory, but for the pattern's and the search's own.
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
                # So much at a time; a copy across the border counts in neither, and none lies so.
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
    # So many that, freed, not all are overwritten at once by what else there is. Every other one
    # stays out, so that the allocator cannot give all of it back to the system.
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


def left(zero: str, max_buffers: int) -> str:
    code = CODE.replace("ZERO", zero).replace("MAX_BUFFERS", str(max_buffers))
    return run_python(code)


@pytest.mark.parametrize("poison", ["", ", poison=True"])
def test_zero_release_leaves_no_copy_of_a_message_in_the_process(poison: str) -> None:
    assert left(f'zero="release"{poison}', 4) == "True True\n"


def test_zero_release_leaves_no_copy_of_a_message_in_freed_memory() -> None:
    assert left('zero="release"', 0) == "True False\n"


@pytest.mark.parametrize("max_buffers", [0, 4])
def test_search_finds_a_message_that_was_not_zeroed(max_buffers: int) -> None:
    assert left('zero="allocate"', max_buffers) == f"False {max_buffers > 0}\n"
