"""What is out, who took it, and who holds it: ``track=``, ``pool.outstanding()``, the warnings."""

from __future__ import annotations

import _thread
import gc
import threading
import time
import warnings
from typing import Any

import pytest
from helpers import run_python

from bytepool import Allocator, Pool, tracking
from bytepool._bytepool import FREE_THREADED


def dropped_handles(pool: Pool, times: int) -> list[str]:
    """Drop so many handles, all of one line, and return the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            pool.allocate(100)
    assert {warning.category for warning in caught} <= {ResourceWarning}
    return [str(warning.message) for warning in caught]


def take_in_a_function_of_its_own(pool: Pool, n: int) -> Allocator:
    return pool.allocate(n)


@pytest.mark.thread_unsafe(reason="it names its thread")
def test_outstanding_lists_what_is_out_the_oldest_first() -> None:
    pool = Pool(track="all")
    first = take_in_a_function_of_its_own(pool, 5000)
    time.sleep(0.01)
    view = pool.view(100)
    tracked, other = pool.outstanding()
    assert (tracked.size, other.size) == (5000, 100)
    assert tracked.age > other.age >= 0
    assert tracked.thread == "MainThread"
    assert tracked.origin[-1].startswith(f'  File "{__file__}", line ')
    assert "in take_in_a_function_of_its_own\n    return pool.allocate(n)" in tracked.origin[-1]
    assert "test_outstanding_lists" in tracked.origin[-2]
    assert repr(tracked).startswith("<5000 bytes out for 0.")
    assert "take_in_a_function_of_its_own" in repr(tracked)
    first.release()
    del view
    assert pool.outstanding() == []


def test_every_way_to_get_bytes_is_tracked() -> None:
    pool = Pool(track="all")
    alloc = pool.allocator()
    alloc.allocate(1)
    other, view = pool.allocate(2), pool.view(3)
    assert sorted(tracked.size for tracked in pool.outstanding()) == [1, 2, 3]
    alloc.release()
    other.release()
    del view
    assert pool.outstanding() == []


def test_a_thread_has_its_name_as_long_as_it_lives() -> None:
    pool = Pool(track="all")
    held: list[Allocator] = []
    taken, over = threading.Event(), threading.Event()

    def work() -> None:
        held.append(pool.allocate(1))
        taken.set()
        over.wait()

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    taken.wait()
    (tracked,) = pool.outstanding()
    assert tracked.thread == "worker"
    over.set()
    thread.join()
    assert tracked.thread != "worker"
    held.pop().release()


def test_off_by_default_and_nothing_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    _alloc = pool.allocate(1)
    assert (pool.track, pool.outstanding()) == ("off", [])
    assert Pool.null().track == "off"
    for level in ("off", "sampled", "all", ""):
        monkeypatch.setenv("BYTEPOOL_TRACK", level)
        assert Pool().track == Pool.null().track == (level or "off")
        assert Pool(track="sampled").track == "sampled"
    monkeypatch.setenv("BYTEPOOL_TRACK", "yes")
    with pytest.raises(ValueError, match=r"BYTEPOOL_TRACK must be 'off', .*, not \"yes\""):
        Pool()


def test_the_level_may_be_changed_while_buffers_are_out() -> None:
    pool = Pool()
    before = pool.allocate(1)
    pool.track = "all"
    during = pool.allocate(2)
    pool.track = "off"
    after = pool.allocate(3)
    assert [tracked.size for tracked in pool.outstanding()] == [2]
    for alloc in (before, during, after):
        alloc.release()
    assert pool.outstanding() == []
    with pytest.raises(ValueError, match="track must be 'off', 'sampled' or 'all', not \"on\""):
        pool.track = "on"  # type: ignore[assignment]
    with pytest.raises(TypeError):
        pool.track = None  # type: ignore[assignment]


def test_sampled_tracks_one_in_128() -> None:
    pool = Pool(track="sampled")
    held = [pool.view(1) for _ in range(1280)]
    assert len(pool.outstanding()) == 10
    held.clear()
    assert pool.outstanding() == []


def test_a_handle_that_is_dropped_gives_a_warning_with_its_origin() -> None:
    pool = Pool(track="all", name="uploads")
    (message,) = dropped_handles(pool, 1)
    assert "100 bytes of Pool(" in message
    assert "name='uploads'" in message
    assert "dropped without release()" in message
    assert f'File "{__file__}", line ' in message
    assert "pool.allocate(100)" in message


def test_the_same_line_is_reported_ever_more_rarely_and_with_a_count() -> None:
    pool = Pool(track="all")
    messages = dropped_handles(pool, 200)
    assert len(messages) == 3
    assert "(10 times by now)" in messages[1]
    assert "(100 times by now)" in messages[2]


def test_what_is_released_or_has_no_handle_gives_no_warning() -> None:
    pool = Pool(track="all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.view(100)
        pool.allocate(100).release()
        with pool.allocate(100):
            pass
        alloc = pool.allocate(100)
        view = alloc.bytes()
        alloc.release()
        (tracked,) = pool.outstanding()
        assert tracked.released
        assert "released, still held" in repr(tracked)
        del view
    assert pool.outstanding() == []


@pytest.mark.thread_unsafe(reason="who looks for holders has all there is, for a moment")
def test_holders_name_what_keeps_a_released_buffer() -> None:
    pool = Pool(track="all")
    alloc = pool.allocate(100)
    kept_here = alloc.bytes()
    record: dict[str, Any] = {"payload": alloc.bytes()[:10]}
    items = [alloc.bytes()]
    alloc.release()
    (tracked,) = pool.outstanding()
    holders = "\n".join(tracked.holders())
    assert "variable kept_here of test_holders_name_what_keeps_a_released_buffer" in holders
    assert "payload in a dict" in holders
    assert "a list at" in holders
    del kept_here, record, items
    assert pool.outstanding() == []


def test_looking_for_holders_leaves_alone_what_locals_returned() -> None:
    pool = Pool(track="all")
    kept_here = pool.view(100)
    mine = locals()
    (tracked,) = pool.outstanding()
    assert any("variable kept_here" in holder for holder in tracked.holders())
    assert mine["pool"] is pool
    assert len(kept_here) == 100


@pytest.mark.thread_unsafe(reason="who looks for holders has all there is, for a moment")
def test_a_function_named_as_ours_is_a_holder_like_any_other() -> None:
    pool = Pool(track="all")

    def holders() -> list[str]:
        kept_here = pool.view(100)
        (tracked,) = pool.outstanding()
        assert len(kept_here) == 100
        return tracked.holders()

    assert any("variable kept_here of" in holder for holder in holders())
    assert pool.outstanding() == []


def test_holders_in_dicts_that_do_not_behave() -> None:
    class Broken(dict[Any, Any]):
        def items(self) -> Any:
            raise ZeroDivisionError

        get = __contains__ = __missing__ = items  # type: ignore[assignment]

    pool = Pool(track="all")
    broken = Broken()
    broken["payload"] = pool.view(100)
    (tracked,) = pool.outstanding()
    assert any("payload in a dict" in holder for holder in tracked.holders())


def test_a_thread_that_runs_no_python_code_has_no_origin() -> None:
    pool = Pool(track="all")
    held: list[memoryview] = []
    _thread.start_new_thread(held.extend, (map(pool.view, [100]),))
    deadline = time.monotonic() + 20
    while not held and time.monotonic() < deadline:
        time.sleep(0.01)
    (tracked,) = pool.outstanding()
    assert tracked.origin == []
    assert repr(tracked).endswith("from unknown>")


def test_two_listings_show_the_same_buffer() -> None:
    pool = Pool(track="all")
    _view, _other = pool.view(100), pool.view(100)
    first, second = pool.outstanding()
    assert [first, second] == pool.outstanding()
    assert first != second
    assert {first, second} == set(pool.outstanding())


def test_variables_of_other_threads_are_named_where_a_gil_stops_them() -> None:
    pool = Pool(track="all")
    taken, over = threading.Event(), threading.Event()

    def work() -> None:
        _kept_there = pool.view(1)
        taken.set()
        over.wait()

    thread = threading.Thread(target=work)
    thread.start()
    taken.wait()
    (tracked,) = pool.outstanding()
    named = "variable _kept_there of" in "\n".join(tracked.holders())
    over.set()
    thread.join()
    assert named is not FREE_THREADED  # where it would crash, sooner or later


def test_holders_may_change_while_they_are_looked_at() -> None:
    class Name:
        def __str__(self) -> str:
            record[len(record)] = None
            return "changing"

    pool = Pool(track="all")
    record: dict[object, memoryview | None] = {Name(): pool.view(1), "other": None}
    (tracked,) = pool.outstanding()
    assert any("changing in a dict" in holder for holder in tracked.holders())


def test_a_buffer_may_outlive_its_pool_and_is_still_reported() -> None:
    pool = Pool(track="all")
    alloc = [pool.allocate(100)]
    del pool
    gc.collect()
    with pytest.warns(ResourceWarning, match="100 bytes"):
        alloc.clear()


def test_a_warning_that_is_an_error_is_reported_and_harms_nothing() -> None:
    code = """
        import sys, warnings, bytepool
        warnings.simplefilter("error")
        sys.unraisablehook = lambda unraisable: print(type(unraisable.exc_value).__name__)
        pool = bytepool.Pool(track="all")
        pool.allocate(100)
        print(pool.stats().outstanding, pool.outstanding())
    """
    assert run_python(code) == "ResourceWarning\n0 []\n"


def test_exit_with_tracked_buffers_out() -> None:
    code = """
        import bytepool, warnings
        warnings.simplefilter("ignore")
        pool = bytepool.Pool(track="all")
        alloc, view = pool.allocate(100), pool.view(5)
        print("end")
    """
    assert run_python(code) == "end\n"


def test_a_handle_dropped_when_the_module_was_taken_apart_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interpreter at its end sets the names of modules to None, the private ones first."""
    pool = Pool(track="all")
    held = [pool.allocate(100)]
    for name in [name for name in vars(tracking) if name[0] == "_" and name[1] != "_"]:
        monkeypatch.setattr(tracking, name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held.clear()
    assert pool.stats().dropped == 1
