"""The benchmarks run and measure what they claim. No test asserts how fast anything is."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pyperf
import pytest

from bytepool.bench import __main__ as program
from bytepool.bench import cases, report
from bytepool.bench.cases import Case
from bytepool.bench.pure import PurePool
from bytepool.bench.worker import Measured

if TYPE_CHECKING:
    from pathlib import Path

ALL = [case for case in cases.plan(quick=False) if not case.allocator]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_benchmark_case_runs(case: Case) -> None:
    measured = Measured(case)
    assert measured(3) > 0
    assert set(eval(measured.report())) == {"page_faults", "memory_bytes"}


def test_every_workload_measures_every_contender_once() -> None:
    for load in {(case.workload, case.load) for case in ALL}:
        labels = Counter(case.label for case in ALL if (case.workload, case.load) == load)
        assert set(labels.values()) == {1}, "every contender once"
        expected = {"calls": 6, "threads": 2, "zero": 3}.get(load[0], len(cases.CONTENDERS))
        assert len(labels) == expected


def test_quick_plan_is_a_subset_of_the_full_plan() -> None:
    assert set(cases.plan(quick=True)) < set(cases.plan(quick=False))


@pytest.mark.parametrize(("name", "least", "most"), [("bytepool", 0, 5), ("bytearray", 5, 5000)])
def test_fresh_memory_causes_page_faults_and_pooled_memory_does_not(
    name: str, least: int, most: int
) -> None:
    # A process of its own, because glibc raises its thresholds after large blocks were freed.
    code = f"""
from bytepool.bench import cases
from bytepool.bench.worker import Measured
measured = Measured(cases.Case("touch", "64 KiB-4 MiB", {name!r}))
measured(40 * cases.LIVE)
measured(40 * cases.LIVE)
print(measured.faults)
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert least <= float(output.stdout) < most


def test_window_workload_replaces_its_oldest_buffer() -> None:
    setup, statement, names = Case("touch", "1 MiB", "bytepool").prepare()
    exec(setup, names)
    live = names["live"]
    assert isinstance(live, list)
    before = list(live)
    exec(statement, names)
    assert live[1:] == before[1:]
    assert live[0] is not before[0]
    assert bytes(live[0]) == b"\1" * cases.MIB


def test_command_writes_a_table_a_page_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [Case("round trip", "1 MiB", name) for name in ("bytepool", "bytearray")]
    monkeypatch.setattr(cases, "plan", lambda *, quick: few if quick else [])
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--output", str(tmp_path / "out")])
    program.main()
    printed = capsys.readouterr().out
    assert "bytearray" in printed
    assert "Processor: " in printed
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<svg") == 1
    assert "http" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("https://matplotlib.org", "").replace("http://creativecommons.org", ""), (
        "the page loads nothing from the network"
    )
    suite = pyperf.BenchmarkSuite.load(str(tmp_path / "out" / "results.json"))
    assert suite.get_benchmark_names() == [case.name for case in few]
    assert suite.get_benchmarks()[0].get_metadata()["page_faults"] >= 0
    assert (tmp_path / "out" / "round-trip-take-return-1-mib.svg").exists()
    table = (tmp_path / "out" / "tables.md").read_text()
    assert table.startswith("| Round trip: take, return, 1 MiB | time | spread | x bytepool |")


def test_missing_dependency_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "find_spec", lambda name: None if name == "pyperf" else name)
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(SystemExit, match=r"missing: pyperf; .*bytepool\[bench\]"):
        program.main()
    monkeypatch.setattr(sys, "argv", ["bench", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        program.main()
    assert "missing: pyperf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.5e-9, "1.50 ns"),
        (12.34e-9, "12.3 ns"),
        (0.00123, "1.23 ms"),
        (2.0, "2.00 s"),
        (0, "0.00 ns"),
    ],
)
def test_durations_show_three_digits(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_pure_python_pool_rejects_foreign_and_returned_buffers() -> None:
    pool = PurePool(keep=1)
    first, second = pool.take(3000), pool.take(4096)
    assert (len(first), len(second)) == (3000, 4096)
    pool.give(first)
    with pytest.raises(ValueError, match="not in use"):
        pool.give(first)
    with pytest.raises(ValueError, match="not in use"):
        pool.give(memoryview(b"a stranger's"))
    assert pool.take(4000).obj is first.obj
    pool.give(second)
