"""``python -m bytepool.advise`` leaves the program as it is, and reports what it measured."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from advise.cases import PROGRAMS, SEND, free_port
from advise_helpers import ALLOCATING, advise, plain, write
from helpers import STRICT

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = ("--rounds", "3")

# What a program can know of itself.
CURIOUS = """
    import os, sys

    if __name__ == "__main__":
        print(sys.argv, sys.path, sys.flags, sys._xoptions, sys.executable, __file__, __name__)
        print(sorted(sys.modules), sorted(os.environ.items()), os.getcwd(), os.getpgrp())
        print(sys.stdin.read(), sys.stdout.isatty(), sys.orig_argv, sys.getprofile())
        print("to stderr", file=sys.stderr)
"""


@pytest.mark.parametrize("as_module", [False, True])
def test_program_sees_no_difference(tmp_path: Path, as_module: bool) -> None:
    write(tmp_path, CURIOUS, "curious one.py")
    write(tmp_path, CURIOUS, "curious.py")
    program = ["-m", "curious"] if as_module else ["curious one.py"]
    more = {"cwd": tmp_path, "input": "some\ninput"}
    options = ("-B", "-Xutf8")
    arguments = [*program, "two words", "--seconds", "-m", ""]
    measured = advise(*ROUNDS, *arguments, options=options, **more)
    assert measured.stdout == plain(*options, *arguments, **more).stdout
    assert measured.returncode == 0
    assert measured.stderr.count("to stderr") == 1, "only of the first run"
    assert "Verdict: STOP HERE" in measured.stderr


def test_every_run_gets_the_same_input(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = write(
        tmp_path,
        """
        import sys
        with open(sys.argv[1], "a") as seen:
            seen.write(sys.stdin.read())
        """,
    )
    text = "line\n" * 50_000
    assert advise(*ROUNDS, script, seen, input=text).returncode == 0
    runs, rest = divmod(len(seen.read_text()), len(text))
    assert rest == 0
    assert runs >= 6, "one, one that is sampled, one that is traced, and three rounds"
    seen.unlink()
    (tmp_path / "input").write_text("skipped" + text)
    with (tmp_path / "input").open() as file:
        os.lseek(file.fileno(), len("skipped"), os.SEEK_SET)
        assert advise(*ROUNDS, script, seen, stdin=file).returncode == 0
    assert seen.read_text() == runs * text


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("raise SystemExit(3)", 3, "the program failed with status 3"),
        ("raise SystemExit('text')", 1, "text\nthe program failed with status 1"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os._exit(7)", 7, "the program failed with status 7"),
        ("import os; os.kill(os.getpid(), 9)", 137, "the program was ended by signal 9"),
        ("import os; os.abort()", 134, "the program was ended by signal 6"),
        ("def broken(:", 1, "SyntaxError"),
    ],
)
def test_failing_program_is_reported_with_its_status(
    tmp_path: Path, code: str, status: int, message: str
) -> None:
    done = advise(write(tmp_path, code))
    assert done.returncode == status
    assert message in done.stderr
    assert "Verdict" not in done.stderr


def test_program_that_cannot_run_twice_is_reported(tmp_path: Path) -> None:
    code = "import os, sys; os.mkdir(sys.argv[1])"
    done = advise(*ROUNDS, write(tmp_path, code), tmp_path / "new")
    assert done.returncode == 1
    assert "failed with status 1 when it was run again, so it cannot be measured" in done.stderr
    assert "FileExistsError" in done.stderr


def test_allocating_program_gets_a_verdict_and_files(tmp_path: Path) -> None:
    script = write(tmp_path, ALLOCATING)
    files = ["--json", "figures.json", "--page", "page.html"]
    done = advise(*ROUNDS, *files, script.name, cwd=tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert done.returncode in (0, 10, 12, 13), done.stderr  # the machine may be busy
    assert figures["reachable"] > 0.3
    assert figures["pool"]["hit_rate"] > 0.9
    assert figures["pool"]["call"] == "Pool(max_size=2 << 20)"
    assert len(figures["plain"]) in (3, 6), "more if they differ too much"
    line = figures["lines"][0]
    assert (line["place"], line["count"], line["lifetime"]) == ("script.py:3", 60, 0)
    assert 1_000_000 < line["least"] < 1_000_100, "and what Python adds for debugging"
    assert 1_980_000 < line["most"] < 1_980_100
    assert line["kept"] == 0
    assert "block = bytearray(n)" in done.stderr
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") >= 3
    assert not re.search(r"(src|href)=|@import|url\(", page), "the page loads nothing"
    for text in ("script.py:3", "glibc tunables", figures["reason"][:20]):
        assert text in page


def test_real_server_with_small_messages_stops_here(tmp_path: Path) -> None:
    port = str(free_port())
    load = shlex.join([STRICT[0], str(SEND), "orders", port, "2048", "2048", "100"])
    figures = tmp_path / "figures.json"
    server = PROGRAMS / "order_server.py"
    done = advise(*ROUNDS, "--load", load, "--json", figures, server, port)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the first run was stopped as with Ctrl-C") == 1
    found = json.loads(figures.read_text())
    assert found["verdict"] == "stop"
    assert all(run["load_status"] == 0 for run in found["plain"])
    assert "Most time goes into " in found["reason"]


def test_real_numpy_program_does_not_stop_here(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = advise(*ROUNDS, "--json", figures, PROGRAMS / "heat.py", 1000, 20)
    found = json.loads(figures.read_text())
    assert found["verdict"] in ("setting", "unclear"), done.stderr  # the machine may be busy
    assert done.returncode in (10, 13)
    assert {line["place"].rpartition(":")[2] for line in found["lines"]} >= {"10", "11", "12"}


def test_missing_memray_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    hide = """
        import importlib.util, sys
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "memray" else real(name)
        from bytepool.advise.command import main
        sys.exit(main(sys.argv[1:]))
    """
    done = plain(write(tmp_path, hide, "hide.py"), *ROUNDS, write(tmp_path, "pass", "empty.py"))
    assert done.returncode == 0, done.stderr
    assert "install memray" in done.stderr
    assert "Verdict: STOP HERE" in done.stderr


def test_children_that_cannot_be_traced_are_named(tmp_path: Path) -> None:
    code = "import subprocess; subprocess.run(['sleep', '0.1'], check=True)"
    done = advise(*ROUNDS, write(tmp_path, code))
    assert "allocations of 1 child process(es), which do not run Python" in done.stderr


def test_isolated_interpreter_leaves_out_what_it_forbids(tmp_path: Path) -> None:
    script = write(tmp_path, ALLOCATING)
    done = advise(*ROUNDS, script, options=("-I",))
    assert "the program could not be traced" in done.stderr
    assert "Verdict: " in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_program(tmp_path: Path, number: signal.Signals) -> None:
    script = write(
        tmp_path,
        """
        import signal, sys, time
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, _: sys.exit(40 + number))
        print("ready", flush=True)
        for _ in range(300):  # a signal that comes right before a sleep is handled after it
            time.sleep(0.1)
        """,
    )
    command = [*STRICT, "-m", "bytepool.advise", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as advisor:
        assert advisor.stdout
        assert advisor.stdout.readline() == b"ready\n"
        advisor.send_signal(number)
        assert advisor.wait(20) == 40 + number


def test_ctrl_c_in_a_terminal_reaches_the_program_once(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import signal, sys, time
        count = 0
        def handler(*_):
            global count
            count += 1
        signal.signal(signal.SIGINT, handler)
        print("ready", flush=True)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            time.sleep(0.05)
        sys.exit(50 + count)
        """,
    )
    # The first terminal that the leader of a session opens is the one whose Ctrl-C it gets.
    in_terminal = write(
        tmp_path,
        """
        import os, sys
        terminal = os.open(sys.argv[1], os.O_RDWR)
        for stream in range(3):
            os.dup2(terminal, stream)
        os.execv(sys.argv[2], sys.argv[2:])
        """,
        "in_terminal.py",
    )
    terminal, its_end = os.openpty()
    command = [STRICT[0], str(in_terminal), os.ttyname(its_end), *STRICT, "-m", "bytepool.advise"]
    advisor = subprocess.Popen([*command, str(script)], start_new_session=True)
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 1000)
    os.close(its_end)
    time.sleep(0.2)
    os.write(terminal, b"\x03")
    while True:
        try:
            os.read(terminal, 1000)
        except OSError:
            break
    assert advisor.wait(60) == 51
    os.close(terminal)


