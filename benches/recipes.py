"""Measure the recipes of docs/recipes.md: the usual way and the recipe take turns.

``make bench-recipes`` runs it with ``tests`` on PYTHONPATH. Each run is a process of its own. The
table shows CPU seconds of the loop alone, as a ratio, with its spread. Recipes whose package is not
installed are named.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from dataclasses import dataclass, field

from libraries.replies import serve

KEEP = "1073741824"
TUNABLES = f"glibc.malloc.mmap_threshold={KEEP}:glibc.malloc.trim_threshold={KEEP}"

ARRAYS = """
import random
import numpy as np
choose = random.Random(1)
sizes = [int((64 << 10) * 64 ** choose.random()) for _ in range(3000)]
def loop():
    live = [None] * 16
    for number, size in enumerate(sizes):
        live[number % 16] = np.empty(size, np.uint8)
        live[number % 16].fill(1)
"""
MALLOPT = """
import ctypes
libc = ctypes.CDLL(None)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
    assert libc.mallopt(parameter, 1 << 30) == 1
"""
PICKLE = """
import io, pickle
content = [bytes(50_000_000)]
file = io.BytesIO()
def loop():
    for _ in range(20):
        {use}
        pickle.dump(content, file, protocol=4)
        assert file.getbuffer()[:2] == b"\\x80\\x04"
"""
HEAT = """
import numpy as np
plate = np.zeros((1000, 1000))
around = np.empty((998, 998))
def loop():
    for _ in range(60):
        up, down, left, right = plate[:-2, 1:-1], plate[2:, 1:-1], plate[1:-1, :-2], plate[1:-1, 2:]
        {use}
        plate[1:-1, 1:-1] += mean
"""
USUAL_HEAT = "mean = (up + down + left + right) * 0.25 - plate[1:-1, 1:-1]"
HEAT_WITH_OUT = """mean = np.add(up, down, out=around)
        mean += left
        mean += right
        mean *= 0.25
        mean -= plate[1:-1, 1:-1]"""
MONGO = """
import sys
from pymongo import MongoClient, network_layer
from pymongo.server_api import ServerApi
{use}
client = MongoClient("127.0.0.1", {port}, directConnection=True, server_api=ServerApi("1"))
def loop():
    for _ in range(40):
        assert len(client.db.files.find_one()["content"]) == 10_000_000
"""
POOLED_REPLIES = """
from bytepool import Pool
pool = Pool(max_size=16 << 20)
network_layer.bytearray = lambda n: pool.view(n) if n >= 65_536 else bytearray(n)
"""
DASK = """
import asyncio
from distributed.comm import connect, tcp
{use}
async def receive():
    comm = await connect("tcp://127.0.0.1:{port}")
    for _ in range(60):
        await comm.write("next")
        message = await comm.read()
        assert message["content"].nbytes == 10_000_000
    await comm.close()
def loop():
    asyncio.run(receive())
"""
POOLED_FRAMES = """
from bytepool import Pool
pool = Pool(max_size=16 << 20)
tcp.host_array = pool.view
"""
END = """
import time
begin = time.process_time()
loop()
print(time.process_time() - begin)
"""


@dataclass(frozen=True)
class Recipe:
    """The usual way, and the recipe. Both define ``loop()``."""

    name: str
    usual: str
    recipe: str
    environment: dict[str, str] = field(default_factory=dict)
    """Of the recipe."""
    needs: str = ""
    server: str = ""


def both(text: str, usual: str, recipe: str) -> tuple[str, str]:
    return text.replace("{use}", usual), text.replace("{use}", recipe)


RECIPES = [
    Recipe("np.empty, malloc settings", ARRAYS, ARRAYS, {"GLIBC_TUNABLES": TUNABLES}, "numpy"),
    Recipe("np.empty, mallopt at run time", ARRAYS, MALLOPT + ARRAYS, needs="numpy"),
    Recipe(
        "pickle of 50 MB, one BytesIO",
        *both(PICKLE, "file = io.BytesIO()", "file.seek(0)"),
    ),
    Recipe(
        "sums of 8 MB arrays, out=",
        *both(HEAT, USUAL_HEAT, HEAT_WITH_OUT),
        needs="numpy",
    ),
    Recipe(
        "pymongo, replies of 10 MB",
        *both(MONGO, "", POOLED_REPLIES),
        needs="pymongo",
        server="mongo",
    ),
    Recipe(
        "Dask, messages of 10 MB",
        *both(DASK, "", POOLED_FRAMES),
        needs="distributed",
        server="dask",
    ),
    Recipe(
        "Dask, the same, malloc settings",
        *both(DASK, "", ""),
        environment={"GLIBC_TUNABLES": TUNABLES},
        needs="distributed",
        server="dask",
    ),
]


def run(code: str, environment: dict[str, str]) -> float:
    """Return the CPU seconds of the loop."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code) + END],
        check=True,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        timeout=300,
    )
    return float(done.stdout.split()[-1])


def measure(recipe: Recipe, rounds: int) -> tuple[list[float], list[float]]:
    """Return the CPU seconds of the usual way, and the ratios of the rounds."""
    usual, ratios = [], []
    with ExitStack() as stack:
        port = str(stack.enter_context(serve(recipe.server))) if recipe.server else ""
        for _ in range(rounds):
            usual.append(run(recipe.usual.replace("{port}", port), {}))
            changed = run(recipe.recipe.replace("{port}", port), recipe.environment)
            ratios.append(changed / usual[-1])
    return usual, ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="words in the names of recipes (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print("| recipe | usual way | x usual way | spread |\n|---|---|---|---|", flush=True)
    for recipe in RECIPES:
        if options.names and not any(name in recipe.name for name in options.names):
            continue
        if recipe.needs and importlib.util.find_spec(recipe.needs) is None:
            print(f"missing: {recipe.needs}", file=sys.stderr)
            continue
        usual, ratios = measure(recipe, options.rounds)
        print(
            f"| {recipe.name} | {statistics.median(usual):.2f} s | {statistics.median(ratios):.2f}"
            f" | {min(ratios):.2f} to {max(ratios):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
