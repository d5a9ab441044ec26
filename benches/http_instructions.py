"""Count the instructions of a server for small requests: uvicorn as it is, and with our protocol.

CPU times of small requests differ by more from round to round than both servers do; instructions
repeat. Each server runs twice in callgrind, with more requests the second time. The difference of
both counts, divided by the extra requests, excludes the start of the process.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys

from http_uploads import GROUPS, SERVERS, SMALL, request_on
from rich.progress import track

FEW, MANY = 200, 800


def instructions(contender: str, loop: str, load: str, requests: int) -> int:
    """Return the instructions of a whole server process that answers so many requests."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        server = subprocess.Popen(
            [*valgrind, sys.executable, SERVERS, contender, loop, str(sock.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[sock.fileno()],
        )
    try:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        request_on(port, load, requests, [])
        _, report = server.communicate("begin\nend\n", timeout=60)
    finally:
        server.kill()
    counted = re.search(r"Collected : (\d+)", report)
    assert counted, report
    return int(counted[1])


def main() -> None:
    if not shutil.which("valgrind"):
        sys.exit("missing: valgrind (Debian: apt install valgrind)")
    print("| request, loop | stock | ours | ratio |\n| --- | --: | --: | --: |")
    plan = [(load, loop) for load in SMALL for loop in ("uvloop", "asyncio")]
    for load, loop in track(plan, transient=True, disable=not sys.stdout.isatty()):
        stock, ours = (
            (instructions(name, loop, load, MANY) - instructions(name, loop, load, FEW))
            / (MANY - FEW)
            for name in GROUPS["small"]
        )
        print(f"| {load}, {loop} | {stock:,.0f} | {ours:,.0f} | {ours / stock:.3f} |", flush=True)


if __name__ == "__main__":
    main()
