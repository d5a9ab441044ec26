"""Tracking: records of buffers in use, their holders, and warnings about dropped handles."""

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
    """Drop this many handles, all allocated by one line, and return the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            pool.allocate(100)
    assert {warning.category for warning in caught} <= {ResourceWarning}
    return [str(warning.message) for warning in caught]


def allocate_in_a_function(pool: Pool, n: int) -> Allocator:
    return pool.allocate(n)


@pytest.mark.thread_unsafe(reason="the test asserts the name of its thread")
def test_tracked_lists_buffers_in_use_oldest_first() -> None:
    pool = Pool(track="all")
    first = allocate_in_a_function(pool, 5000)
    time.sleep(0.01)
    view = pool.view(100)
    tracked, other = pool.tracked()
    assert (tracked.size, other.size) == (5000, 100)
    assert tracked.age > other.age >= 0
    assert tracked.thread == "MainThread"
    assert tracked.origin[-1].startswith(f'  File "{__file__}", line ')
    assert "in allocate_in_a_function\n    return pool.allocate(n)" in tracked.origin[-1]
    assert "test_tracked_lists" in tracked.origin[-2]
    assert repr(tracked).startswith("<5000 bytes in use for 0.")
    assert "allocate_in_a_function" in repr(tracked)
    first.release()
    del view
    assert pool.tracked() == []


def test_a_pool_lists_its_own_records_and_the_module_those_of_all_pools() -> None:
    first, second = Pool(track="all"), Pool(track="all")
    views = [first.view(1), second.view(2), first.view(3)]
    assert [record.size for record in first.tracked()] == [1, 3]
    assert [record.size for record in second.tracked()] == [2]
    both = {*first.tracked(), *second.tracked()}
    assert [record.size for record in tracking.tracked() if record in both] == [1, 2, 3]
    del first, second
    gc.collect()
    assert both <= set(tracking.tracked())
    views.clear()
    assert both.isdisjoint(tracking.tracked())


def test_records_cannot_be_created() -> None:
    with pytest.raises(TypeError, match="AllocationRecord"):
        tracking.AllocationRecord()


def test_every_way_to_allocate_is_tracked() -> None:
    pool = Pool(track="all")
    alloc = pool.allocator()
    alloc.allocate(1)
    other, view = pool.allocate(2), pool.view(3)
    assert sorted(tracked.size for tracked in pool.tracked()) == [1, 2, 3]
    alloc.release()
    other.release()
    del view
    assert pool.tracked() == []


def test_thread_is_named_while_it_runs() -> None:
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
    (tracked,) = pool.tracked()
    assert tracked.thread == "worker"
    over.set()
    thread.join()
    assert tracked.thread != "worker"
    held.pop().release()


def test_tracking_is_off_by_default_and_lists_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    _alloc = pool.allocate(1)
    assert (pool.track, pool.tracked()) == ("off", [])
    assert Pool.null().track == "off"
    for level in ("off", "sampled", "all", ""):
        monkeypatch.setenv("BYTEPOOL_TRACK", level)
        assert Pool().track == Pool.null().track == (level or "off")
        assert Pool(track="sampled").track == "sampled"
    monkeypatch.setenv("BYTEPOOL_TRACK", "yes")
    with pytest.raises(ValueError, match=r"BYTEPOOL_TRACK must be 'off', .*, not \"yes\""):
        Pool()


def test_track_can_be_set_while_buffers_are_in_use() -> None:
    pool = Pool()
    before = pool.allocate(1)
    pool.track = "all"
    during = pool.allocate(2)
    pool.track = "off"
    after = pool.allocate(3)
    assert [tracked.size for tracked in pool.tracked()] == [2]
    for alloc in (before, during, after):
        alloc.release()
    assert pool.tracked() == []
    with pytest.raises(ValueError, match="track must be 'off', 'sampled' or 'all', not \"on\""):
        pool.track = "on"  # type: ignore[assignment]
    with pytest.raises(TypeError):
        pool.track = None  # type: ignore[assignment]


def test_sampled_tracks_one_buffer_in_128() -> None:
    pool = Pool(track="sampled")
    held = [pool.view(1) for _ in range(1280)]
    assert len(pool.tracked()) == 10
    held.clear()
    assert pool.tracked() == []


def test_dropped_handle_warns_with_its_origin() -> None:
    pool = Pool(track="all", name="uploads")
    (message,) = dropped_handles(pool, 1)
    assert "100 bytes of Pool(" in message
    assert "name='uploads'" in message
    assert "dropped without release()" in message
    assert f'File "{__file__}", line ' in message
    assert "pool.allocate(100)" in message


def test_repeated_warnings_for_one_line_become_rare_and_count() -> None:
    pool = Pool(track="all")
    messages = dropped_handles(pool, 200)
    assert len(messages) == 3
    assert "(10 times so far)" in messages[1]
    assert "(100 times so far)" in messages[2]


def test_released_handles_and_views_do_not_warn() -> None:
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
        (tracked,) = pool.tracked()
        assert tracked.released
        assert "released, still held" in repr(tracked)
        del view
    assert pool.tracked() == []


@pytest.mark.thread_unsafe(reason="holders() refers to all objects for a moment")
def test_holders_describe_what_keeps_a_released_buffer() -> None:
    pool = Pool(track="all")
    alloc = pool.allocate(100)
    kept_here = alloc.bytes()
    record: dict[str, Any] = {"payload": alloc.bytes()[:10]}
    items = [alloc.bytes()]
    alloc.release()
    (tracked,) = pool.tracked()
    holders = "\n".join(tracked.holders())
    assert "variable kept_here of test_holders_describe_what_keeps_a_released_buffer" in holders
    assert "payload in a dict" in holders
    assert "a list at" in holders
    del kept_here, record, items
    assert pool.tracked() == []


def test_holders_does_not_change_the_result_of_locals() -> None:
    pool = Pool(track="all")
    kept_here = pool.view(100)
    mine = locals()
    (tracked,) = pool.tracked()
    assert any("variable kept_here" in holder for holder in tracked.holders())
    assert mine["pool"] is pool
    assert len(kept_here) == 100


@pytest.mark.thread_unsafe(reason="holders() refers to all objects for a moment")
def test_holders_finds_variables_of_a_function_called_holders() -> None:
    pool = Pool(track="all")

    def holders() -> list[str]:
        kept_here = pool.view(100)
        (tracked,) = pool.tracked()
        assert len(kept_here) == 100
        return tracked.holders()

    assert any("variable kept_here of" in holder for holder in holders())
    assert pool.tracked() == []


def test_holders_finds_a_broken_dict() -> None:
    class Broken(dict[Any, Any]):
        def items(self) -> Any:
            raise ZeroDivisionError

        get = __contains__ = __missing__ = items  # type: ignore[assignment]

    pool = Pool(track="all")
    broken = Broken()
    broken["payload"] = pool.view(100)
    (tracked,) = pool.tracked()
    assert any("payload in a dict" in holder for holder in tracked.holders())


def test_record_of_a_thread_without_python_code_has_no_origin() -> None:
    pool = Pool(track="all")
    held: list[memoryview] = []
    _thread.start_new_thread(held.extend, (map(pool.view, [100]),))
    deadline = time.monotonic() + 20
    while not held and time.monotonic() < deadline:
        time.sleep(0.01)
    (tracked,) = pool.tracked()
    assert tracked.origin == []
    assert repr(tracked).endswith("from unknown>")


def test_records_are_equal_only_to_themselves() -> None:
    pool = Pool(track="all")
    _view, _other = pool.view(100), pool.view(100)
    first, second = pool.tracked()
    assert [first, second] == pool.tracked()
    assert first != second
    assert {first, second} == set(pool.tracked())


def test_holders_finds_variables_of_other_threads_under_a_gil() -> None:
    pool = Pool(track="all")
    taken, over = threading.Event(), threading.Event()

    def work() -> None:
        _kept_there = pool.view(1)
        taken.set()
        over.wait()

    thread = threading.Thread(target=work)
    thread.start()
    taken.wait()
    (tracked,) = pool.tracked()
    named = "variable _kept_there of" in "\n".join(tracked.holders())
    over.set()
    thread.join()
    assert named is not FREE_THREADED  # without a GIL, looking could crash


def test_holders_survives_a_dict_that_changes_meanwhile() -> None:
    class Name:
        def __str__(self) -> str:
            record[len(record)] = None
            return "changing"

    pool = Pool(track="all")
    record: dict[object, memoryview | None] = {Name(): pool.view(1), "other": None}
    (tracked,) = pool.tracked()
    assert any("changing in a dict" in holder for holder in tracked.holders())


def test_dropped_handle_that_outlived_its_pool_warns() -> None:
    pool = Pool(track="all")
    alloc = [pool.allocate(100)]
    del pool
    gc.collect()
    with pytest.warns(ResourceWarning, match="100 bytes"):
        alloc.clear()


def test_warning_turned_into_an_error_returns_the_buffer() -> None:
    code = """
        import sys, warnings, bytepool
        warnings.simplefilter("error")
        sys.unraisablehook = lambda unraisable: print(type(unraisable.exc_value).__name__)
        pool = bytepool.Pool(track="all")
        pool.allocate(100)
        print(pool.stats().outstanding, pool.tracked())
    """
    assert run_python(code) == "ResourceWarning\n0 []\n"


def test_interpreter_exits_with_tracked_buffers_in_use() -> None:
    code = """
        import bytepool, warnings
        warnings.simplefilter("ignore")
        pool = bytepool.Pool(track="all")
        alloc, view = pool.allocate(100), pool.view(5)
        print("end")
    """
    assert run_python(code) == "end\n"


def test_handle_dropped_after_the_module_was_cleared_does_not_warn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interpreter that shuts down sets the names in modules to None, private names first."""
    pool = Pool(track="all")
    held = [pool.allocate(100)]
    for name in [name for name in vars(tracking) if name[0] == "_" and name[1] != "_"]:
        monkeypatch.setattr(tracking, name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held.clear()
    assert pool.stats().dropped == 1
