"""Replay the recorded allocations of some lines: as they are, and on a real ``Pool``.

``python -m bytepool.advise.replay FILE now|pool whole|bare`` does it once, and prints the result as
JSON. Each time runs in a process of its own, so that the allocator starts from the same state.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from resource import RUSAGE_THREAD, getrusage
from typing import TYPE_CHECKING, Any

from bytepool import Pool
from bytepool.advise.remedies import TUNABLES
from bytepool.advise.trace import MAIN
from bytepool.advise.verdict import Saving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bytepool.advise.machine import Machine
    from bytepool.advise.run import Run
    from bytepool.advise.trace import Site, Trace

Step = tuple[int, int, int, str]
"""The thread, the block, its size in bytes or -1 if it is freed, and the kind of memory."""
WHOLE, BARE = "whole", "bare"  # what is written of each block: all of it, or one byte
ALWAYS_WRITTEN = "bytes"  # the kind of blocks that are returned with their content
# The defaults of Pool, which need not be written.
MAX_BUFFERS = Pool().max_buffers
MAX_IDLE_BYTES = 64 << 20


@dataclass(frozen=True)
class Replay:
    """The effect that a pool would have on these lines."""

    sites: tuple[Site, ...]
    call: str
    """The ``Pool(...)`` to write."""
    hit_rate: float
    idle_bytes: int
    """Idle when the program ended."""
    peak_bytes: int
    """An upper bound of the bytes in use, as in ``Stats``."""
    peak_idle_bytes: int
    least: Saving
    """The predicted saving, of each replay against the run of the program beside it."""
    most: Saving
    """The same, if the program writes little of its blocks, or all. A trace does not show it."""
    share: float
    """The share of the recorded events that was replayed; the savings are scaled up from it."""


@dataclass
class Replays:
    """The replays of some lines, which take turns with the program.

    A replay makes and frees blocks in as many threads as the program, because glibc reuses memory
    within a thread. It must not count what the program does not do. So its allocator keeps freed
    memory, its page faults are subtracted, and the page faults of the program are added. How much
    of each block the program writes is not known, except for received ``bytes``. So there are two
    predictions: for one byte, and for all bytes or as many as the program has CPU time to write.
    """

    path: Path
    sites: tuple[Site, ...]
    arguments: dict[str, int]
    """Of the pool."""
    share: float
    """The share of their allocations that is replayed."""
    bytes_share: float
    """Their share of the bytes of all large blocks."""
    rounds: list[dict[tuple[str, str], dict[str, Any]]] = field(default_factory=list)

    def take_turn(self) -> None:
        """Replay with and without the pool, writing whole blocks and not."""
        ways = [(mode, write) for write in (WHOLE, BARE) for mode in ("now", "pool")]
        if len(self.rounds) % 2:
            ways.reverse()
        self.rounds.append({way: _child(self.path, *way) for way in ways})

    def compare(self, plain: Sequence[Run], machine: Machine) -> Replay:
        """Compare each turn with the run of the program beside it."""
        rounds = [self._saved(*one, machine) for one in zip(self.rounds, plain, strict=True)]
        names = ("a pool (predicted, little written)", "a pool (predicted, all written)")
        savings = map(Saving, names, zip(*rounds, strict=True))
        least, most = sorted(savings, key=lambda one: one.median)
        pool = self.rounds[-1]["pool", WHOLE]
        arguments = (f"{name}={_number(n)}" for name, n in self.arguments.items())
        return Replay(
            sites=self.sites,
            call=f"Pool({', '.join(arguments)})",
            hit_rate=pool["hit_rate"],
            idle_bytes=pool["idle_bytes"],
            peak_bytes=pool["peak_bytes"],
            peak_idle_bytes=pool["peak_idle_bytes"],
            least=least,
            most=most,
            share=self.share,
        )

    def _saved(
        self, turn: dict[tuple[str, str], dict[str, Any]], program: Run, machine: Machine
    ) -> tuple[float, ...]:
        """Return the share of the program's CPU time that a pool saves.

        The first if blocks are not written, the second if they are.
        """
        if not program.cpu:
            return 0.0, 0.0
        cpu: dict[tuple[str, str], float]
        cpu = {
            way: (one["cpu"] - one["faults"] * machine.fault_seconds) / self.share
            for way, one in turn.items()
        }
        faults = program.excess_faults * machine.fault_seconds * self.bytes_share
        left = program.cpu - faults
        whole, bare = cpu["now", WHOLE], cpu["now", BARE]
        written = 1.0 if whole <= left else max((left - bare) / max(whole - bare, 1e-9), 0.0)
        saved_bare = bare - cpu["pool", BARE]
        saved = written * (whole - cpu["pool", WHOLE]) + (1 - written) * saved_bare
        return tuple(min((one + faults) / program.cpu, 1.0) for one in (saved_bare, saved))


def prepare(trace: Trace, folder: Path) -> Replays | None:
    """Choose the lines that a pool can serve, and the pool for them; None if there is no line."""
    chosen = {index for index, site in enumerate(trace.sites) if site.way is not None}
    replayed = 0
    events: list[Step] = []
    known: set[int] = set()
    for event in trace.events:
        if event.site in chosen:
            way = trace.sites[event.site].way
            assert way is not None
            events.append((event.thread, event.block, event.size, way.kind))
            known.add(event.block)
            replayed += 1
        elif event.size < 0 and event.block in known:
            events.append((event.thread, event.block, -1, ""))
    if not replayed:
        return None
    sizes = [size for _, _, size, _ in events if size > 0]
    arguments = {"max_size": 1 << (max(sizes) - 1).bit_length()}
    # First on a pool without limits, to see how many buffers it keeps.
    path = folder / "replay.json"
    path.write_text(json.dumps({"events": events, "pool": _without_limits(arguments, sizes)}))
    unlimited = _child(path, "pool", BARE)
    if unlimited["peak_depth"] > MAX_BUFFERS:
        arguments["max_buffers"] = unlimited["peak_depth"]
    if unlimited["peak_idle_bytes"] > max(MAX_IDLE_BYTES, 4 * arguments["max_size"]):
        arguments["max_idle_bytes"] = 1 << (unlimited["peak_idle_bytes"] - 1).bit_length()
    path.write_text(json.dumps({"events": events, "pool": arguments}))
    sites = tuple(site for index, site in enumerate(trace.sites) if index in chosen)
    share = replayed / sum(len(site.sizes) for site in sites)
    bytes_share = sum(site.bytes for site in sites) / trace.bytes
    return Replays(path, sites, arguments, share, bytes_share)


def _without_limits(arguments: dict[str, int], sizes: list[int]) -> dict[str, int]:
    return {**arguments, "max_buffers": len(sizes), "max_idle_bytes": 2 * sum(sizes)}


def _number(n: int) -> str:
    """Write a number of bytes as a programmer does."""
    for shift in (30, 20, 10):
        if n >= 1 << shift and n % (1 << shift) == 0:
            return f"{n >> shift} << {shift}"
    return str(n)


def _child(path: Path, mode: str, write: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bytepool.advise.replay", str(path), mode, write],
        check=True,
        env={
            **{name: value for name, value in os.environ.items() if name != "BYTEPOOL"},
            "GLIBC_TUNABLES": TUNABLES,
        },
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# The rest runs in the child.


def makers() -> dict[str, Callable[[int], object]]:
    """Return how each kind of ``Way`` makes its memory."""
    new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
    new_bytes.restype, new_bytes.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t)

    def uninitialised(n: int) -> object:
        return new_bytes(None, n)

    found: dict[str, Callable[[int], object]] = {
        "bytearray": bytearray,
        "bytes": uninitialised,
        "malloc": uninitialised,  # the same call of the allocator
    }
    return found


def address(thing: object) -> int:
    """Return where the memory of a bytes, bytearray or memoryview object begins."""
    if isinstance(thing, bytes):
        where = ctypes.cast(ctypes.c_char_p(thing), ctypes.c_void_p).value
        assert where is not None
        return where
    return ctypes.addressof(ctypes.c_char.from_buffer(thing))  # type: ignore[arg-type]


def once(events: list[Step], pool: Pool | None, write: str = WHOLE) -> tuple[float, int]:
    """Make, write and free the blocks in order, and return the CPU seconds and the page faults."""
    live: dict[int, object] = {}
    made = makers()

    def play(part: list[Step]) -> tuple[float, int]:
        faults, begin = getrusage(RUSAGE_THREAD).ru_minflt, time.thread_time()
        for _, block, size, kind in part:
            if size < 0:
                del live[block]
                continue
            thing = made[kind](size) if pool is None else pool.view(size)
            # As the program writes the received message, or the result.
            written = size if write == WHOLE or kind == ALWAYS_WRITTEN else 1
            ctypes.memset(address(thing), 1, written)
            live[block] = thing
            del thing
        seconds = time.thread_time() - begin
        return seconds, getrusage(RUSAGE_THREAD).ru_minflt - faults

    parts = [(thread, list(part)) for thread, part in groupby(events, itemgetter(0))]
    last = {thread: index for index, (thread, _) in enumerate(parts)}
    threads: dict[int, ThreadPoolExecutor] = {}
    results = []
    for index, (thread, part) in enumerate(parts):
        if thread == MAIN:
            results.append(play(part))
            continue
        if thread not in threads:
            threads[thread] = ThreadPoolExecutor(1)
        results.append(threads[thread].submit(play, part).result())
        if last[thread] == index:
            threads.pop(thread).shutdown()
    return sum(seconds for seconds, _ in results), sum(faults for _, faults in results)


def main(path: str, mode: str, write: str) -> None:
    """Replay the file once, and print its cost."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        content = json.load(file)
    pool = Pool(**content["pool"]) if mode == "pool" else None
    cpu, faults = once(content["events"], pool, write)
    result: dict[str, object] = {"cpu": cpu, "faults": faults}
    if pool is not None:
        stats = pool.stats()
        result |= {
            "hit_rate": stats.hit_rate,
            "idle_bytes": stats.idle_bytes,
            "peak_bytes": stats.peak_outstanding_bytes,
            "peak_idle_bytes": stats.peak_idle_bytes,
            "peak_depth": max((bucket.peak_depth for bucket in stats.buckets), default=0),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
