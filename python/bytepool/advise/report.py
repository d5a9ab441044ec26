"""Show an advice: as text for the terminal, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import shlex
import statistics
import textwrap
from typing import TYPE_CHECKING, Any

from bytepool.advise import verdict
from bytepool.stats import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bytepool.advise.run import Run
    from bytepool.advise.study import Advice
    from bytepool.advise.trace import Site
    from bytepool.advise.verdict import Saving

MOST_SITES = 8
WIDTH = 100


def spread(runs: Sequence[Run], read: Callable[[Run], float], show: Callable[[float], str]) -> str:
    """Return the median of a figure, with the least and the most."""
    numbers = [read(run) for run in runs]
    middle = show(statistics.median(numbers))
    return f"{middle} ({show(min(numbers))} to {show(max(numbers))})"


def seconds(number: float) -> str:
    """Return seconds with a fitting number of digits."""
    return f"{number:.2f} s" if number >= 0.1 else f"{number * 1e3:.1f} ms"


def costs(advice: Advice) -> list[tuple[str, str]]:
    """Return what the program costs as it is."""
    runs = advice.plain
    return [
        ("CPU time", spread(runs, lambda run: run.cpu, seconds)),
        ("of it in the kernel", spread(runs, lambda run: run.system, seconds)),
        (
            "page faults beyond the first touch",
            spread(runs, lambda run: run.excess_faults, lambda n: f"{n:,.0f}"),
        ),
        ("peak memory", spread(runs, lambda run: run.peak_rss, lambda n: size_text(int(n)))),
        ("one page fault costs here", f"{advice.machine.fault_seconds * 1e6:.2f} µs"),
        ("large blocks cost at most", f"{advice.reachable:.1%} of the CPU time"),
    ]


def site_row(site: Site, total: int) -> tuple[str, ...]:
    """Return the cells for one line of the program."""
    if min(site.sizes) == max(site.sizes):
        sizes = size_text(site.sizes[0])
    else:
        sizes = f"{size_text(min(site.sizes))} to {size_text(max(site.sizes))}"
    lifetime = "kept" if site.lifetime is None else f"{site.lifetime:,.0f}"
    return (
        site.place,
        f"{len(site.sizes):,}",
        sizes,
        lifetime,
        f"{site.bytes / total:.0%}" if total else "",
        site.via or site.text,
    )


SITE_COLUMNS = ("line", "count", "sizes", "lifetime", "bytes", "through")


def remedy_rows(advice: Advice) -> list[tuple[str, ...]]:
    """Return one row for each remedy that was tried."""
    rows: list[tuple[str, ...]] = []
    for remedy, saving, runs in advice.tried:
        peak = int(statistics.median(run.peak_rss for run in runs))
        rows.append(_remedy_row(remedy.name, saving, size_text(peak)))
    if advice.replay:
        pooled = (advice.replay.least, advice.replay.most)
        rows += [_remedy_row(saving.name, saving, "") for saving in pooled]
    return rows


def _remedy_row(name: str, saving: Saving, peak: str) -> tuple[str, ...]:
    low, high = min(saving.rounds), max(saving.rounds)
    saved = f"{saving.median:.0%} ({low:.0%} to {high:.0%})"
    return name, saved, "yes" if saving.is_real else "no", peak


REMEDY_COLUMNS = ("remedy", "CPU time saved", "worth it", "peak memory")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the cells: texts to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = []
    for row in (columns, *rows):
        cells = [
            cell.ljust(width) if at == 0 or columns[at] == "through" else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def text(advice: Advice) -> str:
    """Return the report for a terminal."""
    rounds = len(advice.plain)
    parts = [
        "",
        f"bytepool.advise: {shlex.join(advice.program.arguments)}",
        "",
        f"Costs as it is (median of {rounds} runs, least to most)",
    ]
    width = max(len(name) for name, _ in costs(advice))
    parts += [f"  {name.ljust(width)}  {figure}" for name, figure in costs(advice)]
    if advice.trace and advice.trace.sites:
        found = advice.trace
        parts += [
            "",
            f"Blocks of 64 KiB and more: {found.count:,}, {size_text(found.bytes)}"
            f" (processes: {len(found.processes)}; the traced run took"
            f" {advice.trace_overhead:.1f} times the CPU time, which is not part of the costs)",
            *_table(
                SITE_COLUMNS, [site_row(site, found.bytes) for site in found.sites[:MOST_SITES]]
            ),
            "  The lifetime is the number of large blocks made before the block is freed.",
        ]
    if rows := remedy_rows(advice):
        parts += [
            "",
            f"Remedies (median of {rounds} rounds that took turns, least to most)",
            *_table(REMEDY_COLUMNS, rows),
        ]
    if advice.replay and advice.replay.least.median >= verdict.WORTH_IT:
        one = advice.replay
        parts.append(
            f"  The pool: {one.call}, hit rate {one.hit_rate:.0%}, idle at the end"
            f" {size_text(one.idle_bytes)} (peak {size_text(one.peak_idle_bytes)}), in use at most"
            f" {size_text(one.peak_bytes)}."
        )
    if advice.left_out:
        parts += ["", "Left out", *(f"  {one}" for one in advice.left_out)]
    parts += ["", f"Verdict: {verdict.TITLES[advice.verdict.kind]}"]
    parts += textwrap.wrap(
        advice.verdict.reason, WIDTH, initial_indent="  ", subsequent_indent="  "
    )
    parts += [f"  - {step}" for step in advice.verdict.steps]
    return "\n".join(parts)


def as_json(advice: Advice) -> str:
    """Return all figures as JSON. Seconds and bytes are plain numbers, shares are 0.0 to 1.0."""

    def runs(all_runs: Sequence[Run]) -> list[dict[str, Any]]:
        return [{**dataclasses.asdict(one), "cpu": one.cpu} for one in all_runs]

    content = {
        "command": advice.program.command,
        "verdict": advice.verdict.kind,
        "reason": advice.verdict.reason,
        "saving": advice.verdict.saving,
        "steps": advice.verdict.steps,
        "cpu": advice.cpu,
        "reachable": advice.reachable,
        "machine": dataclasses.asdict(advice.machine),
        "plain": runs(advice.plain),
        "remedies": [
            {
                "name": remedy.name,
                "saving": saving.median,
                "rounds": saving.rounds,
                "is_real": saving.is_real,
                "how": remedy.how,
                "runs": runs(changed),
            }
            for remedy, saving, changed in advice.tried
        ],
        "lines": [
            {
                "place": site.place,
                "text": site.text,
                "through": site.via,
                "count": len(site.sizes),
                "bytes": site.bytes,
                "least": min(site.sizes),
                "most": max(site.sizes),
                "lifetime": site.lifetime,
                "kept": site.kept,
            }
            for site in (advice.trace.sites if advice.trace else ())
        ],
        "trace_overhead": advice.trace_overhead,
        "pool": {
            "call": advice.replay.call,
            "hit_rate": advice.replay.hit_rate,
            "idle_bytes": advice.replay.idle_bytes,
            "peak_bytes": advice.replay.peak_bytes,
            "saving": advice.replay.least.median,
            "rounds": advice.replay.least.rounds,
            "at_most": advice.replay.most.median,
        }
        if advice.replay
        else None,
        "time_goes_into": advice.samples.places,
        "left_out": advice.left_out,
    }
    return json.dumps(content, indent=1) + "\n"
