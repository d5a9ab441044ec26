"""Fixtures that several test files share."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

import bytepool

settings.register_profile("short", max_examples=50, stateful_step_count=50, deadline=None)
settings.register_profile("long", max_examples=3000, stateful_step_count=80, deadline=None)
settings.load_profile("short")


# The tests say for themselves when they want null pools, and tracking.
for switch in ("BYTEPOOL", "BYTEPOOL_TRACK"):
    os.environ.pop(switch, None)


@pytest.fixture(params=["pool", "null", "BYTEPOOL=null"])
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bytepool.Pool:
    """A small pool, and the two ways to a null pool, which must obey the same rules."""
    if request.param == "null":
        return bytepool.Pool.null()
    if request.param == "BYTEPOOL=null":
        monkeypatch.setenv("BYTEPOOL", "null")
    return bytepool.Pool(min_size=64, max_size=4096, max_buffers=4)
