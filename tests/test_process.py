"""Exit with buffers in every state, fork, spawn and subinterpreters."""

from __future__ import annotations

import os
from textwrap import dedent

import pytest
from helpers import repetitions, run_python, run_script


@pytest.mark.parametrize("pool", ["Pool()", "Pool.null()"])
@pytest.mark.parametrize(
    "code",
    [
        "view = pool.view(1 << 20)",
        "alloc = pool.allocate(1 << 20); view = alloc.bytes()",
        "import sys; sys.keep = pool.allocate(1000)",
        "import builtins; builtins.keep = [pool.view(10)]; builtins.keep.append(builtins.keep)",
        "import atexit; alloc = pool.allocate(9); atexit.register(alloc.release)",
        "import atexit; atexit.register(lambda: pool.view(9))",
        "import bytepool; bytepool.keep = pool.view(100)",
        "import ctypes; keep = (ctypes.c_char * 9).from_buffer(pool.view(9))",
    ],
)
def test_exit_with_live_buffers(code: str, pool: str) -> None:
    assert run_python(f"from bytepool import Pool\npool = {pool}\n{code}\nprint('end')") == "end\n"


def test_exit_with_finalizers_that_use_the_pool() -> None:
    code = """
        import bytepool
        pool = bytepool.Pool()

        class Late:
            def __init__(self):
                self.pool, self.alloc = pool, pool.allocate(5000)
                self.me = self
            def __del__(self):
                self.alloc.release()
                self.view = self.pool.view(5000)
                self.alloc.allocate(100)

        late, garbage = Late(), Late()
        del garbage
        print("end")
    """
    assert run_python(code) == "end\n"


def test_exit_while_daemon_threads_use_the_pool() -> None:
    code = """
        import threading, time, bytepool
        pool = bytepool.Pool()

        def work():
            alloc = pool.allocator()
            while True:
                alloc.allocate(10_000)[:5] = b"hello"
                pool.view(100_000)
                alloc.release()

        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        print("end")
    """
    assert run_python(code) == "end\n"


STATES = {
    "held": "alloc = pool.allocate(5000)",
    "viewed": "alloc = pool.allocate(5000); view = alloc.bytes()",
    "deferred": "alloc = pool.allocate(5000); view = alloc.bytes(); alloc.release()",
    "returned": "alloc = pool.allocate(5000); alloc.release()",
    "closed": "alloc = pool.allocate(5000); pool.close()",
    "orphaned": "alloc = pool.allocate(5000); pool = None",
    "mapped": "alloc = pool.allocate(1 << 20); view = alloc.bytes()",
    "transient": "view = pool.view(64 << 20)",
}
PLACES = {
    "a global": "keep = globals()",
    "a cycle": "keep = [alloc, view, pool]; keep.append(keep); del keep",
    "a class": "class Keep: kept = alloc, view, pool",
    "another module": "import string; string.keep = alloc, view, pool",
    "a thread": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(0.05,), kwargs={}).start()\n"
        "threading.Thread(target=lambda *kept: time.sleep(0.1), args=(alloc, view, pool)).start()"
    ),
    "atexit": (
        "import atexit\n"
        "atexit.register(lambda *kept: kept[1] and bytes(kept[1][:9]), alloc, view, pool)"
    ),
    "a finalizer": (
        "class Last:\n"
        "    kept = alloc, view, pool\n"
        "    def __del__(self):\n"
        "        alloc, view, pool = self.kept\n"
        "        if alloc: alloc.__exit__(None, None, None)\n"
        "        if view: view[:1] = b'x'\n"
        "last = Last()"
    ),
    "a finalizer of a weak reference": (
        "import weakref\n"
        "class Thing: pass\n"
        "thing = Thing()\n"
        "weakref.finalize(thing, lambda *kept: None, alloc, view, pool)"
    ),
}
OPTIONS = ["", "track='all', poison=True", "zero='release', max_bytes=1 << 30, idle_timeout=0.01"]


