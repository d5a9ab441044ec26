"""Run valgrind's memcheck over the Rust tests and most of the Python tests.

The run fails on an invalid access, on a branch that depends on uninitialised bytes, and on a
definite leak. Findings without a frame of the extension belong to the interpreter or to another
library and are only counted. So are leaks of a single block: PyO3 leaks one block per class, once
per process. A real leak repeats, and loses more blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
RUST = ["bytepool", "bounds", "fuzz_corpus", "ledger", "model", "starved", "stress"]
PYTHON = ["allocator", "blocking", "decay", "evict", "leaks", "lease", "model", "poison", "pool"]
PYTHON += ["reentrancy", "size", "stats", "threads", "tracking", "zero"]
# Left out: tests that start processes, which valgrind does not follow, and variants that run the
# same code of the extension. Under valgrind, a test takes forty times as long.
DESELECT = "python3 or run_python or subprocess or exit or fork or huge or 100 or catch_a_leak"
DESELECT += " or null or by_with or by_dropping or by_pool_view"
DESELECT += " or other_threads_run"  # valgrind runs one thread at a time

# Repeats each call a hundred times, so that a leak loses many blocks.
PLAIN_CALLS = """
from bytepool import MisuseError, Pool
for options in ({}, {"track": "all", "poison": True}, {"zero": "release", "max_bytes": 1 << 30}):
    pool = Pool(64, 1 << 20, 4, **options)
    for n in (0, 100, 5000, 100_000, 2 << 20) * 20:
        alloc = pool.allocate(n)
        view = alloc.bytes()
        view[:] = b"x" * n
        alloc.release()
        del view
        part = pool.view(n)[: n // 2]
        for misuse in (alloc.release, alloc.bytes, lambda: pool.view(-1)):
            try:
                misuse()
            except (MisuseError, ValueError):
                pass
        pool.stats(), pool.tracked(), pool.trim(1000)
"""


def memcheck(command: list[str], environment: dict[str, str], library: str | None) -> Counter[str]:
    """Run a command under valgrind, print its findings, and count them by kind.

    With ``library``, findings without a frame of that library are counted as ``(foreign)``.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        options = ["--leak-check=full", "--show-leak-kinds=definite", "--num-callers=40"]
        options += ["--child-silent-after-fork=yes", "--xml=yes", f"--xml-file={report}"]
        done = subprocess.run(
            ["valgrind", *options, *command],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        found: Counter[str] = Counter()
        for error in ElementTree.parse(report).getroot().iter("error"):
            frames = [frame.findtext("obj", "") for frame in error.iter("frame")]
            if library is not None and not any(library in frame for frame in frames):
                found["(foreign)"] += 1
            elif error.findtext("xwhat/leakedblocks") == "1":
                found["(single block)"] += 1
            else:
                found[error.findtext("kind", "")] += 1
                print(describe(error))
    print(done.stdout.splitlines()[-1] if done.stdout else "", flush=True)
    if done.returncode:
        print(done.stdout[-5000:])
        found["failed"] += 1
    return found


def describe(error: ElementTree.Element) -> str:
    what = error.findtext("xwhat/text") or error.findtext("what")
    frames = [
        f"    {frame.findtext('fn', '?')} in {frame.findtext('obj', '?')}"
        for frame in error.iter("frame")
    ]
    return "\n".join([f"{error.findtext('kind')}: {what}", *frames])


def rust_binaries() -> list[tuple[str, str]]:
    lines = subprocess.run(
        [
            *("cargo", "test", "--locked", "--no-run"),
            *("--lib", "--tests", "--message-format=json"),
        ],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    return [
        (entry["target"]["name"], entry["executable"])
        for entry in found
        if entry.get("executable") and entry["target"]["name"] in RUST
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="only plain calls from Python")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("missing: valgrind (Debian: apt install valgrind)")

    failures = 0

    def report(name: str, found: Counter[str]) -> None:
        nonlocal failures
        counted = sum(count for kind, count in found.items() if not kind.startswith("("))
        failures += counted
        print(f"{name}: {dict(found) or 'nothing'}", flush=True)

    few = {"PROPTEST_CASES": "20", "STRESS_OPERATIONS": "20000"}
    for name, binary in [] if options.short else rust_binaries():
        report(f"Rust, {name}", memcheck([binary, "--test-threads=1"], few, None))
    malloc = {"PYTHONMALLOC": "malloc"}
    if options.short:
        command = [sys.executable, "-c", PLAIN_CALLS]
        report("Python, plain calls", memcheck(command, malloc, "_bytepool"))
    for name in [] if options.short else PYTHON:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=0"]
        command += ["-k", f"not ({DESELECT})", f"tests/test_{name}.py"]
        report(f"Python, {name}", memcheck(command, malloc, "_bytepool"))
    sys.exit(f"{failures} findings" if failures else None)


if __name__ == "__main__":
    main()
