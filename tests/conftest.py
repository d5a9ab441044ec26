"""Fixtures that several test files share."""

from __future__ import annotations

import functools
import gc
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import bytepool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

settings.register_profile("short", max_examples=50, stateful_step_count=50, deadline=None)
settings.register_profile("long", max_examples=3000, stateful_step_count=80, deadline=None)
settings.load_profile("short")


# The tests say for themselves when they want null pools, and tracking.
for switch in ("BYTEPOOL", "BYTEPOOL_TRACK"):
    os.environ.pop(switch, None)


def pytest_configure(config: pytest.Config) -> None:
    # pytest-run-parallel's, which is not always there.
    config.addinivalue_line("markers", "thread_unsafe(reason): not in several threads at a time")


def pytest_collection_finish() -> None:
    """Spare the collector, which the tests call often, what was there before them."""
    gc.collect()
    gc.freeze()


KINDS = ("pool", "null", "BYTEPOOL=null")


@pytest.fixture(params=KINDS)
def pool(request: pytest.FixtureRequest) -> Iterator[bytepool.Pool]:
    """A small pool, and the two ways to a null pool, which must obey the same rules."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "BYTEPOOL=null":
            patch.setenv("BYTEPOOL", "null")
        yield new_pool(request.param)


def new_pool(kind: str) -> bytepool.Pool:
    if kind == "null":
        return bytepool.Pool.null()
    return bytepool.Pool(min_size=64, max_size=4096, max_buffers=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where pytest-run-parallel runs a test in several threads, each has a pool of its own."""
    if config.getoption("parallel_threads", 1) in (1, "1"):
        return
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        kind = item.callspec.params.get("pool") if hasattr(item, "callspec") else None
        shared = {"lender", "pair"} if kind in KINDS else {"lender", "pair", "pool"}
        if kind in KINDS:
            item.obj = with_a_pool_of_its_own(item.obj, kind)
        if not shared.isdisjoint(item.fixturenames):
            reason = "its threads would share one pool, and it counts, or one connection"
            item.add_marker(pytest.mark.thread_unsafe(reason=reason))


def with_a_pool_of_its_own(test: Callable[..., None], kind: str) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        if "pool" in fixtures:
            fixtures["pool"] = new_pool(kind)
        test(**fixtures)

    return run