@pytest.mark.parametrize("options", OPTIONS)
def test_exit_with_buffers_in_every_state_held_by_every_place(options: str) -> None:
    """Each case runs in a forked child that shuts its interpreter down in the usual way."""
    code = """
        import os, sys, warnings
        from bytepool import Pool
        warnings.simplefilter("ignore")
        for state in STATES.values():
            for place in PLACES.values():
                child = os.fork()
                if child == 0:
                    alloc = view = None
                    pool = Pool(OPTIONS)
                    exec(state)
                    exec(place)
                    sys.exit(7)
                _, status = os.waitpid(child, 0)
                if os.waitstatus_to_exitcode(status) != 7:
                    print(f"{status} after: {state}; {place}")
        print("end")
    """
    names = f"STATES, PLACES = {STATES!r}, {PLACES!r}\n"
    assert run_python(names + dedent(code).replace("OPTIONS", options)) == "end\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_have_pools_of_their_own(method: str) -> None:
    """Spawned workers import a new pool, and forked ones use a copy of the parent's."""
    code = """
        import multiprocessing, pickle, sys, warnings
        import bytepool

        pool = bytepool.Pool(64, 1 << 20, 4)

        def work(message):
            with pool.allocate(len(message)) as alloc:
                alloc.bytes()[:] = message[::-1]
                return pickle.PickleBuffer(alloc.bytes()).raw().tobytes(), pool.stats().outstanding

        if __name__ == "__main__":
            warnings.simplefilter("ignore", DeprecationWarning)
            kept = pool.view(1000)
            kept[:] = b"k" * 1000
            messages = [bytes([i]) * 5000 + b"end" for i in range(20)]
            with multiprocessing.get_context(METHOD).Pool(2) as workers:
                for message, (reply, in_use) in zip(messages, workers.map(work, messages)):
                    assert reply == message[::-1]
                    assert in_use == (2 if METHOD == "fork" else 1)
            assert kept == b"k" * 1000 and pool.stats().outstanding == 1
            try:
                pickle.dumps(kept)
            except TypeError:
                print("end")
    """
    assert run_script(f"METHOD = {method!r}\n{dedent(code)}") == "end\n"


def test_subinterpreter_is_refused_or_works_on_its_own() -> None:
    code = """
        try:
            import _interpreters as interpreters  # from 3.13 on
        except ImportError:
            import _xxsubinterpreters as interpreters
        import bytepool
        keep = bytepool.Pool().view(10)
        other = interpreters.create()
        source = (
            "try:\\n"
            "    import bytepool\\n"
            "    assert bytepool.Pool().view(5) == bytes(5)\\n"
            "except ImportError as error:\\n"
            "    assert 'subinterpreter' in str(error) or 'interpreter' in str(error), error\\n"
        )
        if hasattr(interpreters, "exec"):
            failed = interpreters.exec(other, source)
            assert failed is None, failed
        else:
            interpreters.run_string(other, source)
        interpreters.destroy(other)
        assert keep == bytes(10)
        print("end")
    """
    assert run_python(code) == "end\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_with_live_buffers_while_threads_use_the_pool() -> None:
    """The child has its own copy of the pool and of every buffer, and no lock in it is held."""
    code = """
        import os, signal, sys, threading, time, warnings
        import bytepool

        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        sys.setswitchinterval(1e-5)
        pool = bytepool.Pool(4096, 1 << 20, 4)
        stop = False

        def work():
            alloc = pool.allocator()
            while not stop:
                alloc.allocate(10_000)[:5] = b"hello"
                alloc.release()
                pool.stats()
                pool.trim()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        alloc = pool.allocate(5000)
        view = alloc.bytes()
        view[:] = b"p" * 5000
        try:
            for i in range(FORKS):
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        signal.alarm(20)  # a lock that nobody releases would block it forever
                        assert view == b"p" * 5000
                        view[:] = b"c" * 5000
                        outstanding = pool.stats().outstanding
                        for _ in range(20):
                            with pool.allocate(5000) as mine:
                                mine.bytes()[:] = b"x" * 5000
                            assert view == b"c" * 5000
                        assert pool.stats().outstanding == outstanding
                        del view
                        alloc.release()
                        assert pool.stats().outstanding == outstanding - 1
                        status = 0
                    finally:
                        os._exit(status)
                _, status = os.waitpid(child, 0)
                assert status == 0, (i, status)
                assert view == b"p" * 5000
        finally:
            stop = True  # or the threads would run on after a failure
        for thread in threads:
            thread.join()
        del view
        alloc.release()
        assert pool.stats().outstanding == 0
        print("end")
    """
    forks = repetitions(short=50, long=1000)
    assert run_python(f"FORKS = {forks}\n{dedent(code)}", timeout=60 + forks) == "end\n"
