"""Show an advice as one HTML page that loads nothing else."""

from __future__ import annotations

import shlex
import statistics
from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from bytepool.advise import report, verdict
from bytepool.stats import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bytepool.advise.study import Advice

STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
.verdict { border-left: .4rem solid #d1495b; padding: .2rem 1rem; margin: 1rem 0 }
code { background: #f3f3f3; padding: 0 .2rem; overflow-wrap: anywhere }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .1rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child, td:last-child, th:last-child { text-align: left }
svg { display: block; margin: .5rem 0 } svg text { font: 12px system-ui, sans-serif }
</style>"""
BAR, LABEL, WIDTH = 22, 190, 760  # of the charts, in pixels


def _bars(rows: Sequence[tuple[str, float, str]], color: str = "#6b9ac4") -> str:
    """Return a bar chart: a label, a value, and the text beside the bar."""
    most = max((abs(value) for _, value, _ in rows), default=0) or 1
    parts = [f'<svg width="{WIDTH}" height="{BAR * len(rows) + 4}" role="img">']
    for at, (label, value, beside) in enumerate(rows):
        y = at * BAR
        length = max(value, 0) / most * (WIDTH - LABEL - 190)
        parts.append(
            f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="{BAR - 6}"'
            f' fill="{color}"/>'
            f'<text x="{LABEL + length + 6:.1f}" y="{y + 15}">{escape(beside)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _powers(numbers: Sequence[int], show: Callable[[int], str]) -> str:
    """Return a chart that counts numbers by powers of two."""
    counts = Counter(number.bit_length() for number in numbers)
    rows = []
    for bits in range(min(counts), max(counts) + 1):
        label = show(1 << bits >> 1) if bits < 2 else f"{show(1 << bits >> 1)} to {show(1 << bits)}"
        rows.append((label, float(counts[bits]), f"{counts[bits]:,}"))
    return _bars(rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}" for column in columns)
    body = ("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
    return f"<table><tr>{head}{''.join(body)}</table>"


def page(advice: Advice) -> str:
    """Return the page."""
    answer = advice.verdict
    parts = [
        "<!doctype html><meta charset=utf-8><title>bytepool advise</title>",
        STYLE,
        f"<h1>{escape(verdict.TITLES[answer.kind])}</h1>",
        f"<p><code>{escape(shlex.join(advice.program.arguments))}</code>",
        f'<div class="verdict"><p>{escape(answer.reason)}',
        "".join(f"<p><code>{escape(step)}</code>" for step in answer.steps),
        f"</div><h2>Costs as it is</h2><p>Medians of {len(advice.plain)} runs, least to most.",
        _table(("figure", "value"), report.costs(advice)),
    ]
    if advice.tried:
        parts += ["<h2>Remedies</h2>", _table(report.REMEDY_COLUMNS, report.remedy_rows(advice))]
        bars = [("as it is", advice.cpu, report.seconds(advice.cpu))]
        for remedy, _, runs in advice.tried:
            cpu = statistics.median(run.cpu for run in runs)
            bars.append((remedy.name, cpu, report.seconds(cpu)))
        if advice.replay:
            for saving in (advice.replay.least, advice.replay.most):
                cpu = advice.cpu * (1 - saving.median)
                bars.append((saving.name, cpu, report.seconds(cpu)))
        parts += ["<h3>CPU time</h3>", _bars(bars, "#d1495b")]
        memory = [
            (name, float(statistics.median(run.peak_rss for run in runs)))
            for name, runs in (
                ("as it is", advice.plain),
                *((remedy.name, runs) for remedy, _, runs in advice.tried),
            )
        ]
        bars = [(name, peak, size_text(int(peak))) for name, peak in memory]
        parts += ["<h3>Peak memory</h3>", _bars(bars)]
    if advice.trace and advice.trace.sites:
        found = advice.trace
        rows = [report.site_row(site, found.bytes) for site in found.sites[: report.MOST_SITES]]
        sizes = [size for site in found.sites for size in site.sizes]
        lifetimes = [one for site in found.sites for one in site.lifetimes]
        parts += [
            "<h2>Blocks of 64 KiB and more</h2>",
            _table(report.SITE_COLUMNS, rows),
            "<h3>Sizes</h3>",
            _powers(sizes, size_text),
        ]
        if lifetimes:
            parts += [
                "<h3>Lifetimes, in large blocks made before the block is freed</h3>",
                _powers(lifetimes, "{:,}".format),
            ]
    if advice.samples.places:
        bars = [(place, share, f"{share:.0%}") for place, share in advice.samples.places]
        parts += [
            "<h2>Where the CPU time goes</h2>",
            _table(("line", "share"), [(place, share) for place, _, share in bars]),
        ]
    if advice.left_out:
        listed = "".join(f"<li>{escape(one)}" for one in advice.left_out)
        parts += ["<h2>Left out</h2><ul>", listed, "</ul>"]
    return "\n".join(parts) + "\n"
