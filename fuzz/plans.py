"""Run random inputs on all cores, and keep those that fail.

An input follows from its number, so that a run can be repeated, and continued at another number.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path
from typing import NamedTuple

CHUNK = 1000  # inputs that a process runs at a time


class Chunk(NamedTuple):
    """Inputs from one number to another."""

    target: str
    first: int
    end: int


def plan(number: int) -> bytes:
    """Return the input of that number."""
    numbers = random.Random(number)
    return numbers.randbytes(16 + int(120 * numbers.random() ** 3))


def run(chunk: Chunk) -> int:
    """Run the inputs of a chunk, and return how many those were."""
    one = importlib.import_module(f"fuzz.{chunk.target}").one
    gc.disable()  # nothing may need it
    for number in range(chunk.first, chunk.end):
        try:
            one(plan(number))
        except BaseException:
            folder = Path(__file__).parent / "artifacts" / chunk.target
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"plan-{number}"
            file.write_bytes(plan(number))
            print(f"{file} fails:", file=sys.stderr)
            raise
    gc.collect()
    return chunk.end - chunk.first


def main(target: str, arguments: list[str]) -> None:
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    parser = argparse.ArgumentParser(prog=f"python -m fuzz {target} --random")
    parser.add_argument("count", type=int, help="number of inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    end = options.first + options.count
    chunks = [
        Chunk(target, first, min(first + CHUNK, end)) for first in range(options.first, end, CHUNK)
    ]
    start, columns = time.monotonic(), (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    with (
        multiprocessing.get_context("spawn").Pool(options.processes) as pool,
        Progress(*columns, TimeRemainingColumn(), disable=not sys.stdout.isatty()) as progress,
    ):
        shown = progress.add_task(target, total=options.count)
        for count in pool.imap_unordered(run, chunks):
            progress.advance(shown, count)
    print(f"{target}: {options.count} random inputs in {time.monotonic() - start:.0f} s")
