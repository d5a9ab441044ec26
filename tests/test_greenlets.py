"""A greenlet of gevent that waits for the budget lets the other greenlets of its thread run."""

from __future__ import annotations

import textwrap

import pytest
from helpers import run_python

from bytepool._bytepool import FREE_THREADED

pytest.importorskip("gevent")
pytestmark = pytest.mark.skipif(FREE_THREADED, reason="gevent needs the GIL")

# What all programs begin with: a pool with a budget for one buffer, which is used up.
BEGIN = """
import gevent, sys, threading, time
from gevent import monkey
from bytepool import Pool, PoolClosedError, PoolExhaustedError
pool = Pool(4096, 4096, max_bytes=4096)
held = pool.allocate(4096)
events = []

def take(timeout=20):
    with pool.allocate(4096, timeout=timeout) as alloc:
        events.append(alloc.size)
"""

PROGRAMS = {
    "other greenlets run, and one releases": """
        def release():
            for _ in range(3):
                events.append("runs")
                gevent.sleep(0.001)
            held.release()
        gevent.joinall([gevent.spawn(take), gevent.spawn(release)], raise_error=True)
        assert events == ["runs"] * 3 + [4096], events
    """,
    "waiters are served in their order": """
        waiters = [gevent.spawn(lambda i=i: (take(), events.append(i))) for i in range(20)]
        gevent.sleep(0.01)
        assert pool.stats().waits == 20
        held.release()
        gevent.joinall(waiters, raise_error=True)
        assert [event for event in events if event != 4096] == list(range(20)), events
    """,
    "the main greenlet waits": """
        gevent.spawn_later(0.01, held.release)
        take(timeout=None)
        assert events == [4096]
    """,
    "views and handles wait too": """
        gevent.spawn_later(0.01, held.release)
        view = pool.view(4096, timeout=20)
        alloc = pool.allocator()
        waiter = gevent.spawn(alloc.allocate, 4096, timeout=20)
        gevent.sleep(0.01)
        del view
        assert len(waiter.get()) == alloc.size == 4096
    """,
    "another thread releases": """
        thread = threading.Timer(0.05, held.release)
        thread.start()
        gevent.joinall([gevent.spawn(take)], raise_error=True)
        thread.join()
        assert events == [4096]
    """,
    "a thread without greenlets waits": """
        gevent.get_hub()
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(0.05)
        held.release()
        thread.join()
        assert events == [4096]
    """,
    "each thread has its own hub": """
        def run():
            waiter = gevent.spawn(take)
            gevent.sleep(0.01)
            events.append("runs")
            waiter.get()
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads: thread.start()
        while events.count("runs") < 3: time.sleep(0.001)
        held.release()
        for thread in threads: thread.join()
        assert events == ["runs"] * 3 + [4096] * 3, events
    """,
    "the timeout ends the wait": """
        def expire():
            begin = time.monotonic()
            try:
                take(timeout=0.05)
            except PoolExhaustedError as error:
                assert "1 waiters" not in str(error), error
                events.append(time.monotonic() - begin >= 0.05)
        gevent.joinall([gevent.spawn(expire)], raise_error=True)
        assert events == [True]
    """,
    "a killed greenlet leaves the queue": """
        waiters = [gevent.spawn(take) for _ in range(3)]
        gevent.sleep(0.01)
        gevent.killall(waiters[:2])
        held.release()
        waiters[2].get()
        assert events == [4096]
    """,
    "gevent.Timeout ends the wait": """
        def expire():
            try:
                with gevent.Timeout(0.05):
                    take(timeout=None)
            except gevent.Timeout:
                events.append("timeout")
        gevent.joinall([gevent.spawn(expire)], raise_error=True)
        held.release()
        take(timeout=0)
        assert events == ["timeout", 4096]
    """,
    "closing the pool ends the wait": """
        def closed():
            try:
                take()
            except PoolClosedError:
                events.append("closed")
        waiter = gevent.spawn(closed)
        gevent.sleep(0.01)
        pool.close()
        waiter.get()
        assert events == ["closed"]
    """,
    "garbage is collected while a greenlet waits": """
        import gc
        held.release()
        gc.disable()
        def lose():
            cycle = [pool.view(4096)]
            cycle.append(cycle)
        lose()
        gevent.spawn(take).get()
        assert events == [4096]
    """,
    "a callback of the hub cannot wait": """
        def callback():
            try:
                take()
            except AssertionError as error:  # gevent.exceptions.BlockingSwitchOutError
                events.append(type(error).__name__)
        gevent.get_hub().loop.run_callback(callback)
        gevent.sleep(0.01)
        assert events == ["BlockingSwitchOutError"], events
    """,
}


@pytest.mark.parametrize("patched", [False, True], ids=["", "monkey-patched"])
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_waiting_in_a_greenlet(program: str, patched: bool) -> None:
    if patched and "threading.T" in program:
        pytest.skip("its threads are greenlets then")
    first = "from gevent import monkey; monkey.patch_all()\n" if patched else ""
    end = "\nassert pool.stats().outstanding <= 1\n"
    assert run_python(first + BEGIN + textwrap.dedent(program) + end, "-W", "default") == ""


def test_a_program_that_only_imports_gevent_waits_as_before() -> None:
    code = """
        import sys, threading
        import gevent._hub_local
        from bytepool import Pool
        pool = Pool(4096, 4096, max_bytes=4096)
        held = pool.allocate(4096)
        threading.Timer(0.05, held.release).start()
        pool.view(4096, timeout=20)
        assert gevent._hub_local.get_hub_if_exists() is None
        assert "bytepool._greenlets" not in sys.modules
    """
    assert run_python(code, "-W", "default") == ""
