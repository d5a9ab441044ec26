"""Run all benchmarks of `cargo bench` in several rounds, and show tables.

One run of criterion measures one contender after the other, but a shared machine has slow and fast
minutes. So this program lets the contenders take turns in short runs. It shows medians and spreads.
With ``--record`` it runs the benchmarks of the documented tables only, and writes `compare.json`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.progress import track

from bytepool.bench.report import Group, Result, write

HERE = Path(__file__).parent
RECORD = HERE / "compare.json"
OURS = "bytepool"
# The documented benchmarks: (group, size or number of threads).
RECORDED = [
    ("round_trip", 4096),
    ("two_threads", 4096),
    ("window", 1),
    ("window_two_threads", 2),
    ("window_touched", 1),
    ("hand_over", 4096),
    ("hand_over_batches", 16),
]
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
                *("--nresamples", "1000"),
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


def is_recorded(benchmark: str) -> bool:
    group, _, value = benchmark.split("/")
    return (group, int(value)) in RECORDED


def facts(options: argparse.Namespace) -> dict[str, str]:
    """Return the facts about the machine and the run that a reader of the numbers needs."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if "model name" in line), "?")
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{model}, {os.cpu_count()} cores",
        "system": f"{system}, {' '.join(platform.libc_ver())}",
        "compiler": subprocess.check_output(["rustc", "--version"], text=True).strip(),
        "rounds": str(options.rounds),
    }


def record(results: Results, facts: dict[str, str]) -> None:
    """Write the times of all rounds, with one contender per line."""
    times = {
        f"{group}/{value}": {
            name: json.dumps([float(f"{each * 1e9:.4g}") for each in result.seconds])
            for name, result in sorted(results[group, value].items())
        }
        for group, value in RECORDED
    }
    text = json.dumps({"facts": facts, "nanoseconds": times}, indent=1)
    RECORD.write_text(text.replace('"[', "[").replace(']"', "]") + "\n")


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
    parser.add_argument(
        "--record", action="store_true", help=f"measure the documented tables, write {RECORD.name}"
    )
    options = parser.parse_args()

    # Sorted by group, so that the contenders of one group run close together.
    plan = [(name, binary) for binary in binaries() for name in benchmarks(binary)]
    plan = [(name, binary) for name, binary in plan if options.only in name]
    if options.record:
        plan = [(name, binary) for name, binary in plan if is_recorded(name)]
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
    known = facts(options)
    write(options.output, groups, {"command": "python " + " ".join(sys.argv), **known})
    if options.record:
        record(results, known)


if __name__ == "__main__":
    main()
