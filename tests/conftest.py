"""Fixtures and settings of all tests."""

from __future__ import annotations

import functools
import gc
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import bytepool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

settings.register_profile("short", max_examples=50, stateful_step_count=50, deadline=None)
settings.register_profile("long", max_examples=3000, stateful_step_count=80, deadline=None)
settings.load_profile("short")


# Tests that want null pools or tracking set these variables themselves.
for variable in ("BYTEPOOL", "BYTEPOOL_TRACK"):
    os.environ.pop(variable, None)


# fastapi, httptools and aiohttp have no release for CPython 3.15 yet.
NEED_FASTAPI = ["*asgi*.py", "*fastapi*.py", "*http*.py", "*starlette*.py", "*uvicorn*.py"]
collect_ignore_glob = [] if find_spec("fastapi") else NEED_FASTAPI


def pytest_configure(config: pytest.Config) -> None:
    # The marker belongs to pytest-run-parallel, which is not always installed.
    config.addinivalue_line("markers", "thread_unsafe(reason): run the test in one thread only")


def pytest_collection_finish() -> None:
    """Exempt all objects that exist by now from garbage collection, which tests run often."""
    gc.collect()
    gc.freeze()


KINDS = ("pool", "null", "BYTEPOOL=null")


@pytest.fixture(params=KINDS)
def pool(request: pytest.FixtureRequest) -> Iterator[bytepool.Pool]:
    """Return a small pool, or a null pool made in one of two ways: the same rules hold."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "BYTEPOOL=null":
            patch.setenv("BYTEPOOL", "null")
        yield new_pool(request.param)


def new_pool(kind: str) -> bytepool.Pool:
    if kind == "null":
        return bytepool.Pool.null()
    return bytepool.Pool(min_size=64, max_size=4096, max_buffers=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under pytest-run-parallel, give each thread of a test a pool of its own."""
    if config.getoption("parallel_threads", 1) in (1, "1"):
        return
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        kind = item.callspec.params.get("pool") if hasattr(item, "callspec") else None
        shared = {"lender", "pair"} if kind in KINDS else {"lender", "pair", "pool"}
        if kind in KINDS:
            item.obj = with_own_pool(item.obj, kind)
        if not shared.isdisjoint(item.fixturenames):
            reason = "its threads would share one pool, whose counters it checks, or one connection"
            item.add_marker(pytest.mark.thread_unsafe(reason=reason))


def with_own_pool(test: Callable[..., None], kind: str) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        if "pool" in fixtures:
            fixtures["pool"] = new_pool(kind)
        test(**fixtures)

    return run
