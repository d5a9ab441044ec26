"""Write the tables of ``compare.json`` and their picture into ``docs/performance.md``.

``compare.py --record`` measures them. A test runs this program with ``--check``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import records

from bytepool.bench.report import Group, Result, duration

ROOT = Path(__file__).parents[1]
OURS = "bytepool"
# These are not pools that threads can share, or they are the same pool.
NOT_RIVALS = ("vec_", "lifeguard", "opool_local", "bytepool", "no_pool")
# Marker in the page: (heading, the name of the same benchmark in the file)
TABLES = {
    "round_trip": ("one thread", "round_trip/4096"),
    "two_threads": ("two threads, one class", "two_threads/4096"),
    "window": ("window, one thread", "window/1"),
    "window_two_threads": ("window, two threads", "window_two_threads/2"),
    "window_touched": ("window, every byte written", "window_touched/1"),
    "hand_over": ("handed over", "hand_over/4096"),
    "hand_over_batches": ("handed over in batches", "hand_over_batches/16"),
}
PICTURE = "two_threads"

# {benchmark: {contender: nanoseconds of each round}}
Recorded = dict[str, dict[str, list[float]]]


def group(recorded: Recorded, marker: str) -> Group:
    heading, benchmark = TABLES[marker]
    contenders = recorded[benchmark].items()
    results = [Result(name, [each * 1e-9 for each in rounds]) for name, rounds in contenders]
    return Group(heading, OURS, sorted(results, key=lambda result: result.median))


def table(recorded: Recorded, marker: str) -> str:
    return group(recorded, marker).markdown().replace(f"| {OURS} |", f"| **{OURS}** |")


def ratios(recorded: Recorded) -> str:
    """Return the table of our times divided by those of the fastest pool that threads can share."""
    lines = ["| | bytepool | fastest other pool | ratio | spread |", "|---|---|---|---|---|"]
    for heading, benchmark in TABLES.values():
        contenders = recorded[benchmark]
        ours = contenders[OURS]
        rivals = [name for name in contenders if not name.startswith(NOT_RIVALS)]
        best = min(rivals, key=lambda name: statistics.median(contenders[name]))
        each = [mine / theirs for mine, theirs in zip(ours, contenders[best], strict=True)]
        times = [duration(statistics.median(rounds) * 1e-9) for rounds in (ours, contenders[best])]
        lines.append(
            f"| {heading} | {times[0]} | {best}, {times[1]} | {statistics.median(each):.2f} | "
            f"{min(each):.2f} to {max(each):.2f} |"
        )
    return "\n".join(lines) + "\n"


def with_tables(page: str, file: dict[str, dict[str, str] | Recorded]) -> str:
    """Return the page with the text between its markers replaced."""
    recorded: Recorded = file["nanoseconds"]  # type: ignore[assignment]
    facts: dict[str, str] = file["facts"]  # type: ignore[assignment]
    made = "; ".join(f"{name}: {fact}" for name, fact in facts.items()) + "\n"
    parts = {"facts": made, "ratios": ratios(recorded)}
    parts |= {marker: table(recorded, marker) for marker in TABLES}
    return records.with_tables(page, parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only check that the page is current")
    parser.add_argument("--file", type=Path, default=ROOT / "benches" / "compare.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    file = json.loads(options.file.read_text())
    page = options.page.read_text()
    current = with_tables(page, file)
    if not options.check:
        options.page.write_text(current)
        chart = group(file["nanoseconds"], PICTURE)
        picture = options.page.parent / "performance" / f"{PICTURE.replace('_', '-')}.svg"
        picture.write_text(chart.svg())
    elif page != current:
        sys.exit(f"{options.page} is older than {options.file}: run python benches/compare_docs.py")


if __name__ == "__main__":
    main()
