"""Upload to a server of its own over connections that break, stall and lie, and look for leaks.

After a warm-up and at the end all clients are gone. Then no buffer may be in use or idle, no task
may be left, and the resident memory must be as it was. The server may report no error in between,
and each complete upload must be answered with its checksum.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from soak_client import PATIENCE, Client, Findings
from soak_server import MIB

SERVER = Path(__file__).parent / "soak_server.py"
CLIENTS = 24
SLACK = 24 * MIB  # bytes that the server may have more at the end than after its warm-up


class Soak:
    """One run: its server's address, its events and its failures."""

    def __init__(self, address: tuple[str, int], seconds: float) -> None:
        self.address = address
        self.seconds = seconds
        self.begin = time.monotonic()
        self.findings = Findings()
        # The server's resident bytes: after the warm-up, and at the end.
        self.warm = self.last = 0

    async def run(self) -> None:
        progress = asyncio.create_task(self.progress())
        self.warm = await self.upload_until(self.begin + min(self.seconds / 3, 60))
        self.last = await self.upload_until(self.begin + self.seconds)
        progress.cancel()
        if self.last > self.warm + SLACK:
            text = f"{self.last} bytes are resident, but {self.warm} after the warm-up"
            self.findings.failures.append(text)

    def report(self) -> str:
        events = self.findings.events
        counts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in sorted(events.items()))
        return (
            f"{events.total():,} events in {self.seconds:.0f} s ({counts}): resident "
            f"{self.warm / MIB:.0f} MiB after the warm-up, {self.last / MIB:.0f} at the end; "
            f"{len(self.findings.failures)} failures"
        )

    async def upload_until(self, end: float) -> int:
        """Run clients, check what they leave behind, and return the server's resident bytes."""
        seed = self.findings.events.total()
        clients = [Client(self.address, self.findings, seed + n) for n in range(CLIENTS)]
        await asyncio.gather(*(client.run(end) for client in clients))
        client = clients[0]
        # The task of the request for the state, and that of the server itself.
        quiet = {"buffers in use": 0, "idle bytes": 0, "tasks": 2}
        give_up = time.monotonic() + 10
        while True:
            async with asyncio.timeout(PATIENCE):
                await client.connect()
                client.send(memoryview(b""), path="state")
                state = json.loads((await client.response())[1])
                client.writer.close()
            size: int = state.pop("resident")
            if state == quiet:
                return size
            if time.monotonic() > give_up:
                self.findings.failures.append(f"{state} in place of {quiet}")
                return size
            await asyncio.sleep(0.1)

    async def progress(self) -> None:
        if not sys.stderr.isatty():
            return
        from rich.progress import Progress

        with Progress() as bar:
            task = bar.add_task("soaking", total=self.seconds)
            while True:
                bar.update(task, completed=time.monotonic() - self.begin)
                await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as listening, tempfile.TemporaryFile() as errors:
        soak = Soak(listening.getsockname(), options.minutes * 60)
        failures = soak.findings.failures
        fd = listening.fileno()
        command = [sys.executable, "-W", "default", str(SERVER), str(fd)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": errors, "pass_fds": [fd]}
        with subprocess.Popen(command, **pipes) as server:
            listening.close()  # or clients would wait for a server that has ended
            try:
                uvloop.run(soak.run())
            except (OSError, EOFError) as error:
                failures.append(f"the server cannot be reached: {error!r}")
            assert server.stdin
            server.stdin.close()
            try:
                code = server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()
                code = server.wait()
        if code:
            failures.append(f"the server ended with code {code}")
        errors.seek(0)
        if text := errors.read().decode():
            failures.append(f"the server reported:\n{text[-5000:]}")
    print(soak.report())
    sys.exit("\n".join(failures[:20]) or 0)


if __name__ == "__main__":
    main()
