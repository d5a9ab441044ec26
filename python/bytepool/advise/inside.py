"""The code that runs inside the user's program, in the runs that the advisor adds.

``startup/sitecustomize.py`` calls one of these functions before the program starts. Each one leaves
a file in the folder of the run, which shows that it worked.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

INTERVAL = 0.005  # seconds between two samples


def _mark(folder: str, kind: str) -> Path:
    """Return the path of a new file. One process may start several programs, by ``exec``."""
    return Path(folder, f"{kind}.{os.getpid()}.{time.monotonic_ns()}")


def trace(folder: str) -> None:
    """Record all allocations with memray, and the names of the imported modules."""
    import memray

    tracker = memray.Tracker(
        destination=memray.FileDestination(_mark(folder, "trace"), compress_on_exit=False),
        follow_fork=True,
    )
    # memray hides the frames of the thread that starts it.
    starter = threading.Thread(target=tracker.__enter__)
    starter.start()
    starter.join()
    atexit.register(tracker.__exit__, None, None, None)


def sample(folder: str) -> None:
    """Count in which lines the process uses CPU time, and the names of the imported modules.

    The counts are written when the process ends, and also every second, because ``os._exit()``
    skips the end.
    """
    path = _mark(folder, "sample")
    counts: Counter[tuple[tuple[str, str, int], ...]] = Counter()
    threading.Thread(target=_sample_for_ever, args=(counts, path), daemon=True).start()
    atexit.register(_write, counts, path)


def _sample_for_ever(counts: Counter[tuple[tuple[str, str, int], ...]], path: Path) -> None:
    own = threading.get_ident()
    written = time.monotonic()
    cpu = time.process_time()
    while True:
        time.sleep(INTERVAL)
        used, cpu = time.process_time() - cpu, time.process_time()
        if used > INTERVAL / 2:  # else the threads wait
            for ident, frame in sys._current_frames().items():
                if ident != own:
                    stack = []
                    while frame is not None:
                        code = frame.f_code
                        stack.append((code.co_name, code.co_filename, frame.f_lineno or 0))
                        frame = frame.f_back  # type: ignore[assignment]
                    counts[tuple(stack)] += 1
        if time.monotonic() - written > 1.0:
            written = time.monotonic()
            _write(counts, path)


def _write(counts: Counter[tuple[tuple[str, str, int], ...]], path: Path) -> None:
    stacks = [[list(map(list, stack)), count] for stack, count in list(counts.items())]
    text = json.dumps({"stacks": stacks, "modules": sorted(map(str, list(sys.modules)))})
    new = path.with_name("new-" + path.name)
    new.write_text(text)
    new.replace(path)


def install(folder: str) -> None:
    """Replace asyncio's streams by ``bytepool.streams``."""
    from bytepool import streams

    streams.install()
    _mark(folder, "applied").touch()


def uvicorn(folder: str) -> None:
    """Make ``bytepool.uvicorn`` the protocol that uvicorn chooses by itself."""
    from uvicorn import config

    config.HTTP_PROTOCOLS["auto"] = config.HTTP_PROTOCOLS["httptools"] = "bytepool.uvicorn:Protocol"
    _mark(folder, "applied").touch()
