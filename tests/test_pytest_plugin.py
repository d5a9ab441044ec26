"""The fixture ``bytepool``, in test runs of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]


def test_a_test_that_leaves_buffers_out_fails_and_says_where_they_came_from(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        from bytepool import Pool
        old, kept = Pool(track="all"), []
        kept.append(old.view(1))

        def leak(pool):
            kept.append(pool.view(12345))

        def test_leaks(bytepool):
            leak(Pool())

        def test_leaks_from_an_older_pool(bytepool):
            leak(old)

        def test_is_clean(bytepool):
            pool = Pool()
            with pool.allocate(100) as alloc:
                cycle = [alloc.bytes()]
                cycle.append(cycle)
            leak(Pool(track="off"))

        def test_does_not_care():
            leak(Pool())
        """
    )
    result = pytester.runpytest_subprocess("-W", "ignore")
    result.assert_outcomes(passed=4, errors=2)  # a fixture fails after its test has passed
    result.stdout.fnmatch_lines(
        [
            "*1 pooled buffers were left out:",
            "<12345 bytes in use for *",
            "*in leak*",
            "*kept.append(pool.view(12345))*",
        ]
    )


def test_a_test_that_fails_is_not_blamed_for_what_its_traceback_holds(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        from bytepool import Pool

        def test_fails(bytepool):
            view = Pool().view(100)
            assert len(view) == 99

        def test_is_looked_at_again(bytepool):
            pass
        """
    )
    pytester.runpytest_subprocess("-W", "ignore").assert_outcomes(failed=1, passed=1)
