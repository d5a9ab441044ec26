"""Metrics of pools in servers that load the application and then fork, as gunicorn does."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from helpers import LONG, run_python
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION = """
import os
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from bytepool import Pool, prometheus

pool = Pool(name="uploads", max_size=4096)
prometheus.register(pool)
views = [pool.view(4096) for _ in range(100)]  # the work of the parent process
views.clear()

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/work":
        pool.view(4096)
        prometheus.publish()
        body = str(os.getpid()).encode()
    elif path == "/metrics":  # any worker serves the numbers of all
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    else:  # the numbers of this worker
        body = f"{os.getpid()}\\n".encode() + generate_latest()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
CONFIGURATION = """
from prometheus_client import multiprocess

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


class Server:
    """gunicorn with a preloaded application and two workers."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "socket")

    def get(self, path: str) -> str:
        with contextlib.closing(http.client.HTTPConnection("localhost")) as connection:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(LONG)
            connection.sock.connect(self._path)
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.get("/metrics") is not None)
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("gunicorn")
    (tmp_path / "application.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(CONFIGURATION)
    (tmp_path / "metrics").mkdir()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2"]
    command += ["--bind", f"unix:{tmp_path / 'socket'}", "--log-level", "error", "application"]
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    running = Server(tmp_path)
    try:
        deadline = time.monotonic() + LONG
        while not running.is_up():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield running
    finally:
        process.terminate()
        process.wait(LONG)


def values(text: str) -> dict[str, float]:
    """Return the sum of all samples of each metric."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + LONG
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.thread_unsafe(reason="its threads would count each other's requests")
def test_a_scrape_shows_the_pools_of_all_workers_and_not_the_parents_counters(
    server: Server,
) -> None:
    served: dict[str, int] = {}

    def work() -> bool:
        pid = server.get("/work")
        served[pid] = served.get(pid, 0) + 1
        return len(served) == 2

    wait_until(work)
    total = sum(served.values())
    scrape = values(server.get("/metrics"))
    assert scrape["bytepool_requests_total"] == total
    assert scrape["bytepool_returned_buffers_total"] == total
    # Gauges are those of the workers: each has the one idle buffer that it last used at least.
    assert scrape["bytepool_idle_bytes"] >= 2 * 4096
    assert scrape["bytepool_outstanding_bytes"] == 0
    # A scrape of one worker shows that worker's own work.
    pid, text = server.get("/own").split("\n", 1)
    assert values(text)["bytepool_requests_total"] == served[pid]
    # The counters of a worker that ended stay, and its gauges end.
    idle = scrape["bytepool_idle_bytes"]
    os.kill(int(pid), signal.SIGTERM)
    wait_until(lambda: values(server.get("/metrics"))["bytepool_idle_bytes"] < idle)
    assert values(server.get("/metrics"))["bytepool_requests_total"] == total


def test_forked_process_counts_from_its_fork_on() -> None:
    code = """
        import os, sys, threading
        from prometheus_client import REGISTRY
        from bytepool import Pool, prometheus
        pool = Pool(4096, 4096, name="uploads")
        prometheus.register(pool)
        def misses(registry=REGISTRY):
            labels = {"pool": "uploads", "size": "4096", "result": "miss"}
            return registry.get_sample_value("bytepool_requests_total", labels) or 0
        held = [pool.view(4096) for _ in range(5)]
        assert misses() == 5
        lock = prometheus._state.lock
        lock.acquire()  # as if another thread registered a pool during the fork
        for generation in (1, 2):
            if (child := os.fork()) == 0:
                assert misses() == 0, misses()
                later = Pool(name="later")
                prometheus.register(later)
                later.view(1)
                held += [pool.view(4096) for _ in range(generation)]
                assert misses() == generation, misses()
                outstanding = REGISTRY.get_sample_value(
                    "bytepool_outstanding_bytes", {"pool": "uploads"}
                )
                assert outstanding == pool.stats().outstanding_bytes
                if generation == 2:  # a child of a child
                    if (grandchild := os.fork()) == 0:
                        assert misses() == 0
                        os._exit(0)
                    assert os.waitpid(grandchild, 0)[1] == 0
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        lock.release()
        assert misses() == 5
    """
    assert run_python(code) == ""


def test_published_gauges_of_a_pool_that_is_gone_are_zero(tmp_path: Path) -> None:
    code = f"""
        import os
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = {str(tmp_path)!r}
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector
        from bytepool import Pool, prometheus
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        def value(name, **labels):
            return registry.get_sample_value("bytepool_" + name, {{"pool": "uploads", **labels}})
        for round in (1, 2):
            pool = Pool(4096, 4096, name="uploads", max_bytes=1 << 20)
            prometheus.register(pool)
            pool.view(4096)
            for _ in range(2):
                prometheus.publish()
                assert value("idle_bytes") == 4096
                assert value("limit_bytes", limit="max_bytes") == 1 << 20
                assert value("requests_total", size="4096", result="miss") == round
            del pool
            prometheus.publish()
            assert value("idle_bytes") == 0
            assert value("idle_buffers", size="4096") == 0
            assert value("limit_bytes", limit="max_bytes") == 0
            assert value("requests_total", size="4096", result="miss") == round
    """
    assert run_python(code) == ""
