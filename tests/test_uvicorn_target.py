"""``Target``: the bytes that it returns are those that a transport filled."""

from __future__ import annotations

import ctypes
import gc
import weakref

import pytest

from bytepool import Pool
from bytepool._bytepool import Target

ABOVE_MALLOC = 1 << 20


def address(buffer: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def test_a_full_target_becomes_the_bytes_without_a_copy() -> None:
    target = Target(ABOVE_MALLOC)
    start = address(target.rest())
    target.rest()[:] = b"a" * ABOVE_MALLOC
    assert target.advance(ABOVE_MALLOC)
    filled = target.finish()
    assert filled == b"a" * ABOVE_MALLOC
    assert id(filled) < start < id(filled) + 64, "the bytes are in the memory that was filled"


def test_a_target_whose_view_is_alive_is_copied() -> None:
    target = Target(3)
    view = target.rest()
    view[:] = b"abc"
    target.advance(3)
    filled = target.finish()
    view[:] = b"xyz"
    assert filled == b"abc"


def test_a_part_is_copied_and_shows_nothing_else() -> None:
    target = Target(10)
    assert target.write(b"abc") == 3
    assert target.filled == 3
    assert target.finish() == b"abc"


def test_a_target_fills_from_the_front_to_the_back() -> None:
    target = Target(6)
    assert target.write(b"ab") == 2
    target.rest()[:2] = b"cd"
    assert not target.advance(2)
    assert target.write(b"efgh") == 2
    assert len(target.rest()) == 0
    assert target.advance(0)
    assert target.finish() == b"abcdef"


def test_a_finished_target_has_nothing_left() -> None:
    target = Target(1)
    target.finish()
    assert target.filled == 0
    for use in (target.rest, target.finish, lambda: target.write(b"a"), lambda: target.advance(0)):
        with pytest.raises(BufferError, match="finished"):
            use()


def test_a_target_does_not_count_more_than_it_has() -> None:
    target = Target(2)
    with pytest.raises(ValueError, match="3 bytes are more than the 2 bytes"):
        target.advance(3)
    assert target.filled == 0


@pytest.mark.parametrize("n", [-1, 2**62, 2**70])
def test_a_target_of_an_impossible_size_is_refused(n: int) -> None:
    with pytest.raises((ValueError, OverflowError, MemoryError)):
        Target(n)


def test_a_target_in_pooled_memory_returns_it() -> None:
    pool = Pool()
    view = pool.view(5)
    target = Target.over(view)
    assert target.write(b"hello") == 5
    assert bytes(view) == b"hello"
    assert target.finish() == b"hello", "a copy: the memory belongs to the view"
    del view
    assert pool.stats().outstanding == 0


def test_a_target_needs_a_writable_buffer() -> None:
    with pytest.raises(TypeError, match="writable"):
        Target.over(b"abc")
    with pytest.raises(TypeError, match="contiguous"):
        Target.over(memoryview(bytearray(4))[::2])


def test_a_target_keeps_nothing_after_its_end() -> None:
    class Buffer(bytearray):
        pass

    buffer = Buffer(3)
    gone = weakref.ref(buffer)
    target = Target.over(buffer)
    del buffer
    assert gone() is not None
    target.finish()
    gc.collect()
    assert gone() is None
