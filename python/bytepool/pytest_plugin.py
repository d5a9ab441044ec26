"""A pytest plugin that fails tests which leave pooled buffers in use.

pytest finds the plugin when bytepool is installed. There are three ways to use it:

- A test that names the fixture ``bytepool_leaks`` is checked, and gets a ``BufferLeaks``.
- The marker ``@pytest.mark.bytepool_leaks`` checks a test, or all tests of a class or a module.
- The ini option ``bytepool_leaks = true`` checks all tests, except those that are marked with
  ``@pytest.mark.bytepool_leaks(check=False)``.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bytepool._bytepool import SharedPool
    from bytepool.tracking import AllocationRecord

__all__ = ["BufferLeaks", "bytepool_leaks"]

_NAME = "bytepool_leaks"  # of the fixture, the marker and the ini option
_raised = pytest.StashKey[bool]()


class BufferLeaks:
    """The buffers that were taken since the test began and are still in use.

    All pools of the process are watched, also those that are older than the test.
    """

    def __init__(self) -> None:
        self.allow()

    @property
    def records(self) -> list[AllocationRecord]:
        """The records of these buffers, oldest first. Each says which code took its buffer."""
        from bytepool import tracking

        return [record for record in tracking.tracked() if record not in self._allowed]

    @property
    def untracked(self) -> int:
        """How many more buffers are in use, without a record.

        These come from pools whose ``track`` is not ``"all"`` because the test said so. They are
        counted by ``Stats.outstanding``. In such a pool, a buffer from before the test that was
        returned since hides one that was taken.
        """
        return sum(self._untracked().values())

    def allow(self) -> None:
        """Allow all buffers that are in use now to outlive the test."""
        from bytepool import _bytepool, tracking

        self._allowed = set(tracking.tracked())
        self._in_use = {pool: pool.outstanding for pool in _bytepool.live_pools()}

    def check(self) -> None:
        """Fail the test now if a buffer is in use that was taken since it began.

        Buffers that only garbage holds are not leaks: the garbage collector runs first.
        """
        __tracebackhide__ = True
        if report := self._report():
            pytest.fail(report)

    def _untracked(self) -> dict[SharedPool, int]:
        from bytepool import _bytepool

        found = {}
        for pool in _bytepool.live_pools():
            more = pool.outstanding - self._in_use.get(pool, 0)
            if more > 0:
                more -= sum(record not in self._allowed for record in pool.tracked())
            if more > 0:
                found[pool] = more
        return found

    def _report(self) -> str:
        """Describe the leaks. The text is empty if there are none."""
        if not self.records and not self._untracked():
            return ""
        gc.collect()
        records, untracked = self.records, self._untracked()
        texts = []
        for record in records:
            origin = "\n".join(record.origin)
            texts.append(f"{record!r}, allocated at (most recent call last):\n{origin}")
        texts += [f"{n} without a record, of {pool!r}" for pool, n in untracked.items()]
        number = len(records) + sum(untracked.values())
        return "\n".join([f"pooled buffers still in use: {number}", *texts]) if texts else ""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    parser.addini(_NAME, "fail every test that leaves pooled buffers in use", "bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker."""
    config.addinivalue_line(
        "markers", f"{_NAME}(check=True): fail the test if it leaves pooled buffers in use"
    )


# Hook wrappers differ between the versions of pluggy. This hook needs none.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Remember whether the test raised an exception."""
    if call.excinfo is not None:
        item.stash[_raised] = True


@pytest.fixture
def bytepool_leaks(request: pytest.FixtureRequest) -> Iterator[BufferLeaks]:
    """Fail the test if buffers that it took are in use at its end, and say which code took them.

    Only a test that passes is checked: the traceback of a failure holds the variables of the test.

    All pools track every buffer during the test, also in child processes, so a handle that is
    dropped without ``release()`` gives a ResourceWarning. Pools that exist before the test get
    their own ``track`` back.
    """
    from bytepool import _bytepool

    test = request.node
    test.stash[_raised] = False
    earlier = set(test.funcargs)
    levels = {pool: pool.track for pool in _bytepool.live_pools()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BYTEPOOL_TRACK", "all")
        for pool in levels:
            pool.track = "all"
        leaks = BufferLeaks()
        yield leaks
    for pool, level in levels.items():
        pool.track = level
    if test.stash[_raised] or not leaks._report():
        return
    # pytest still refers to the values of fixtures that ended before this one.
    for name in set(test.funcargs) - earlier:
        del test.funcargs[name]
    if report := leaks._report():
        pytest.fail(report, pytrace=False)


@pytest.fixture(autouse=True)
def _bytepool_leaks_if_enabled(request: pytest.FixtureRequest) -> None:
    """Set ``bytepool_leaks`` up before all other fixtures of the test, if the test is checked."""
    marker = request.node.get_closest_marker(_NAME)
    enabled = (
        request.config.getini(_NAME) if marker is None else _is_check(*marker.args, **marker.kwargs)
    )
    if enabled or _NAME in request.fixturenames:
        request.getfixturevalue(_NAME)


def _is_check(check: bool = True) -> bool:
    """Read the arguments of the marker."""
    return check
