"""Run all cases in turns, and write tables, a page with charts, and pyperf's JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import pyperf
from rich.console import Console
from rich.progress import track

from . import cases, report
from .worker import MEMORY

if TYPE_CHECKING:
    import argparse


def measure(case: cases.Case, loops: int | None, *, quick: bool) -> tuple[pyperf.Benchmark, str]:
    """Run one round of one case. Return its times, and its memory figures as JSON."""
    timing = ["--values", "3", "--min-time", "0.02" if quick else "0.05", "--warmups", "1"]
    if loops:
        timing += ["--loops", str(loops)]
    with tempfile.TemporaryDirectory() as folder:
        output, memory = Path(folder, "result.json"), Path(folder, "memory.json")
        subprocess.run(
            [
                *(sys.executable, "-m", "bytepool.bench.worker", "--case"),
                *(json.dumps(astuple(case)), "--quiet", "--copy-env", "--processes", "1"),
                *timing,
                *("--output", str(output)),
            ],
            check=True,
            env=os.environ
            | (cases.allocators()[case.allocator] if case.allocator else {})
            | {MEMORY: str(memory)},
            stdout=subprocess.DEVNULL,
        )
        return pyperf.Benchmark.load(str(output)), memory.read_text()


def facts(options: argparse.Namespace) -> dict[str, str]:
    """Return the facts about the machine and the run that a reader of the numbers needs."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if "model name" in line), model)
    packages = ["bytepool", "numpy", "pyarrow", "pyperf"]
    versions = [f"{name} {version}" for name in packages if (version := version_of(name))]
    return {
        "Command": "python -m bytepool.bench" + (" --quick" if options.quick else ""),
        "Processor": f"{model}, {os.cpu_count()} cores",
        "System": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Packages": ", ".join(versions),
        "Not installed": ", ".join(cases.missing()) or "nothing",
        "Shown": f"medians; rounds in which the contenders took turns: {options.rounds}",
    }


def version_of(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def run(options: argparse.Namespace) -> None:
    """Run the cases, and print and write the results."""
    console = Console() if sys.stdout.isatty() else Console(width=110)
    plan = cases.plan(quick=options.quick)
    results = {case: report.Result(case.label) for case in plan}
    benchmarks: dict[str, pyperf.Benchmark] = {}
    for case in track(plan * options.rounds, "Measuring", console=console, transient=True):
        known = benchmarks.get(case.name)
        loops = known.get_total_loops() if known else None
        benchmark, memory = measure(case, loops, quick=options.quick)
        results[case].seconds.append(benchmark.mean())
        figures = json.loads(memory)
        results[case].page_faults = figures["page_faults"]
        results[case].memory_bytes = figures["memory_bytes"]
        benchmark.update_metadata(figures)
        if known:
            known.add_runs(benchmark)
        else:
            benchmarks[case.name] = benchmark

    members: dict[str, list[cases.Case]] = {}
    for case in plan:
        members.setdefault(case.group, []).append(case)
    groups = [
        report.Group(
            title,
            cases.BASELINES.get(found[0].workload, "bytepool"),
            [results[case] for case in found],
        )
        for title, found in members.items()
    ]
    about = facts(options)
    for name, text in about.items():
        console.print(f"{name}: {text}", highlight=False)
    for group in groups:
        console.print(group.table())
    report.write(options.output, groups, about)
    json_path = options.output / "results.json"
    pyperf.BenchmarkSuite(list(benchmarks.values())).dump(str(json_path), replace=True)
    console.print(
        f"Written: {options.output / 'index.html'}, {json_path} (for python -m pyperf)",
        highlight=False,
    )
