"""Show results: tables for the terminal and for Markdown, and a page with charts."""

from __future__ import annotations

import html
import io
import re
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass
class Result:
    """The results of all rounds of one contender."""

    label: str
    seconds: list[float] = field(default_factory=list)
    """The time of one loop, for each round."""
    page_faults: float = 0.0
    """Page faults of one loop."""
    memory_bytes: int = 0
    """The largest growth of the process's memory, in bytes."""

    @property
    def median(self) -> float:
        """The median of all rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The shortest and the longest time, in seconds."""
        return min(self.seconds), max(self.seconds)


class Group:
    """The contenders of one table."""

    def __init__(self, title: str, unit: str, results: Iterable[Result]) -> None:
        self.title = title
        self.results: list[Result] = list(results)
        self.slug: str = re.sub(r"\W+", "-", title.lower()).strip("-")
        self._unit = unit  # the contender that the others are compared with
        self._has_memory = any(result.memory_bytes for result in self.results)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column names of ``rows``."""
        memory = ("page faults", "MiB grown") if self._has_memory else ()
        return ("contender", "time", "spread", f"x {self._unit}", *memory)

    def rows(self) -> list[tuple[str, ...]]:
        """One row for each contender."""
        unit = next((r.median for r in self.results if r.label == self._unit), float("nan"))
        rows = []
        for result in self.results:
            least, most = map(duration, result.spread)
            row = (result.label, duration(result.median), f"{least} to {most}")
            ratio = f"{result.median / unit:,.2f}"
            memory = (f"{result.page_faults:,.1f}", f"{result.memory_bytes / (1 << 20):,.1f}")
            rows.append((*row, ratio, *(memory if self._has_memory else ())))
        return rows

    def table(self) -> Table:
        """Return the table for the terminal."""
        table = Table(title=self.title, title_justify="left")
        for column in self.columns:
            table.add_column(column, justify="left" if column == "contender" else "right")
        for row in self.rows():
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [(self.title, *self.columns[1:]), ("---",) * len(self.columns), *self.rows()]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def svg(self) -> str:
        """Return a bar chart of the medians, with lines for the spread."""
        figure = Figure(figsize=(8, 0.6 + 0.34 * len(self.results)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        medians = [result.median for result in self.results]
        spread = (
            [result.median - result.spread[0] for result in self.results],
            [result.spread[1] - result.median for result in self.results],
        )
        names = [result.label for result in self.results]
        colors = ["#d1495b" if name == "bytepool" else "#6b9ac4" for name in names]
        bars = axes.barh(names, medians, xerr=spread, color=colors, ecolor="#333333")
        axes.bar_label(bars, [" " + duration(median) for median in medians], fontsize=8)
        axes.invert_yaxis()
        if max(medians) > 20 * min(medians):
            axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.xaxis.set_major_formatter(lambda seconds, _: duration(seconds))
        axes.set_title(self.title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        text = io.StringIO()
        # A fixed salt makes equal numbers give an equal file.
        with matplotlib.rc_context({"svg.hashsalt": "bytepool"}):
            figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()


def page(all_groups: list[Group], facts: dict[str, str]) -> str:
    """Return one HTML page that loads nothing else."""
    parts = ["<!doctype html><meta charset=utf-8><title>bytepool bench</title>", STYLE]
    parts.append("<h1>bytepool and its alternatives</h1><dl>")
    parts += [f"<dt>{html.escape(k)}<dd>{html.escape(v)}" for k, v in facts.items()]
    parts.append("</dl>")
    for group in all_groups:
        svg = group.svg()
        parts.append(svg[svg.index("<svg") :])
        head = "".join(f"<th>{html.escape(column)}" for column in group.columns)
        rows = [
            "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) for row in group.rows()
        ]
        parts.append(f"<table><tr>{head}{''.join(rows)}</table>")
    return "\n".join(parts) + "\n"


STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
dt { float: left; clear: left; width: 9rem; color: #666 } dd { margin-left: 9rem }
svg { max-width: 100%; height: auto; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .1rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child { text-align: left }
</style>"""


def write(folder: Path, groups: list[Group], facts: dict[str, str]) -> None:
    """Write the page, the tables as Markdown, and each chart as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(page(groups, facts))
    (folder / "tables.md").write_text("\n".join(group.markdown() for group in groups))
    for group in groups:
        (folder / f"{group.slug}.svg").write_text(group.svg())


def duration(seconds: float) -> str:
    """Format seconds with three digits and a fitting unit."""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if seconds >= unit or unit == 1e-9:
            number = seconds / unit
            digits = 2 if number < 10 else 1 if number < 100 else 0
            return f"{number:,.{digits}f} {name}"
    raise AssertionError("unreachable")
