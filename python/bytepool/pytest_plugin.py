"""A fixture for pytest that fails a test which leaves pooled buffers out.

It comes with the package; a test that wants it names it::

    def test_upload(bytepool):
        ...
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["bytepool"]

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test has failed."""
    report = yield
    item.stash[_failed] = call.when == "call" and report.failed
    return report


@pytest.fixture
def bytepool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test if it leaves buffers out, and say which lines allocated them.

    Pools that are made during the test are tracked (``track="all"``) unless they say otherwise;
    of older ones it sees what they track. Of a test that has failed it says nothing more: the
    traceback holds what its functions held.
    """
    from bytepool import tracking

    monkeypatch.setenv("BYTEPOOL_TRACK", "all")
    before = set(tracking.tracked())
    yield
    if request.node.stash.get(_failed, False):
        return
    gc.collect()  # what is in a cycle is not left out for good
    left = [tracked for tracked in tracking.tracked() if tracked not in before]
    if left:
        origins = "\n".join(
            f"{tracked!r}, allocated at (most recent call last):\n" + "\n".join(tracked.origin)
            for tracked in left
        )
        pytest.fail(f"{len(left)} pooled buffers were left out:\n{origins}", pytrace=False)
