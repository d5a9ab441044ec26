"""Draws the picture of the README from recorded runs: CPU time per GB that a server receives.

``make record-streams`` measures and draws. This script alone only draws. The picture has a
background of its own, and follows the light or dark mode of the browser.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from html import escape
from pathlib import Path

import records

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "cpu-per-gb.svg"

WIDTH, LEFT, RIGHT, BAR, GAP = 600, 205, 60, 17, 14
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .panel { font-weight: 600; font-size: 15px; }
  .load { font-weight: 600; }
  .note { font-size: 12px; fill: #59636e; }
  .card { fill: #ffffff; stroke: #d1d9e0; }
  .spread { stroke: #1f2328; stroke-width: 1.5; }
  .bar0 { fill: #8c959f; } .bar1 { fill: #4c8dff; } .bar2 { fill: #2da44e; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .card { fill: #151b23; stroke: #3d444d; }
    .spread { stroke: #f0f6fc; }
    .bar0 { fill: #7d8590; } .bar1 { fill: #4184e4; } .bar2 { fill: #238636; }
  }
"""


@dataclass(frozen=True, eq=False)
class Panel:
    """One half of the picture: a recorded file, its loads, and the names of three contenders."""

    title: str
    record: str
    cases: dict[str, list[str]]  # text: the case in the record
    contenders: dict[str, str]  # the name in the record: text


PANELS = [
    Panel(
        "An asyncio server receives messages of",
        "streams.json",
        {
            "1 MiB": ["1 MiB", "asyncio", "plain"],
            "16 MiB": ["16 MiB", "asyncio", "plain"],
            "64 KiB to 4 MiB": ["64 KiB-4 MiB", "asyncio", "plain"],
        },
        {
            "asyncio streams": "asyncio",
            "unchanged": "one import changed",
            "frames": "frames()",
        },
    ),
    Panel(
        "uvicorn receives uploads of",
        "http_uploads.json",
        {
            "1 MiB": ["1 MiB", "uvloop"],
            "16 MiB": ["16 MiB", "uvloop"],
            "100 MiB": ["100 MiB", "uvloop"],
        },
        {
            "stock body": "uvicorn",
            "ours body": "one option added",
            "ours pooled": "asgi.body()",
        },
    ),
]


def measured(panel: Panel) -> dict[str, dict[str, list[float]]]:
    """CPU seconds per GB of all runs, by the texts of the case and the contender."""
    runs = records.read(panel.record)
    return {
        text: {
            label: [run["CPU s/GB"] for run in runs[tuple(case)][name]]
            for name, label in panel.contenders.items()
        }
        for text, case in panel.cases.items()
    }


def draw(panels: dict[Panel, dict[str, dict[str, list[float]]]]) -> str:
    """The picture as SVG."""
    most = max(
        max(values)
        for cases in panels.values()
        for bars in cases.values()
        for values in bars.values()
    )
    scale = (WIDTH - LEFT - RIGHT) / most
    parts: list[str] = []
    y = 34
    for panel, cases in panels.items():
        parts.append(text(24, y, panel.title, "panel"))
        y += GAP
        for load, bars in cases.items():
            parts.append(text(24, y + BAR - 3, load, "load"))
            for index, (label, values) in enumerate(bars.items()):
                middle = statistics.median(values)
                end, line = LEFT + middle * scale, y + BAR / 2 - 1
                least, last = LEFT + min(values) * scale, LEFT + max(values) * scale
                parts += [
                    text(LEFT - 8, y + BAR - 4, label, "", anchor="end"),
                    f'<rect class="bar{index}" x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" '
                    f'height="{BAR - 2}" rx="2"/>',
                    f'<path class="spread" d="M{least:.1f} {line}H{last:.1f}"/>',
                    text(max(end, last) + 6, y + BAR - 4, f"{middle:.2f}"),
                ]
                y += BAR + 2
            y += GAP
        y += GAP
    rounds = len(next(iter(next(iter(next(iter(panels.values())).values())).values())))
    note = (
        "CPU seconds per GB, less is better. "
        f"Medians of {rounds} runs; thin lines: the least and the most."
    )
    parts.append(text(24, y, note, "note"))
    height = y + 20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            "<title>CPU time per GB that a server receives</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" rx="8" width="{WIDTH - 1}" '
            f'height="{height - 1}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def text(x: float, y: float, content: str, style: str = "", *, anchor: str = "start") -> str:
    """A piece of text of the picture."""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(content)}</text>'
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    PICTURE.write_text(draw({panel: measured(panel) for panel in PANELS}))
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
