"""``bytepool_leaks``: the fixture, the marker and the ini option, in test runs of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Return a function that runs a test file in a process of its own."""

    def run(code: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(code)
        return pytester.runpytest_subprocess("-W", "ignore", "--strict-markers", *options)

    return run


OLDER_POOLS = ["OLD", "OFF", "SAMPLED", "NULL", "CLOSED_LATER", "bytepool.default_pool()"]
OLDER_POOLS += ["of_session", "of_module"]


class TestFixture:
    """A test that names the fixture fails if it leaves buffers in use."""

    def test_leak_is_an_error_that_shows_the_allocating_line(self, run: Run) -> None:
        result = run(
            """
            from bytepool import Pool
            kept = []

            def leak(pool):
                kept.append(pool.view(12345))

            def test_leaks(bytepool_leaks):
                leak(Pool())

            def test_without_the_fixture():
                leak(Pool())
            """
        )
        result.assert_outcomes(passed=2, errors=1)  # a fixture fails after its test has passed
        result.stdout.fnmatch_lines(
            [
                "pooled buffers still in use: 1",
                "<12345 bytes in use for *",
                "*in leak*",
                "*view(12345)*",
            ]
        )

    @pytest.mark.parametrize("pool", OLDER_POOLS)
    def test_leak_of_a_pool_older_than_the_test_is_an_error(self, run: Run, pool: str) -> None:
        result = run(
            f"""
            import bytepool, pytest
            OLD, CLOSED_LATER, NULL = bytepool.Pool(), bytepool.Pool(), bytepool.Pool.null()
            OFF, SAMPLED = bytepool.Pool(track="off"), bytepool.Pool(track="sampled")
            SAMPLED.view(1)
            bytepool.default_pool()
            kept = []

            @pytest.fixture(scope="session")
            def of_session():
                return bytepool.Pool()

            @pytest.fixture(scope="module")
            def of_module():
                return bytepool.Pool()

            def test_leaks(bytepool_leaks, of_session, of_module):
                kept.append({pool}.view(12345))
                CLOSED_LATER.close()

            def test_begins_clean(bytepool_leaks): pass
            """
        )
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.fnmatch_lines(
            ["pooled buffers still in use: 1", "<12345 bytes in use for *", "*in test_leaks*"]
        )

    def test_leak_through_a_stream_without_a_pool_is_an_error(self, run: Run) -> None:
        run(
            """
            import asyncio
            from bytepool import default_pool, streams
            default_pool()
            kept = []

            async def read():
                reader = streams.StreamReader()
                reader.feed_data(b"12345")
                kept.append(await reader.readview(5))

            def test_leaks(bytepool_leaks):
                asyncio.run(read())
            """
        ).assert_outcomes(passed=1, errors=1)

    def test_leak_of_a_pool_that_stopped_tracking_is_counted(self, run: Run) -> None:
        result = run(
            """
            from bytepool import Pool
            old, kept = Pool(name="uploads"), []

            def test_leaks(bytepool_leaks):
                kept.append(old.view(1))
                old.track = "off"
                kept.append(old.view(2))
                kept.append(Pool(track="off").view(3))
                assert (len(bytepool_leaks.records), bytepool_leaks.untracked) == (1, 2)
            """
        )
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(
            ["pooled buffers still in use: 3", "<1 bytes *", "1 without a record, of *'uploads'*"]
        )

    def test_clean_test_passes(self, run: Run) -> None:
        run(
            """
            import pytest
            from bytepool import Pool
            old = Pool()
            before = old.view(1)

            @pytest.fixture(scope="module")
            def cached():
                return old.view(2)

            @pytest.fixture
            def message():
                return old.view(3)

            def test_returns_everything(bytepool_leaks, cached, message):
                with Pool().allocate(100) as alloc:
                    cycle = [alloc.bytes()]
                    cycle.append(cycle)

            def test_returns_a_buffer_from_before(bytepool_leaks):
                globals().pop("before")
            """
        ).assert_outcomes(passed=2)

    def test_leak_of_a_fixture_that_is_named_first_is_an_error(self, run: Run) -> None:
        run(
            """
            import pytest
            from bytepool import Pool
            kept = []

            @pytest.fixture
            def leaking():
                kept.append(Pool().view(1))

            def test_leaks(leaking, bytepool_leaks): pass
            """
        ).assert_outcomes(passed=1, errors=1)

    def test_repeated_test_is_checked_if_it_passes(
        self, run: Run, pytester: pytest.Pytester
    ) -> None:
        """As plugins do it that repeat failed tests."""
        pytester.makeconftest(
            """
            from _pytest.runner import runtestprotocol

            def pytest_runtest_protocol(item, nextitem):
                runtestprotocol(item, log=False, nextitem=nextitem)
                item._initrequest()
                runtestprotocol(item, nextitem=nextitem)
                return True
            """
        )
        run(
            """
            from bytepool import Pool
            kept = []

            def test_fails_once(bytepool_leaks):
                kept.append(Pool().view(1))
                assert len(kept) == 2
            """
        ).assert_outcomes(passed=1, errors=1)

    def test_test_that_raised_is_not_checked(self, run: Run) -> None:
        """The traceback holds the variables of the test."""
        run(
            """
            import pytest
            from bytepool import Pool

            def test_fails(bytepool_leaks):
                view = Pool().view(100)
                assert len(view) == 99

            @pytest.mark.xfail(strict=True)
            def test_fails_as_expected(bytepool_leaks):
                view = Pool().view(100)
                assert len(view) == 99

            def test_passes(bytepool_leaks): pass
            """
        ).assert_outcomes(failed=1, passed=1, xfailed=1)

    def test_pools_get_their_tracking_level_back(self, run: Run) -> None:
        run(
            """
            from bytepool import Pool
            pools = [Pool(), Pool(track="sampled"), Pool(track="all"), Pool.null()]

            def test_tracks(bytepool_leaks):
                assert {pool.track for pool in pools} == {"all"} == {Pool().track}

            def test_after():
                assert [pool.track for pool in pools] == ["off", "sampled", "all", "off"]
                assert Pool().track == "off"
            """
        ).assert_outcomes(passed=2)


class TestBufferLeaks:
    """The value of the fixture tells about leaks while the test runs."""

    def test_records_list_the_buffers_taken_since_the_test_began(self, run: Run) -> None:
        run(
            """
            from bytepool import Pool, pytest_plugin
            old = Pool(track="all")
            before = old.view(1)

            def test_records(bytepool_leaks: pytest_plugin.BufferLeaks):
                assert (bytepool_leaks.records, bytepool_leaks.untracked) == ([], 0)
                first, second = old.view(2), Pool().view(3)
                assert [record.size for record in bytepool_leaks.records] == [2, 3]
                assert bytepool_leaks.untracked == 0
                del first
                assert [record.size for record in bytepool_leaks.records] == [3]
            """
        ).assert_outcomes(passed=1)

    def test_check_fails_in_the_middle_of_a_test(self, run: Run) -> None:
        result = run(
            """
            from bytepool import Pool

            def test_leaks(bytepool_leaks):
                bytepool_leaks.check()
                view = Pool().view(12345)
                bytepool_leaks.check()
            """
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [">  *bytepool_leaks.check()", "E*pooled buffers still in use: 1", "E*<12345 bytes *"]
        )

    def test_allowed_buffers_may_outlive_the_test(self, run: Run) -> None:
        result = run(
            """
            from bytepool import Pool
            kept = []

            def test_allows(bytepool_leaks):
                kept.append(Pool().view(1))
                kept.append(Pool(track="off").view(1))
                bytepool_leaks.allow()
                bytepool_leaks.check()

            def test_leaks_after_allowing(bytepool_leaks):
                bytepool_leaks.allow()
                kept.append(Pool().view(12345))
            """
        )
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.fnmatch_lines(["pooled buffers still in use: 1", "<12345 bytes *"])


LEAKING_TESTS = """
import pytest, unittest
from bytepool import Pool
pool, kept = Pool(), []

@pytest.fixture(autouse=True, scope="module")
def cached():
    kept.append(pool.view(1))

@pytest.fixture(autouse=True)
def temporary():
    held = [pool.view(2)]
    yield
    held.clear()

def test_plain():
    kept.append(pool.view(3))

@pytest.mark.bytepool_leaks
def test_marked():
    kept.append(pool.view(3))

@pytest.mark.bytepool_leaks(check=False)
def test_marked_as_unchecked():
    kept.append(pool.view(3))

@pytest.mark.bytepool_leaks
class TestMarked:
    def test_of_a_marked_class(self):
        kept.append(pool.view(3))

    @pytest.mark.bytepool_leaks(check=False)
    def test_unchecked_of_a_marked_class(self):
        kept.append(pool.view(3))

class TestCase(unittest.TestCase):
    def test_of_unittest(self):
        kept.append(pool.view(3))

def test_clean():
    pool.allocate(100).release()
"""


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], {"test_marked", "test_of_a_marked_class"}),
        (
            ["-o", "bytepool_leaks=true"],
            {"test_plain", "test_marked", "test_of_a_marked_class", "test_of_unittest"},
        ),
    ],
    ids=["marker", "ini"],
)
def test_marker_and_ini_option_check_tests_that_do_not_name_the_fixture(
    run: Run, options: list[str], names: set[str]
) -> None:
    result = run(LEAKING_TESTS, *options)
    result.assert_outcomes(passed=7, errors=len(names))
    errors = [line for line in result.outlines if line.startswith("ERROR ")]
    assert {error.split(" - ")[0].rpartition("::")[2] for error in errors} == names
