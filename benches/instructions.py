"""Count the instructions of the hot paths with callgrind, and compare them with the best so far.

Instruction counts repeat exactly, times do not. Each path runs twice, with more loops the second
time. The difference of both counts, divided by the extra loops, excludes the start of the process.
``instructions.json`` has the lowest count that each path ever had. A count that exceeds it by more
than the tolerance is an error, so small losses do not add up. ``--update`` records lower counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BEST = HERE / "instructions.json"
TOLERANCE = 0.02
CORE = ["acquire", "acquire_owned", "transient", "stats"]
PYTHON = {
    "memoryview(existing)": "memoryview(existing)",
    "view": "pool.view(n)",
    "allocate, release": "pool.allocate(n).release()",
    "allocate, bytes, release": "a = pool.allocate(n); a.bytes(); a.release()",
    "with allocate, bytes": "\n        with pool.allocate(n) as a: a.bytes()",
    "reused allocator": "reused.allocate(n); reused.release()",
    "tracked: sampled": "sampled.allocate(n).release()",
    "tracked: all": "tracked.allocate(n).release()",
}
# Views are in use meanwhile, as in a server. Without them, CPython's allocator may take and free a
# page for a single object in each loop, by chance.
SCRIPT = """
import sys
from bytepool import Pool
pool, n, existing = Pool(), 65536, bytearray(65536)
in_use = [pool.view(1) for _ in range(100)]
reused = pool.allocator()
sampled, tracked = Pool(track="sampled"), Pool(track="all")
def run(loops):
    for _ in range(loops): {statement}
def deep(frames, loops):
    deep(frames - 1, loops) if frames else run(loops)
deep(10, int(sys.argv[1]))
"""


def callgrind(command: list[str]) -> int:
    """Return the instructions of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder, "callgrind.out"))
        report = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", *command],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        ).stderr
    counted = re.search(r"Collected : (\d+)", report)
    assert counted, report
    return int(counted[1])


def per_loop(command: list[str], few: int, many: int) -> float:
    """Return the instructions of one loop."""
    counts = [callgrind([*command, str(loops)]) for loops in (few, many)]
    return (counts[1] - counts[0]) / (many - few)


def core_binary() -> str:
    lines = subprocess.run(
        [
            *("cargo", "bench", "--locked", "--no-run"),
            *("--bench", "instructions", "--message-format=json"),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
    ).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    return next(str(entry["executable"]) for entry in found if entry.get("executable"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="record lower counts")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("missing: valgrind (Debian: apt install valgrind)")

    binary = core_binary()
    counts = {f"core: {path}": per_loop([binary, path], 1_000, 11_000) for path in CORE}
    python = f"CPython {platform.python_version().rsplit('.', 1)[0]}"
    for name, statement in PYTHON.items():
        script = [sys.executable, "-c", SCRIPT.format(statement=statement)]
        counts[f"{python}: {name}"] = per_loop(script, 2_000, 7_000)

    best = json.loads(BEST.read_text()) if BEST.exists() else {}
    worse, better = [], []
    for name, count in counts.items():
        change = count / best.get(name, count) - 1
        print(f"{name:40} {count:10,.1f}  {change:+.1%}")
        if change > TOLERANCE:
            worse.append(name)
        elif name not in best or change < -TOLERANCE:
            better.append(name)
    if options.update:
        lower = {
            name: round(min(count, best.get(name, count)), 1) for name, count in counts.items()
        }
        BEST.write_text(json.dumps(best | lower, indent=2) + "\n")
    elif better:
        print(f"lower than ever, or new: {', '.join(better)}; record it with --update")
    if worse:
        sys.exit(
            f"more than {TOLERANCE:.0%} above the best count: {', '.join(worse)}. If a count "
            f"has to rise, edit {BEST.name} by hand, and give the reason in the commit"
        )


if __name__ == "__main__":
    main()
