"""A program may import the package's modules anew: autoreloaders, notebooks and test runners do."""

from __future__ import annotations

import pytest
from helpers import run_python

RELOAD = """
import importlib, sys
import bytepool.{module} as module
importlib.reload(module)
"""
DELETE = """
import sys
import bytepool.{module}
del sys.modules["bytepool.{module}"]
del bytepool.{module}
import bytepool.{module}
"""
# Everything but the compiled module, which CPython never loads twice.
DELETE_ALL = """
import sys
import bytepool.{module}
for name in [name for name in sys.modules if name.partition(".")[0] == "bytepool"]:
    del sys.modules[name]
import bytepool.{module}
"""
WAYS = pytest.mark.parametrize(
    "again", [RELOAD, DELETE, DELETE_ALL], ids=["reload", "delete", "delete all"]
)


@WAYS
def test_tracking_finds_buffers_from_before_and_after(again: str) -> None:
    code = f"""
import bytepool
from bytepool import Pool
import bytepool.tracking
before = Pool(track="all", name="before")
views = [before.view(1)]
{again.format(module="tracking")}
from bytepool import tracking
views += [before.view(2), Pool(track="all").view(3)]
assert [record.size for record in tracking.tracked()] == [1, 2, 3], tracking.tracked()
assert [record.size for record in before.tracked()] == [1, 2]
assert all(isinstance(record, tracking.AllocationRecord) for record in before.tracked())
assert "<string>" in before.tracked()[0].origin[-1]
views.clear()
assert tracking.tracked() == []
"""
    assert run_python(code) == ""


@WAYS
def test_dropped_handles_still_warn(again: str) -> None:
    code = f"""
import warnings, bytepool, bytepool.tracking
pool = bytepool.Pool(track="all")
{again.format(module="tracking")}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pool.allocate(10)
assert "dropped without release()" in str(caught[0].message), caught
"""
    assert run_python(code) == ""


@WAYS
def test_snapshots_from_before_and_after_subtract(again: str) -> None:
    code = f"""
import bytepool, bytepool.stats
pool = bytepool.Pool()
before = pool.stats()
{again.format(module="stats")}
pool.view(1)
assert sum(bucket.misses for bucket in (pool.stats() - before).buckets) == 1
"""
    assert run_python(code) == ""


@WAYS
def test_the_default_pool_stays_the_same(again: str) -> None:
    code = f"""
import bytepool
pool = bytepool.default_pool()
{again.format(module="streams")}
import bytepool
assert bytepool.default_pool() is pool
"""
    assert run_python(code) == ""


@WAYS
def test_waiting_works(again: str) -> None:
    code = f"""
import asyncio, bytepool, bytepool._budget
pool = bytepool.Pool(max_size=4096, max_bytes=4096)
{again.format(module="_budget")}
async def main():
    held = pool.allocate(4096)
    task = asyncio.create_task(pool.allocate_async(4096))
    await asyncio.sleep(0)
    held.release()
    return (await task).size
assert asyncio.run(main()) == 4096
try:
    pool.view(8192)
except bytepool.PoolExhaustedError:
    pass
"""
    assert run_python(code) == ""
