"""Arguments of any kind: each is accepted, or raises the documented error and changes nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import run_python

if TYPE_CHECKING:
    from collections.abc import Callable

    from bytepool import Pool


class Index:
    """An object whose ``__index__`` returns the value, or raises it."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __index__(self) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def calls_with_a_size(pool: Pool) -> list[Callable[[Any], object]]:
    return [pool.view, pool.allocate, pool.allocator().allocate]


@pytest.mark.parametrize("n", [Index(5), np.int64(5), np.uint8(5), type("I", (int,), {})(5)])
def test_every_object_with_an_index_is_an_integer(n: Any, pool: Pool) -> None:
    assert pool.view(n).nbytes == 5
    assert pool.allocate(n).size == 5
    assert pool.allocator().allocate(n).nbytes == 5
    assert pool.view(True).nbytes == 1


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (1.0, TypeError, "'float' object cannot be interpreted as an integer"),
        ("1", TypeError, "'str' object"),
        (b"1", TypeError, "'bytes' object"),
        (None, TypeError, "'NoneType' object"),
        (np.float64(1), TypeError, "float64"),
        (Index("x"), TypeError, r"__index__(\(\) must return an int| returned non-int)"),
        (Index(1.0), TypeError, r"__index__(\(\) must return an int| returned non-int)"),
        (Index(ZeroDivisionError("mine")), ZeroDivisionError, "mine"),
        (Index(OverflowError("mine")), OverflowError, "mine"),
        (-1, ValueError, "n must be 0 or more, not -1"),
        (Index(-7), ValueError, "n must be 0 or more, not -7"),
        (-sys.maxsize - 1, ValueError, "not -9223372036854775808"),
        (-sys.maxsize - 2, ValueError, "not a huge negative number"),
        pytest.param(-(10**5000), ValueError, "not a huge negative number", id="-10**5000"),
        (sys.maxsize + 1, OverflowError, "64 bits.*9223372036854775807"),
        pytest.param(10**5000, OverflowError, "16610 bits", id="10**5000"),
        (Index(2**64), OverflowError, "an integer of 65 bits.*9223372036854775807"),
        (Index(-(2**64)), ValueError, "n must be 0 or more, not a huge negative number"),
        (sys.maxsize, MemoryError, "cannot allocate 9223372036854775807 bytes"),
        (2**62, MemoryError, "cannot allocate 4611686018427387904 bytes"),
    ],
)
def test_invalid_sizes_raise_and_leave_the_pool_unchanged(
    n: Any, error: type[Exception], message: str, pool: Pool
) -> None:
    before = pool.stats()
    for call in calls_with_a_size(pool):
        with pytest.raises(error, match=message):
            call(n)
    assert pool.stats() == before
    assert pool.view(10).nbytes == 10


def test_missing_and_extra_arguments_raise(pool: Pool) -> None:
    for call in calls_with_a_size(pool):
        for arguments in ((), (1, 2)):
            with pytest.raises(TypeError):
                call(*arguments)


def test_size_can_be_a_keyword_argument(pool: Pool) -> None:
    assert pool.view(n=3).nbytes == 3
    assert pool.allocate(n=3).size == 3
    assert pool.allocator().allocate(n=3).nbytes == 3


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_AS")
@pytest.mark.parametrize("pool", ["Pool()", "Pool(max_size=2**39, max_buffers=1)", "Pool.null()"])
def test_too_little_address_space_raises_memory_error(pool: str) -> None:
    """With 512 MiB of address space, 1 GiB never fits, and 100 MiB fit a few times."""
    code = f"""
        import resource
        from bytepool import Pool

        pool = {pool}
        alloc = pool.allocator()
        warm = bytes(pool.view(100))
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
        before = pool.stats()
        for call in (pool.view, pool.allocate, alloc.allocate):
            for n in (1 << 30, 1 << 38, 1 << 46):
                try:
                    call(n)
                except MemoryError as error:
                    assert str(n) in str(error) or n <= pool.max_size, error
                else:
                    raise AssertionError(n)
        assert alloc.size == 0
        assert pool.stats() == before
        held = []
        try:
            while len(held) < 10:
                held.append(pool.view(100 << 20))
        except MemoryError:
            pass
        assert 1 <= len(held) < 6, len(held)
        held.clear()
        assert pool.stats().outstanding == 0
        assert len(pool.view(100 << 20)) == 100 << 20
        print("survived")
    """
    assert run_python(code) == "survived\n"


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_AS")
@pytest.mark.parametrize("pool", ["Pool(32, 64, 4)", "Pool.null()"])
@pytest.mark.parametrize("call", ["view", "allocate"])
def test_no_memory_for_a_message_raises_memory_error(pool: str, call: str) -> None:
    """Not even an error message can be allocated then."""
    code = f"""
        import gc, resource
        from bytepool import Pool

        gc.disable()  # CPython reports on stderr if it has no memory for the collection itself
        pool = {pool}
        held = [None] * 1_000_000
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
        refused = count = 0
        while refused < 100:
            try:
                held[count] = pool.{call}(32)
                count += 1
            except MemoryError:  # of the pool, or because no new int can be allocated
                refused += 1
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        assert pool.stats().outstanding == sum(one is not None for one in held) >= count
        held.clear()
        assert pool.stats().outstanding == 0
        print("survived")
    """
    assert run_python(code) == "survived\n"


def test_failing_to_create_an_object_loses_no_buffer(pool: Pool) -> None:
    """CPython's fault injection fails each allocation of a call in turn."""
    testing = pytest.importorskip("_testcapi", reason="this Python has no test modules")
    alloc = pool.allocator()
    alloc.allocate(100)
    alloc.release()
    before = pool.stats()
    succeeded = 0
    for call in (pool.view, pool.allocate, alloc.allocate):
        for start in range(1, 12):
            result = None
            testing.set_nomemory(start, start + 1)
            try:
                result = call(100)
            except MemoryError:
                pass
            finally:
                testing.remove_mem_hooks()
            if result is None:
                assert pool.stats().dropped == before.dropped
                assert pool.stats().outstanding == alloc.size == 0
            else:
                succeeded += 1
                del result
                if alloc.size:
                    alloc.release()
                before = pool.stats()
    assert 0 < succeeded < 33, "some calls failed, and some succeeded"
