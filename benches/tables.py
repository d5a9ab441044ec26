"""Writes the tables of recorded runs into the documents.

``make record-streams`` and ``make record-http`` measure, and then run this. A test checks that the
documents have what was recorded.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from records import Run, Runs

ROOT = Path(__file__).parents[1]


def median(runs: list[Run], figure: str) -> float:
    return float(statistics.median(run[figure] for run in runs))


def ratio(runs: list[Run], base: list[Run], figure: str, *, spread: bool = False) -> str:
    """A figure divided by the other contender's; the spread is that of the rounds."""
    each = [run[figure] / other[figure] for run, other in zip(runs, base, strict=True)]
    middle = f"{median(runs, figure) / median(base, figure):.2f}"
    return f"{middle} ({min(each):.2f} to {max(each):.2f})" if spread else middle


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# docs/streams.md

ASYNCIO = "asyncio streams"
STREAMS = ["unchanged", "readview", "frames"]


def streams_cpu(runs: Runs, kind: str, others: list[str]) -> str:
    return table(
        ["messages, loop", "asyncio, s/GB", *STREAMS, *others],
        (
            [f"{load}, {loop}", f"{median(results[ASYNCIO], 'CPU s/GB'):.2f}"]
            + [ratio(results[name], results[ASYNCIO], "CPU s/GB", spread=True) for name in STREAMS]
            + [ratio(results[name], results[ASYNCIO], "CPU s/GB") for name in others]
            for (load, loop, tls), results in runs.items()
            if tls == kind
        ),
    )


def streams_memory(runs: Runs) -> str:
    return table(
        ["messages", "asyncio", *STREAMS],
        (
            [load, *(f"{median(results[name], 'RSS MB'):.0f}" for name in [ASYNCIO, *STREAMS])]
            for (load, loop, tls), results in runs.items()
            if (loop, tls) == ("asyncio", "plain")
        ),
    )


def streams() -> dict[str, str]:
    runs = records.read("streams.json")
    rivals = ["asyncio, tuned malloc", "bytearray", "deque", "static"]
    return {
        "plain": streams_cpu(runs, "plain", rivals),
        "tls": streams_cpu(runs, "tls", ["static"]),
        "memory": streams_memory(runs),
    }


# docs/http.md

BODY = {
    "ours body": "unchanged",
    "ours pooled": "pooled",
    "helper": "helper on stock uvicorn",
    "hypercorn helper": "helper on hypercorn",
    "static": "static buffer",
}
FORM = {
    "ours form": "unchanged",
    "ours pooled form": "pooled",
    "helper pooled form": "pooled on stock uvicorn",
}
SMALL = ("GET", "POST 1 KiB")


def http_body(runs: Runs) -> str:
    rows = []
    for (load, loop), results in runs.items():
        if "stock body" in results:
            base = results["stock body"]
            cells = [
                ratio(results[name], base, "CPU s/GB", spread=name.startswith("ours"))
                if name in results
                else ""
                for name in BODY
            ]
            rows.append([f"{load}, {loop}", f"{median(base, 'CPU s/GB'):.2f}", *cells])
    return table(["body, loop", "stock, s/GB", *BODY.values()], rows)


def http_stream(runs: Runs) -> str:
    return table(
        ["body, loop", "stock, s/GB", "unchanged"],
        (
            [
                f"{load}, {loop}",
                f"{median(results['stock stream'], 'CPU s/GB'):.2f}",
                ratio(results["ours stream"], results["stock stream"], "CPU s/GB", spread=True),
            ]
            for (load, loop), results in runs.items()
            if "stock stream" in results
        ),
    )


def http_form(runs: Runs) -> str:
    return table(
        ["form, loop", "stock, s/GB", *FORM.values()],
        (
            [
                f"{load.removeprefix('form, ')}, {loop}",
                f"{median(results['stock form'], 'CPU s/GB'):.2f}",
                *(
                    ratio(results[name], results["stock form"], "CPU s/GB", spread=True)
                    for name in FORM
                ),
            ]
            for (load, loop), results in runs.items()
            if "stock form" in results
        ),
    )


def http_small(runs: Runs) -> str:
    return table(
        ["request, loop", "stock, CPU µs", "CPU time", "p99"],
        (
            [
                f"{load}, {loop}",
                f"{median(results['stock small'], 'CPU us'):.0f}",
                ratio(results["ours small"], results["stock small"], "CPU us", spread=True),
                ratio(results["ours small"], results["stock small"], "p99 ms", spread=True),
            ]
            for (load, loop), results in runs.items()
            if load in SMALL
        ),
    )


def http_memory(runs: Runs) -> str:
    names = ["stock body", "ours body", "ours pooled", "stock stream", "ours stream"]
    return table(
        ["body", *names],
        (
            [load, *(f"{median(results[name], 'RSS MB'):.1f}" for name in names)]
            for (load, loop), results in runs.items()
            if "stock body" in results and loop == "uvloop"
        ),
    )


def http() -> dict[str, str]:
    runs = records.read("http_uploads.json")
    return {
        "body": http_body(runs),
        "stream": http_stream(runs),
        "form": http_form(runs),
        "small": http_small(runs),
        "memory": http_memory(runs),
    }


PAGES = {"streams.md": streams, "http.md": http}


def main() -> None:
    for name, tables in PAGES.items():
        path = ROOT / "docs" / name
        path.write_text(records.with_tables(path.read_text(), tables()))


if __name__ == "__main__":
    main()
