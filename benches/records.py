"""Recorded runs: their files, where each case has the runs of its contenders, and their tables."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = Path(__file__).parent / "recorded"

Run = dict[str, float]
# {what was measured, such as (load, loop): {contender: its runs}}
Runs = dict[tuple[str, ...], dict[str, list[Run]]]


def write(path: Path, runs: Mapping[Any, Mapping[str, list[Run]]], kept: Sequence[str]) -> None:
    """Write the figures named in ``kept``, with four digits, one contender a line."""
    cases = [
        {
            "case": case,
            "runs": {
                name: json.dumps(
                    [{key: float(f"{run[key]:.4g}") for key in kept if key in run} for run in each]
                )
                for name, each in results.items()
            },
        }
        for case, results in runs.items()
    ]
    text = json.dumps(cases, indent=1).replace('\\"', '"')
    path.write_text(text.replace('"[', "[").replace(']"', "]") + "\n")


def read(name: str) -> Runs:
    """Read a file of the folder."""
    entries = json.loads((FOLDER / name).read_text())
    return {tuple(entry["case"]): entry["runs"] for entry in entries}


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """Return the page with the text between its markers replaced."""
    for marker, text in tables.items():
        pattern = rf"(<!-- recorded: {marker} -->\n).*?(<!-- end -->)"
        page, count = re.subn(pattern, rf"\g<1>\n{text}\n\g<2>", page, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"the page has {count} places for the table '{marker}', not one")
    return page
