"""A budget that only garbage holds: a collection frees it for the request that needs it."""

from __future__ import annotations

import asyncio
import gc
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from helpers import KIB, LONG, budget_pool, settle, start_thread, wait_for_waiters

from bytepool import Pool, PoolExhaustedError, streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.thread_unsafe(reason="it turns the garbage collector off")


_monotonic = time.monotonic
_tests = count(1)


@pytest.fixture(autouse=True)
def only_requests_collect(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Turn the automatic collection off, and put the last one an hour into the past."""
    hours = 3600 * next(_tests)
    monkeypatch.setattr(time, "monotonic", lambda: _monotonic() + hours)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Knot:
    """A reference cycle that holds something."""

    def __init__(self, held: object) -> None:
        self.held = held
        self.me = self


@pytest.mark.parametrize("timeout", [0, 5, None])
@pytest.mark.parametrize(
    "request_bytes",
    [
        lambda pool, **options: pool.view(KIB, **options),
        lambda pool, **options: pool.allocate(KIB, **options),
        lambda pool, **options: pool.allocator().allocate(KIB, **options),
    ],
)
def test_refused_request_collects_garbage_first(
    request_bytes: Callable[..., object], timeout: float | None
) -> None:
    pool = budget_pool(1)
    Knot(pool.view(KIB))
    request_bytes(pool, timeout=timeout)
    assert pool.stats().waits == 0


def test_transient_request_collects_garbage_first() -> None:
    pool = Pool(KIB, KIB, max_bytes=64 * KIB)
    Knot(pool.view(64 * KIB))
    pool.view(64 * KIB)


def test_clock_that_is_moved_back_prevents_no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of applications move the clock, for instance with freezegun."""
    pool = budget_pool(1)
    Knot(pool.view(KIB))
    pool.view(KIB)
    monkeypatch.setattr(time, "monotonic", _monotonic)
    Knot(pool.view(KIB))
    pool.view(KIB)


def test_thread_collects_garbage_while_it_waits() -> None:
    pool = budget_pool(1)
    knots = [Knot(pool.view(KIB))]
    thread = start_thread(lambda: pool.view(KIB, timeout=LONG))
    wait_for_waiters(pool, 1)
    knots.clear()
    thread.join(LONG)
    assert not thread.is_alive()
    assert pool.stats().outstanding == 0


def test_task_collects_garbage_before_and_while_it_waits() -> None:
    async def main() -> None:
        pool = budget_pool(1)
        Knot(pool.view(KIB))
        with await pool.allocate_async(KIB):
            pass
        assert pool.stats().waits == 0
        knots = [Knot(pool.view(KIB))]
        task = asyncio.create_task(pool.allocate_async(KIB))
        await settle()
        assert not task.done()
        knots.clear()
        await asyncio.wait_for(task, LONG)

    asyncio.run(main())


def test_stream_collects_garbage_while_it_waits() -> None:
    async def main() -> None:
        pool = budget_pool(1)
        knots: list[Any] = [Knot(pool.view(KIB))]
        reader = streams.StreamReader(pool=pool)
        reader.feed_data(b"x" * KIB)
        task = asyncio.create_task(reader.readview(KIB))
        await settle()
        assert not task.done()
        knots.clear()
        assert await asyncio.wait_for(task, LONG) == b"x" * KIB

    asyncio.run(main())


def test_finalizer_of_garbage_may_use_the_exhausted_pool() -> None:
    class Final(Knot):
        def __del__(self) -> None:
            with pytest.raises(PoolExhaustedError):
                pool.view(KIB)
            refused.append(1)

    refused: list[int] = []
    pool = budget_pool(1)
    Final(pool.view(KIB))
    pool.view(KIB)
    assert refused == [1]


def test_collections_take_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic() + 3600
    collections = []

    def collect() -> None:
        nonlocal now
        now += 2.0
        collections.append(now)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(gc, "collect", collect)
    pool = budget_pool(1)
    in_use = pool.view(KIB)
    for _ in range(1000):
        with pytest.raises(PoolExhaustedError):
            pool.view(KIB)
        now += 1.0
    assert len(collections) == pytest.approx(1000 / 40, abs=1)
    del in_use


def test_request_above_the_whole_budget_collects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", pytest.fail)
    with pytest.raises(PoolExhaustedError, match="whole budget"):
        budget_pool(1).view(2 * KIB)
