"""The core beside its peers, in turns: all benchmarks of `cargo bench`, round after round; a table.

One run of criterion measures one contender after the other, and a shared machine has slow and fast
minutes; so this runs each of them shortly, several times over, and shows medians with their spread.
``--markdown`` prints the tables as docs/performance.md has them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

HERE = Path(__file__).parent
US = "bytepool"
# group: {size or number of threads: {contender: nanoseconds, one for each round}}
Results = dict[str, dict[str, dict[str, list[float]]]]


def binaries() -> list[Path]:
    """The benchmarks, built; which of them measures what is theirs to know."""
    build = ["cargo", "bench", "--locked", "--no-default-features", "--no-run"]
    lines = subprocess.run(
        [*build, "--benches", "--message-format=json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
    ).stdout.splitlines()
    artifacts = [json.loads(line) for line in lines]
    return [
        Path(artifact["executable"])
        for artifact in artifacts
        if artifact.get("executable") and artifact["target"]["kind"] == ["bench"]
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
            group = results[name["group_id"]][name["value_str"]]
            group[name["function_id"]].append(median)


def benchmarks(binary: Path) -> list[str]:
    listing = subprocess.run(
        [binary, "--bench", "--list"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [line.removesuffix(": benchmark") for line in listing.splitlines() if line]


def nanoseconds(ns: float) -> str:
    return f"{ns:,.1f}" if ns < 1000 else f"{ns:,.0f}"


def rows(contenders: dict[str, list[float]]) -> list[tuple[str, str, str, str]]:
    """Fastest first: name, median, spread, and how many times as long as ours."""
    middle = {name: statistics.median(times) for name, times in contenders.items()}
    return [
        (
            name,
            nanoseconds(middle[name]),
            f"{nanoseconds(min(contenders[name]))} to {nanoseconds(max(contenders[name]))}",
            f"{middle[name] / middle[US]:.2f}" if US in middle else "",
        )
        for name in sorted(middle, key=middle.__getitem__)
    ]


def show(results: Results, *, markdown: bool) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=100)
    columns = ("contender", "ns", "spread", f"x {US}")
    for group, values in results.items():
        for value, contenders in sorted(values.items(), key=lambda item: int(item[0])):
            title = f"{group}, {int(value):,}"
            if markdown:
                print(f"\n| {title} | ns | spread | x {US} |\n|---|---|---|---|")
                for row in rows(contenders):
                    print("| " + " | ".join(row) + " |")
                continue
            table = Table(title=title, title_justify="left")
            for column in columns:
                table.add_column(column, justify="left" if column == "contender" else "right")
            for row in rows(contenders):
                table.add_row(*row, style="bold" if row[0] == US else None)
            console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="for each, in each round")
    parser.add_argument("--only", default="", help="benchmarks that have this in their names")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="write all medians here, in nanoseconds")
    options = parser.parse_args()

    # In the order of the groups, so that the contenders of each stand close together.
    plan = [(name, binary) for binary in binaries() for name in benchmarks(binary)]
    plan = [(name, binary) for name, binary in plan if options.only in name]
    order = {name.split("/")[0]: i for i, (name, _) in reversed(list(enumerate(plan)))}
    plan.sort(key=lambda entry: order[entry[0].split("/")[0]])
    results: Results = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    console = Console(stderr=True)
    for name, binary in track(plan * options.rounds, console=console, transient=True):
        run(binary, name, options.seconds, results)
    show(results, markdown=options.markdown)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
