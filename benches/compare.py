"""Run all benchmarks of `cargo bench` in several rounds, and show tables.

One run of criterion measures one contender after the other, but a shared machine has slow and fast
minutes. So this program lets the contenders take turns in short runs. It shows medians and spreads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.progress import track

from bytepool.bench.report import Group, Result, write

HERE = Path(__file__).parent
OURS = "bytepool"
# (group, size or number of threads): {contender: result of all rounds}
Results = dict[tuple[str, int], dict[str, Result]]


def binaries() -> list[Path]:
    """Build the benchmarks of pools and of other allocators, and return their paths."""
    build = ["cargo", "bench", "--locked", "--no-run", "--benches", "--message-format=json"]
    others = ["--manifest-path=benches/allocators/Cargo.toml", "--target-dir=target/allocators"]
    artifacts = []
    for which in ([], others):
        lines = subprocess.run(
            [*build, *which],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parent,
        ).stdout.splitlines()
        artifacts += [json.loads(line) for line in lines]
    return [
        Path(artifact["executable"])
        for artifact in artifacts
        if artifact.get("executable")
        and artifact["target"]["kind"] == ["bench"]
        and artifact["target"]["name"] != "instructions"
    ]


def run(binary: Path, benchmark: str, seconds: float, results: Results) -> None:
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [
                *(binary, "--bench", "--noplot", "--exact", benchmark, "--sample-size", "10"),
                *("--warm-up-time", str(seconds / 4), "--measurement-time", str(seconds)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"CRITERION_HOME": home},
        )
        for path in Path(home).glob("**/new/benchmark.json"):
            name = json.loads(path.read_text())
            estimates = json.loads(path.with_name("estimates.json").read_text())
            median = estimates["median"]["point_estimate"]
            contenders = results[name["group_id"], int(name["value_str"])]
            label = name["function_id"]
            contenders.setdefault(label, Result(label)).seconds.append(median * 1e-9)


def benchmarks(binary: Path) -> list[str]:
    listing = subprocess.run(
        [binary, "--bench", "--list"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [line.removesuffix(": benchmark") for line in listing.splitlines() if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="seconds per benchmark and round"
    )
    parser.add_argument(
        "--only", default="", help="run only benchmarks with this text in their names"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("bytepool-bench/core"), help="folder for the results"
    )
    options = parser.parse_args()

    # Sorted by group, so that the contenders of one group run close together.
    plan = [(name, binary) for binary in binaries() for name in benchmarks(binary)]
    plan = [(name, binary) for name, binary in plan if options.only in name]
    order = {name.split("/")[0]: i for i, (name, _) in reversed(list(enumerate(plan)))}
    plan.sort(key=lambda entry: order[entry[0].split("/")[0]])
    results: Results = defaultdict(dict)
    console = Console() if sys.stdout.isatty() else Console(width=100)
    for name, binary in track(plan * options.rounds, console=console, transient=True):
        run(binary, name, options.seconds, results)
    groups = []
    for (group, value), contenders in results.items():
        ranked = sorted(contenders.values(), key=lambda found: found.median)
        unit = OURS if OURS in contenders else ranked[0].label
        groups.append(Group(f"{group}, {value:,}", unit, ranked))
    for ready in groups:
        console.print(ready.table())
    compiler = subprocess.check_output(["rustc", "--version"], text=True).strip()
    command = "python " + " ".join(sys.argv)
    write(options.output, groups, {"Command": command, "Compiler": compiler})


if __name__ == "__main__":
    main()
