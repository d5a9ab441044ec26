"""The examples run and print what they promise, and the demo detects a single wrong byte."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

import bytepool

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, ""), done
    return done.stdout


def test_every_example_is_tested() -> None:
    basics = {"plain.py", "null_pool.py", "carry_allocator.py", "demo"}
    tested = {*basics, "framed.py", "numpy_frames.py", "demo_http.py"}
    tested |= {"fastapi_upload.py", "starlette_stream.py", "http_client.py"}
    assert {path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__"} == tested


def test_example_plain() -> None:
    output = run("plain.py")
    assert output.startswith("b'first'\nb'second'\nb'hello'\n")
    assert "96 KiB   999       1     1,000" in output


def test_example_null_pool() -> None:
    pooled, error, null, same_error = run("null_pool.py").splitlines()
    assert pooled.endswith("b'stressed'")
    assert null == f"{bytepool.Pool.null()!r}: b'stressed'"
    assert error == same_error
    assert "release() called while" in error


def test_example_carry_allocator() -> None:
    total, stats = run("carry_allocator.py").splitlines()
    assert total == f"total: {sum(i % 256 * 100 for i in range(500))}"
    assert stats.endswith("in use 0, deferred 0")


def test_example_framed() -> None:
    refused, rest = run("framed.py").splitlines()
    assert refused.startswith("refused: a message of 1125899906842624 bytes")
    assert rest == "in use: 0"


needs_fastapi = pytest.mark.skipif(not find_spec("fastapi"), reason="no release for CPython 3.15")


@needs_fastapi
def test_example_fastapi_upload() -> None:
    *stored, refused, rest = run("fastapi_upload.py").splitlines()
    assert stored == [f"stored {size} bytes" for size in (0, 5, 5_000_000)]
    assert refused == "a body of 67108865 bytes is above max_size (67108864 bytes)"
    assert rest == "in use: 0"


@needs_fastapi
def test_example_starlette_stream() -> None:
    *hashed, rest = run("starlette_stream.py").splitlines()
    assert hashed == [f"hashed {size} bytes" for size in (0, 5, 5_000_000)]
    assert rest == "in use: 0"


@needs_fastapi
def test_demo_http_checks_every_byte(tmp_path: Path) -> None:
    for i, size in enumerate((0, 1, 70_000, 3_000_000)):
        (tmp_path / f"{i}.bin").write_bytes(bytes([i + 1]) * size)
    output = run("demo_http.py", "--seconds", "1", "--clients", "2", str(tmp_path))
    assert re.search(r"^stock uvicorn +[1-9][0-9,]* uploads, +0 wrong", output, re.MULTILINE)
    assert re.search(r"^bytepool.uvicorn +[1-9][0-9,]* uploads, +0 wrong", output, re.MULTILINE)
    assert re.search(r"^pooled bodies +[1-9][0-9,]* uploads, +0 wrong", output, re.MULTILINE)
    assert output.splitlines()[-1].startswith("every byte of")


def test_example_numpy_frames() -> None:
    brightest, rest = run("numpy_frames.py").splitlines()
    assert brightest == "brightest: 250.0, its corner: [250, 250, 250]"
    assert rest.startswith("in use: 0")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for i, size in enumerate((0, 1, 5000, 300_000, 3_000_000)):
        (tmp_path / f"{i}.bin").write_bytes(bytes([i + 1]) * size)
    return tmp_path


def test_demo_receives_every_byte(sources: Path) -> None:
    output = run("demo", "--seconds", "2", "--connections", "2", str(sources))
    assert "5 files, 3 MB" in output
    for name in ("asyncio streams", "import changed", "frames"):
        assert re.search(rf"^{name} +100%  [1-9][0-9,]* messages, [1-9]", output, re.MULTILINE)
    assert re.search(r"wrong bytes +│( +0 in 0 messages │){3}", output)
    assert "FAILED" not in output
    assert output.splitlines()[-1].startswith("every byte of")
    assert "\x1b" not in output, "plain text in a log"


def test_demo_fails_if_a_single_byte_is_wrong(sources: Path) -> None:
    """One byte of a file changes after its digest was taken."""
    code = f"""
        import sys
        sys.path.insert(0, "demo")
        import __main__, runpy, senders
        read = senders.read_source

        def read_and_change(path):
            source = read(path)
            if source.size == 5000:
                with open(path, "r+b") as file:
                    file.write(b"!")
            return source

        senders.read_source = read_and_change
        sys.argv = ["demo", "--seconds", "1", "--connections", "1", {str(sources)!r}]
        if __name__ == "__main__":
            runpy.run_path("demo", run_name="__main__")
    """
    script = sources.parent / "change_byte.py"
    script.write_text(textwrap.dedent(code))
    output = run(str(script), status=1)
    for name in ("asyncio streams", "import changed", "frames"):
        wrong = rf"^FAILED: {name}: (\d+) wrong bytes in \1 messages$"
        assert re.search(wrong, output, re.MULTILINE)
    assert "was correct" not in output


def test_demo_reports_a_folder_without_files(tmp_path: Path) -> None:
    assert "no files to send" in run("demo", str(tmp_path), status=2)


def test_demo_reports_wrong_headers_and_broken_connections(sources: Path) -> None:
    (sources.parent / "wrong_client.py").write_text(
        textwrap.dedent("""
            import socket
            from server import HEADER

            def send_files(address, sources, seed, seconds):
                with socket.create_connection(address, timeout=30) as connection:
                    connection.sendall(HEADER.pack(0, sources[0].size + seed) + b"few")
        """)
    )
    code = f"""
        import sys
        sys.path[:0] = ["demo", {str(sources.parent)!r}]
        import senders, runpy, wrong_client

        senders.send_files = wrong_client.send_files
        sys.argv = ["demo", "--seconds", "1", "--connections", "2", {str(sources)!r}]
        if __name__ == "__main__":
            runpy.run_path("demo", run_name="__main__")
    """
    script = sources.parent / "send_wrong.py"
    script.write_text(textwrap.dedent(code))
    output = run(str(script), status=1)
    for name in ("asyncio streams", "import changed", "frames"):
        # frames() counts the header, and reads a message whole before the demo looks at it.
        header = 12 if name == "frames" else 0
        broken = f"{3 + header} bytes read on a total of {3_000_000 + header} expected bytes"
        assert f"FAILED: {name}: a connection broke: {broken}" in output
        assert f"FAILED: {name}: no message arrived" in output
        if name != "frames":
            assert f"FAILED: {name}: a wrong header: file 0, 3000001 bytes" in output
