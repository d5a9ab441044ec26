"""Measure one case in a process of pyperf. ``command`` starts it with pyperf's options."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time
import timeit
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyperf

from bytepool import Pool

from .cases import Case, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY = "BYTEPOOL_BENCH_MEMORY"
"""The variable with the path of the JSON file for page faults per loop and bytes of memory."""


class Measured:
    """Measures the time and the page faults of the case's statement."""

    def __init__(self, case: Case) -> None:
        self._before = resident("VmRSS")
        if case.workload == "threads":
            n = parse_size(case.load)
            self._time: Callable[[int], float] = lambda loops: two_threads(case.contender, n, loops)
        else:
            setup, statement, names = case.prepare()
            exec(setup, names)
            self._time = timeit.Timer(statement, globals=names).timeit
        self.faults: float = 0.0

    def __call__(self, loops: int) -> float:
        """Run the statement ``loops`` times, and return the seconds."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        seconds = self._time(loops)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        self.faults = faults / loops
        return seconds

    def report(self) -> str:
        """Return page faults and memory as JSON."""
        grown = resident("VmHWM") - self._before
        return json.dumps({"page_faults": self.faults, "memory_bytes": grown})


def resident(field: str) -> int:
    """Return the resident bytes of this process: now (``VmRSS``) or at the peak (``VmHWM``)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(field + ":")[1].split()[0]) * 1024


def two_threads(contender: str, n: int, loops: int) -> float:
    """Return the seconds in which two threads each receive ``loops`` messages of ``n`` bytes."""
    pool = Pool(max_size=n)
    barrier = threading.Barrier(3)

    def work() -> None:
        free: deque[bytearray] = deque()
        payload = bytes(n)
        left, right = socket.socketpair()
        with left, right:
            left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * n)
            barrier.wait()
            for _ in range(loops):
                left.sendall(payload)
                if contender == "bytepool":
                    receive(right, pool.view(n))
                else:
                    buffer = free.pop() if free else bytearray(n)
                    receive(right, memoryview(buffer))
                    free.append(buffer)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def receive(sock: socket.socket, view: memoryview) -> None:
    """Receive until the view is full."""
    filled = 0
    while filled < len(view):
        filled += sock.recv_into(view[filled:])


def main() -> None:
    """Run the case that ``--case`` names."""

    def pass_on(command: list[str], options: Any) -> None:
        command.extend(("--case", options.case))

    runner = pyperf.Runner(add_cmdline_args=pass_on, program_args=("-m", "bytepool.bench.worker"))
    runner.argparser.add_argument("--case", required=True)
    options = runner.parse_args()
    case = Case(*json.loads(options.case))
    measured = Measured(case) if options.worker else None
    runner.bench_time_func(case.name, measured)
    if measured and MEMORY in os.environ:
        Path(os.environ[MEMORY]).write_text(measured.report())


if __name__ == "__main__":
    main()
