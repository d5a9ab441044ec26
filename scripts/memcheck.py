"""valgrind's memcheck over the Rust tests and a broad part of the Python ones.

No invalid access, no jump on bytes that were never written, no definite loss. Of what the
interpreter and other libraries do, only that counts in which the extension has a part: a frame of
its own. A loss of one block is made once in a process (PyO3 has one a class, and a thread's name
is another); what is lost again and again is more.
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
# Without what starts processes of its own, which are not looked into, and one way of several that
# come to the same in the extension, for all of this is forty times as slow.
DESELECT = "python3 or run_python or subprocess or exit or fork or huge or 100 or catch_a_leak"
DESELECT += " or null or by_with or by_dropping or by_pool_view"
DESELECT += " or other_threads_run"  # there they take turns

# A hundred of each, so that what is lost each time is many blocks.
SHORT = """
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
        pool.stats(), pool.outstanding(), pool.trim(1000)
"""


def memcheck(command: list[str], environment: dict[str, str], ours: str | None) -> Counter[str]:
    """Run it under valgrind; return what was found, by kind."""
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
            if ours is not None and not any(ours in frame for frame in frames):
                found["(others' own)"] += 1
            elif error.findtext("xwhat/leakedblocks") == "1":
                found["(one block, once)"] += 1
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
            *("cargo", "test", "--locked", "--no-default-features", "--no-run"),
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
    parser.add_argument(
        "--short", action="store_true", help="one file of Rust, and the plain calls of Python"
    )
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("missing: valgrind (Debian: apt install valgrind)")

    failures = 0

    def report(name: str, found: Counter[str]) -> None:
        nonlocal failures
        ours = sum(count for kind, count in found.items() if not kind.startswith("("))
        failures += ours
        print(f"{name}: {dict(found) or 'nothing'}", flush=True)

    few = {"PROPTEST_CASES": "20", "STRESS_OPERATIONS": "20000"}
    for name, binary in [] if options.short else rust_binaries():
        report(f"Rust, {name}", memcheck([binary, "--test-threads=1"], few, None))
    malloc = {"PYTHONMALLOC": "malloc"}
    if options.short:
        command = [sys.executable, "-c", SHORT]
        report("Python, in short", memcheck(command, malloc, "_bytepool"))
    for name in [] if options.short else PYTHON:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=0"]
        command += ["-k", f"not ({DESELECT})", f"tests/test_{name}.py"]
        report(f"Python, {name}", memcheck(command, malloc, "_bytepool"))
    sys.exit(f"{failures} findings" if failures else None)


if __name__ == "__main__":
    main()
