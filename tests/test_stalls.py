"""Freeing much memory does not stop the other threads of the process."""

from __future__ import annotations

import pytest
from helpers import run_python

# No thread is interrupted: the counter moves only while the main thread is detached.
SETUP = """
import gc, os, sys, threading, time
from bytepool import Pool

KIB, MIB = 1 << 10, 1 << 20
gc.disable()
sys.setswitchinterval(1000)
count, stop = 0, False

def run():
    global count
    while not stop:
        count += 1
        time.sleep(0.0001)

def idle_pool(n, buffers, **options):
    pool = Pool(64, MIB, buffers, max_idle_bytes=1 << 40, **options)
    views = [pool.view(n) for _ in range(buffers)]
    for view in views:
        view[:] = bytes(n)
    del view
    views.clear()
    assert pool.stats().idle_bytes == buffers * n
    return pool

def others_run_during(prepare, work, attempts=100):
    def measure(prepared):
        # On a busy machine the freeing would end before the counting thread is scheduled. With
        # this policy the thread that frees gets a processor only when no other thread wants it.
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        before = count
        work(*prepared)
        moved.append(count > before)

    moved = []
    for attempt in range(attempts):
        prepared = [prepare()]
        time.sleep(0.01)
        freeing = threading.Thread(target=measure, args=[prepared])
        freeing.start()
        freeing.join()
        if any(moved):
            return True
    return False

thread = threading.Thread(target=run, daemon=True)
thread.start()
"""

CASES = {
    "trim": ("lambda: idle_pool(MIB, 64)", "lambda pool: pool.trim()"),
    "trim of small buffers": ("lambda: idle_pool(KIB, 4096)", "lambda pool: pool.trim()"),
    "close": ("lambda: idle_pool(MIB, 64)", "lambda pool: pool.close()"),
    "decay": (
        "lambda: idle_pool(MIB, 64, idle_timeout=0)",
        "lambda pool: (pool.decay(), pool.decay())",
    ),
    "a pool that is dropped": ("lambda: [idle_pool(MIB, 64)]", "lambda pools: pools.clear()"),
    "a transient view": ("lambda: [written(Pool().view(64 * MIB))]", "lambda views: views.clear()"),
    "a view of a null pool": (
        "lambda: [written(Pool.null().view(64 * MIB))]",
        "lambda views: views.clear()",
    ),
    "a view of a closed pool": ("lambda: [closed_pool_view()]", "lambda views: views.clear()"),
    "a transient view in a collection": (
        "lambda: knot(written(Pool().view(64 * MIB)))",
        "lambda _: gc.collect()",
    ),
    "an eviction": (
        "lambda: full_pool()",
        "lambda pool: pool.view(64 * MIB)",
    ),
}

HELPERS = """
def written(view):
    view[:] = bytes(len(view))
    return view

def closed_pool_view():
    pool = Pool()
    view = written(pool.view(64 * MIB))
    pool.close()
    return view

def knot(view):
    knot = [view]
    knot.append(knot)

def full_pool():
    pool = Pool(MIB, MIB, 64, max_idle_bytes=1 << 40, max_bytes=64 * MIB)
    views = [pool.view(MIB) for _ in range(64)]
    for view in views:
        view[:] = bytes(MIB)
    return pool
"""


@pytest.mark.parametrize("case", CASES)
def test_other_threads_run_while_much_memory_is_freed(case: str) -> None:
    prepare, work = CASES[case]
    code = f"{SETUP}{HELPERS}\nprint(others_run_during({prepare}, {work}))\nstop = True\n"
    assert run_python(code) == "True\n"


def test_few_bytes_are_freed_without_letting_other_threads_run() -> None:
    code = f"""{SETUP}
print(others_run_during(lambda: idle_pool(KIB, 9), lambda pool: pool.trim(), attempts=20))
stop = True
"""
    assert run_python(code) == "False\n"


def test_an_exception_in_flight_survives_the_free_of_a_large_view() -> None:
    code = """
        from bytepool import Pool
        pool = Pool.null()
        def fail():
            view = pool.view(64 << 20)
            raise KeyError("kept")
        for _ in range(3):
            try:
                fail()
            except KeyError as error:
                print(error)
                error.__traceback__ = None
        print(pool.stats().outstanding)
    """
    assert run_python(code) == "'kept'\n" * 3 + "0\n"
