"""A process's life: exit with buffers in every state, and fork."""

from __future__ import annotations

import os

import pytest
from helpers import run_python


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_with_live_buffers_while_threads_use_the_pool() -> None:
    """The child sees its own copy of every buffer, and of the pool; no lock in it is stuck."""
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
        for i in range(50):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    signal.alarm(20)  # a stuck lock must not hang the child for ever
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
        stop = True
        for thread in threads:
            thread.join()
        del view
        alloc.release()
        assert pool.stats().outstanding == 0
        print("end")
    """
    assert run_python(code) == "end\n"
