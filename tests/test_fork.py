"""What a forked child settles: budgets, waiters and timers of its parent's threads."""

from __future__ import annotations

import os
from textwrap import dedent

import pytest
from helpers import run_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

SETUP = """
import gc, os, signal, threading, time, warnings
import bytepool
from bytepool import Pool, PoolExhaustedError

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point

def in_child(check):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(20)
            check()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("child ended with", status, flush=True)  # os._exit does not flush

def in_a_thread(work):
    started, end = threading.Event(), threading.Event()
    def run():
        held = work()
        started.set()
        end.wait()
        del held
    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    def stop():
        end.set()
        thread.join()
    return stop
"""


def run(code: str) -> str:
    return run_python(SETUP + dedent(code))


def test_budget_held_by_threads_of_the_parent_is_free_in_the_child() -> None:
    code = """
        pool = Pool(1024, 1024, max_bytes=4096)
        own = pool.view(1024)
        del own  # idle in parent and child
        stop = in_a_thread(lambda: [pool.view(1024) for _ in range(4)])
        def check():
            views = [pool.view(1024, timeout=5) for _ in range(4)]
            try:
                pool.view(1)
            except PoolExhaustedError as error:
                assert "4096 of 4096" in str(error), error
            else:
                raise AssertionError
            views.clear()
            assert pool.stats().idle_bytes == 4096
            grandchild = lambda: [pool.view(1024) for _ in range(4)]
            in_child(grandchild)
        in_child(check)
        try:
            pool.view(1)
        except PoolExhaustedError:
            print("the parent's budget is used up")
        stop()
        print(len([pool.view(1024) for _ in range(4)]))
    """
    expected = [
        "child ended with 0",
        "child ended with 0",
        "the parent's budget is used up",
        "4",
    ]
    # The child prints from a copy of the parent's buffer, so flush order is not ours to check.
    assert sorted(run(code).split("\n")) == sorted([*expected, ""])


def test_child_can_return_inherited_buffers_and_keeps_its_budget() -> None:
    code = """
        pool = Pool(1024, 1024, max_bytes=4096)
        views = [pool.view(1024) for _ in range(4)]
        def check():
            own = [pool.view(1024) for _ in range(4)]
            views.clear()
            own.clear()
            pool.trim()
            stats = pool.stats()
            assert (stats.outstanding, stats.idle_bytes) == (0, 0), stats
            for _ in range(3):
                own = [pool.view(1024) for _ in range(4)]
                assert pool.stats().outstanding_bytes == 4096
                own.clear()
        in_child(check)
    """
    assert run(code) == "child ended with 0\n"


def test_waiters_of_the_parent_do_not_block_requests_of_the_child() -> None:
    code = """
        pool = Pool(1024, 4096, max_bytes=4096)
        kept = pool.view(1024)
        waiter = threading.Thread(target=pool.view, args=(4096,), kwargs={"timeout": None})
        waiter.start()
        while not pool.stats().waits:
            time.sleep(0.001)
        def check():
            assert len(pool.view(1024)) == 1024  # it does not yield to the parent's waiter
            pool.close()  # wakes nobody
        in_child(check)
        del kept
        waiter.join()
        print(pool.stats().outstanding)
    """
    assert run(code) == "child ended with 0\n0\n"


def test_in_thread_runs_decay_in_the_child_as_well() -> None:
    code = """
        gc.disable()
        pool = Pool(1024, 1024, idle_timeout=0.05)
        def check():
            pool.view(1024)
            while pool.stats().idle_bytes:
                time.sleep(0.01)
        with bytepool.decay.in_thread(pool):
            in_child(check)
            def leave():
                block.__exit__(None, None, None)  # stops the child's own thread
                names = [thread.name for thread in threading.enumerate()]
                assert names.count("bytepool.decay") == 1, names
            block = bytepool.decay.in_thread(pool)
            block.__enter__()
            in_child(leave)
            block.__exit__(None, None, None)
        in_child(lambda: None)
        print(threading.active_count())
    """
    assert run(code) == "child ended with 0\n" * 3 + "1\n"
