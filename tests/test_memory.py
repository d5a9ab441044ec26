"""The resident memory of a process, as ``benches/memory.py`` measures it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = Path(__file__).parents[1] / "benches" / "memory.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def measure(case: str, name: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, MEMORY, case, name], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def test_trim_returns_the_memory_of_a_burst_to_the_system() -> None:
    """The burst of a gibibyte runs beside other allocations, so that the heap is fragmented."""
    figures = measure("burst", "bytepool")
    assert figures["peak"] - figures["start"] > 1 << 30
    assert figures["trimmed"] > 32 << 20
    assert figures["end"] <= 1.05 * figures["start"]


def test_size_classes_waste_at_most_a_quarter() -> None:
    figures = measure("mixed", "bytepool")
    assert figures["lent"] <= 1.23
    assert figures["all"] <= 4.12
    assert figures["trimmed"] <= 1.3, "the counters tell the memory of the process"
    assert figures["hit_rate"] >= 0.99


def test_low_idle_cap_keeps_resident_memory_near_live_memory() -> None:
    assert measure("mixed", "max_idle_bytes=4 MiB")["all"] <= 1.25