def test_closed_streams_stay_closed(tmp_path: Path) -> None:
    script = write(tmp_path, "import sys; sys.exit(60 + [sys.stdin, sys.stdout].count(None))")
    shell = f"'{STRICT[0]}' -m bytepool.advise '{script}' <&- >&-"
    done = subprocess.run(shell, shell=True, check=False, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 62, done.stderr


def test_broken_pipe_ends_the_program_as_usual(tmp_path: Path) -> None:
    script = write(tmp_path, "for _ in range(100_000): print('line')")
    shell = f"'{STRICT[0]}' -m bytepool.advise '{script}' | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], check=False, capture_output=True, timeout=60)
    assert done.stdout == b"line\n"
    assert done.returncode == 1
    assert b"BrokenPipeError" in done.stderr


def test_remedy_that_makes_it_worse_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bytepool.advise import remedies
    from bytepool.advise.run import Program
    from bytepool.advise.study import Study

    code = """
        import os, time
        end = time.process_time() + (0.6 if "SLOW" in os.environ else 0.02)
        while time.process_time() < end:
            pass
        for _ in range(100):
            bytearray(b"x") * 2_000_000
    """
    slow = remedies.Remedy("slow", remedies.SETTING, 0, "", {"SLOW": "1"})
    monkeypatch.setattr(remedies, "allocators", lambda: ([slow], []))
    advice = Study(Program([str(write(tmp_path, code))]), 3, tmp_path).advice()
    assert advice.tried == []
    assert any("slow: dropped after 2 rounds" in one for one in advice.left_out)
