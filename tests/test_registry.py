"""``live_pools()``: the extension knows every pool that exists, and no other."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

import bytepool
from bytepool import Pool
from bytepool._bytepool import live_pools


def names() -> list[str]:
    """Return the representations of the pools that these tests create."""
    return [repr(pool) for pool in live_pools() if "registry test" in repr(pool)]


@pytest.mark.thread_unsafe(reason="it lists the pools of all threads")
def test_pool_is_listed_as_long_as_it_or_a_buffer_of_it_exists() -> None:
    assert names() == []
    first = Pool(name="registry test 1", idle_timeout=None)
    second = Pool(name="registry test 2")
    assert names() == [repr(first), repr(second)]
    first.close()
    view = second.view(100)
    expected = [repr(first), repr(second)]
    del second
    assert names() == expected
    del view
    assert names() == expected[:1]
    del first
    assert names() == []


def test_listed_pool_counts_and_tracks_buffers_as_the_pool_does() -> None:
    name = f"counted in {threading.get_ident()}"
    pool = Pool(name=name)
    (listed,) = (each for each in live_pools() if name in repr(each))
    listed.track = "all"
    assert pool.track == "all"
    views = [pool.view(100), pool.view(1 << 30)]
    assert listed.outstanding == 2
    assert listed.tracked() == pool.tracked()
    assert [record.size for record in listed.tracked()] == [100, 1 << 30]
    views.clear()
    assert (listed.outstanding, listed.tracked()) == (0, [])


def test_default_pool_and_null_pools_are_listed() -> None:
    pools = [bytepool.default_pool(), Pool.null()]
    listed = [repr(pool) for pool in live_pools()]
    assert {repr(pool) for pool in pools} <= set(listed)


def test_listing_keeps_no_pool_open() -> None:
    pool = Pool()
    alive = weakref.ref(pool)
    listed = live_pools()
    del pool
    gc.collect()
    assert listed
    assert alive() is None
