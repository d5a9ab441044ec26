"""What was measured, as a table for the terminal and as one page with charts."""

from __future__ import annotations

import html
import io
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from .cases import Case

TITLES = {
    "calls": "Calls of the pool, beside the least a view can cost",
    "round trip": "Round trip: take a buffer, give it back",
    "window": "Window: 16 buffers alive, the oldest replaced",
    "touch": "Window, and every byte of each new buffer written",
    "threads": "Two threads, each receiving messages from a socket",
}


@dataclass
class Result:
    """All rounds of one case."""

    case: Case
    seconds: list[float] = field(default_factory=list)
    """Of one loop, the mean of each round."""
    page_faults: float = 0.0
    """Of one loop."""
    memory_bytes: int = 0
    """By how much the process grew at most."""

    @property
    def median(self) -> float:
        """In seconds."""
        return statistics.median(self.seconds)


class Group:
    """The contenders in one workload at one load, in the order they were planned."""

    def __init__(self, workload: str, load: str, results: list[Result]) -> None:
        self.results = results
        self.title = f"{TITLES[workload]} ({load})"
        self.slug = f"{workload}-{load}".replace(" ", "-").lower()
        # What the others are compared with.
        self._unit = next(
            result.median
            for result in results
            if result.case.label in ("bytepool", "memoryview(existing)")
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Name, time, spread, ratio, page faults, memory."""
        return [
            (
                result.case.label,
                duration(result.median),
                f"{duration(min(result.seconds))} to {duration(max(result.seconds))}",
                f"{result.median / self._unit:,.2f}",
                f"{result.page_faults:,.1f}",
                f"{result.memory_bytes / (1 << 20):,.1f}",
            )
            for result in self.results
        ]

    @property
    def columns(self) -> tuple[str, ...]:
        """The heads of ``rows``."""
        unit = "memoryview" if "memoryview" in self.results[0].case.label else "bytepool"
        return ("", "time", "spread", f"x {unit}", "page faults", "MiB grown")

    def table(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, title_justify="left")
        for column in self.columns:
            table.add_column(column, justify="right" if column else "left")
        for row in self.rows():
            table.add_row(*row)
        return table

    def svg(self) -> str:
        """A chart: bars for the medians, lines for the spread."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 0.6 + 0.34 * len(self.results)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        medians = [result.median for result in self.results]
        spread = (
            [result.median - min(result.seconds) for result in self.results],
            [max(result.seconds) - result.median for result in self.results],
        )
        colors = [
            "#d1495b" if result.case.label == "bytepool" else "#6b9ac4" for result in self.results
        ]
        names = [result.case.label for result in self.results]
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
        figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()


def groups(results: list[Result]) -> list[Group]:
    """The results, those that belong side by side together."""
    found: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        found[result.case.workload, result.case.load].append(result)
    return [Group(*key, members) for key, members in found.items()]


def page(all_groups: list[Group], facts: dict[str, str]) -> str:
    """One self-contained HTML page."""
    parts = ["<!doctype html><meta charset=utf-8><title>bytepool bench</title>", STYLE]
    parts.append("<h1>bytepool, and what it would replace</h1><dl>")
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


def duration(seconds: float) -> str:
    """Three digits and the unit that suits them."""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if seconds >= unit or unit == 1e-9:
            number = seconds / unit
            digits = 2 if number < 10 else 1 if number < 100 else 0
            return f"{number:,.{digits}f} {name}"
    raise AssertionError("unreachable")
