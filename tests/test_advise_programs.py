"""The runs that ``bytepool.advise`` adds keep difficult programs working, and see what they do."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from advise_helpers import write

from bytepool.advise import remedies, samples, trace
from bytepool.advise.run import Program, Run, run
from bytepool.advise.stdin import Input

if TYPE_CHECKING:
    from pathlib import Path

# What has broken other profilers: the program, and the lines that allocate in it. Each of them
# prints something.
PROGRAMS = {
    "fork and threads": """
        import os, threading
        thread = threading.Thread(target=lambda: bytearray(300_000))  # line
        thread.start()
        thread.join()
        if not (pid := os.fork()):
            kept = bytearray(400_000)  # line
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """,
    "spawned workers": """
        import multiprocessing
        def work(n):
            return len(bytearray(n))  # line
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(work, [500_000]))
                pool.close()
                pool.join()
    """,
    "exec": """
        import os, sys
        block = bytearray(100_000 + len(sys.argv))  # line
        if len(sys.argv) < 2:
            os.execv(sys.executable, [sys.executable, __file__, "again"])
        print(sys.argv[1:])
    """,
    "os._exit": """
        import os
        block = bytearray(600_000)  # line
        print("last words", flush=True)
        os._exit(0)
    """,
    "daemon thread": """
        import threading, time
        def work():
            while True:
                block = bytearray(200_000)  # line
                time.sleep(0.001)
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
        print("end")
    """,
    "atexit": """
        import atexit
        def last():
            block = bytearray(200_000)  # line
            print("last")
        atexit.register(last)
        atexit.register(print, "first")
    """,
    "its own profiler": """
        import cProfile, sys, threading
        block = bytearray(200_000)  # line
        with cProfile.Profile() as profile:
            sorted(range(10))
        threading.setprofile(lambda *_: None)
        thread = threading.Thread(target=print, args=("in a thread",))
        thread.start()
        thread.join()
    """,
    "python -c as a child": """
        import subprocess, sys
        block = bytearray(200_000)  # line
        print(subprocess.check_output([sys.executable, "-c", "print(1 + 1)"]))
    """,
    "greenlets": """
        import gevent
        def work(n):
            gevent.sleep(0)
            return len(bytearray(n))  # line
        print([job.get() for job in [gevent.spawn(work, 300_000 + n) for n in range(3)]])
    """,
    "uvloop": """
        import asyncio, uvloop
        async def main():
            await asyncio.sleep(0)
            print(len(bytearray(300_000)))  # line
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    """,
    "SystemExit in a thread": """
        import sys, threading
        block = bytearray(200_000)  # line
        thread = threading.Thread(target=sys.exit, args=(3,))
        thread.start()
        thread.join()
        print("goes on")
    """,
}


def run_with(script: Path, folder: Path, task: str) -> tuple[Run, str]:
    """Run a script with a task of ``inside``; return what it cost, and its output."""
    output, more = folder / f"output {task}", {}
    if task:
        more = remedies.inside(task, folder)
    # memray warns on stderr that it does not know greenlets well.
    with output.open("wb") as file, (folder / "errors").open("wb") as errors:
        streams = (None, file.fileno(), errors.fileno())
        found = run(Program([str(script)]), {**os.environ, **more}, streams)
    return found, output.read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_difficult_program_is_traced_and_keeps_its_output(name: str, tmp_path: Path) -> None:
    script = write(tmp_path, PROGRAMS[name])
    plain, output = run_with(script, tmp_path, "")
    assert plain.status == 0, output
    traced, again = run_with(script, tmp_path, "trace")
    assert (traced.status, again) == (0, output)
    wanted = {
        f"{script}:{number}"
        for number, line in enumerate(script.read_text().splitlines(), 1)
        if line.endswith("# line")
    }
    found = {
        f"{site.frame[1]}:{site.frame[2]}" for site in trace.read(tmp_path).sites if site.frame
    }
    assert wanted <= found


def test_samples_show_the_busy_line_and_the_modules(tmp_path: Path) -> None:
    code = """
        import time
        def busy():
            end = time.process_time() + 0.3
            while time.process_time() < end:
                sum(range(10_000))  # the busy line
        busy()
        print("done")
    """
    found, output = run_with(write(tmp_path, code), tmp_path, "sample")
    assert (found.status, output) == (0, "done\n")
    read = samples.read(tmp_path)
    place, share = read.places[0]
    assert place.endswith(("script.py:6 in busy", "script.py:5 in busy"))
    assert share > 0.3
    assert "time" in read.modules


def test_own_sitecustomize_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "import sys; sys.chosen = 'by the user'", "sitecustomize.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import sys, sitecustomize; print(sys.chosen, sitecustomize.__file__)"
    script = write(tmp_path, code)
    outputs = {run_with(script, tmp_path, task)[1] for task in ("", "trace", "sample", "install")}
    assert outputs == {f"by the user {tmp_path / 'sitecustomize.py'}\n"}


def test_blocks_that_shrink_are_not_large(tmp_path: Path) -> None:
    code = """
        import socket
        left, right = socket.socketpair()
        for _ in range(5):
            left.sendall(b"x" * 2_000)
            right.recv(262_144)  # allocates that much, and keeps what came
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        left.sendall(b"x" * 100_000)
        received = right.recv(262_144)
        print(len(received))
    """
    _, output = run_with(write(tmp_path, code), tmp_path, "trace")
    found = trace.read(tmp_path)
    assert 5 <= found.shrunk < 10  # CPython 3.13 has one of its own
    receiving = [site for site in found.sites if ".recv(" in site.text]
    assert [size for site in receiving for size in site.sizes] == [int(output) + 33]
    assert receiving[0].kept == 1
    assert receiving[0].way
    assert receiving[0].way.kind == "bytes"


def test_lifetimes_count_large_blocks(tmp_path: Path) -> None:
    code = """
        window = []
        for number in range(20):
            window.append(bytearray(100_000 + number))
            if len(window) > 3:
                del window[0]
    """
    run_with(write(tmp_path, code), tmp_path, "trace")
    site = next(site for site in trace.read(tmp_path).sites if "bytearray" in site.text)
    assert (len(site.sizes), site.kept, site.lifetime) == (20, 3, 3)


def test_each_block_is_recorded_with_the_thread_that_makes_and_frees_it(tmp_path: Path) -> None:
    code = """
        from concurrent.futures import ThreadPoolExecutor
        blocks = []
        def make():
            blocks.append(bytearray(100_000))
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            make()
            one.submit(make).result()
            other.submit(make).result()
            one.submit(blocks.clear).result()
    """
    run_with(write(tmp_path, code), tmp_path, "trace")
    found = trace.read(tmp_path)
    index = next(at for at, site in enumerate(found.sites) if "bytearray" in site.text)
    made = {event.block: event.thread for event in found.events if event.site == index}
    freed = [event.thread for event in found.events if event.size < 0 and event.block in made]
    main, one, other = made.values()
    assert main == trace.MAIN
    assert len({main, one, other}) == 3
    assert freed == [one] * 3


def test_thread_that_forks_is_the_main_thread_of_the_child(tmp_path: Path) -> None:
    code = """
        import os, threading
        def fork():
            child = os.fork()
            if not child:
                block = bytearray(100_000)
                os._exit(0)
            os.waitpid(child, 0)
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    """
    run_with(write(tmp_path, code), tmp_path, "trace")
    found = trace.read(tmp_path)
    index = next(at for at, site in enumerate(found.sites) if "bytearray" in site.text)
    assert {event.thread for event in found.events if event.site == index} == {trace.MAIN}


def test_server_runs_until_its_load_ends(tmp_path: Path) -> None:
    code = """
        import socket, sys
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with open(sys.argv[1], "w") as file:
                file.write(str(listener.getsockname()[1]))
            while True:
                with listener.accept()[0] as connection:
                    connection.sendall(connection.recv(100))
    """
    client = """
        import os, socket, sys
        port = int(open(sys.argv[1]).read())
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
        assert "REMEDY" not in os.environ
        sys.exit(int(sys.argv[2]))
    """
    script, load = write(tmp_path, code), write(tmp_path, client, "two words.py")
    port = tmp_path / "port"
    for status in (0, 3):
        command = f"'{sys.executable}' '{load}' '{port}' {status}"
        with (tmp_path / "errors").open("wb") as errors:
            streams = (None, None, errors.fileno())
            program = Program([str(script), str(port)], load=command)
            found = run(program, {**os.environ, "REMEDY": "1"}, streams)
        assert found.stopped
        assert not found.failed
        assert found.load_status == status


@pytest.mark.parametrize("stubborn", [False, True])
def test_server_is_stopped_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    code = """
        import signal, socket, sys, time
        if len(sys.argv) > 1:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        try:
            listener = socket.create_server(("127.0.0.1", 0))
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(0)
    """
    if stubborn:
        monkeypatch.setattr("bytepool.advise.run.PATIENCE", 0.1)
    arguments = [str(write(tmp_path, code)), *(["stubborn"] if stubborn else [])]
    # Longer than a Python needs to start on a busy machine: then the time counts from the start.
    found = run(Program(arguments, seconds=1), os.environ)
    assert (found.stopped, found.failed) == (True, False)
    assert (found.status == -signal.SIGKILL) == stubborn
    assert found.listened is not None
    assert 1 <= found.seconds < 10


def test_server_is_stopped_by_sigint_although_its_parent_ignores_it(tmp_path: Path) -> None:
    """A shell script starts its background jobs like this."""
    code = """
        import socket, sys, time
        try:
            listener = socket.create_server(("127.0.0.1", 0))
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(7)
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        found = run(Program([str(write(tmp_path, code))], seconds=1), os.environ)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (found.stopped, found.status) == (True, 7)


def test_costs_include_children_that_the_program_waits_for(tmp_path: Path) -> None:
    code = """
        import subprocess, sys
        code = "block = bytearray(b'x') * 50_000_000; import time; time.sleep(0.2)"
        subprocess.run([sys.executable, "-c", code])
    """
    found = run(Program([str(write(tmp_path, code))]), os.environ)
    assert found.faults > 50_000_000 // 4096
    assert found.peak_rss > 50_000_000


def test_terminal_as_input_is_replaced_in_later_runs(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    saved = os.dup(0)
    try:
        os.dup2(theirs, 0)
        own = Input(tmp_path)
        assert own.first() is None
        again = own.again()
        assert os.read(again, 10) == b""
        os.close(again)
    finally:
        os.dup2(saved, 0)
        for descriptor in (ours, theirs, saved):
            os.close(descriptor)
