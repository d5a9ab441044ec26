"""Read where the program used its CPU time, from the samples that it left."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bytepool.advise import lines

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Samples:
    """Where the CPU time goes, and which modules the program imported."""

    places: list[tuple[str, float]] = field(default_factory=list)
    """File, line and function, with the share of the samples; the largest first."""
    modules: set[str] = field(default_factory=set)


def read(folder: Path) -> Samples:
    """Read what all processes of a sampled run left in the folder."""
    counts: Counter[str] = Counter()
    modules: set[str] = set()
    for path in folder.glob("sample.*"):
        content = json.loads(path.read_text())
        modules.update(content["modules"])
        for stack, count in content["stacks"]:
            frame = lines.attribute([(name, file, line) for name, file, line in stack])
            if frame:
                counts[f"{lines.short(frame[1])}:{frame[2]} in {frame[0]}"] += count
    total = counts.total()
    return Samples([(place, count / total) for place, count in counts.most_common(5)], modules)
