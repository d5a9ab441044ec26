"""``bytepool.prometheus``, scraped over HTTP as Prometheus does it."""

from __future__ import annotations

import contextlib
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from bytepool import Pool
from bytepool.prometheus import PoolCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextlib.contextmanager
def endpoint(*pools: Pool) -> Iterator[Callable[[], Scrape]]:
    """Serve the metrics of the pools over HTTP, and return a function that scrapes them."""
    registry = CollectorRegistry()
    registry.register(PoolCollector(*pools))
    server, thread = start_http_server(0, "127.0.0.1", registry)

    def scrape() -> Scrape:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as page:
            text = page.read().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    try:
        yield scrape
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def value(scrape: Scrape, name: str, **labels: str) -> float:
    return scrape[name, frozenset(labels.items())]


def test_every_pool_is_exported_under_its_name() -> None:
    uploads = Pool(1024, 4096, 2, name="uploads", max_bytes=1 << 20)
    other = Pool()
    with endpoint(uploads, other) as scrape:
        views = [uploads.view(1000) for _ in range(3)]
        views.clear()
        uploads.allocate(1000).release()
        alloc = uploads.allocate(4000)
        view = alloc.bytes()
        alloc.release()
        transient = uploads.view(5000)
        seen = scrape()
        label = {"pool": "uploads", "size": "1024"}
        assert value(seen, "bytepool_requests_total", **label, result="hit") == 1
        assert value(seen, "bytepool_requests_total", **label, result="miss") == 3
        assert value(seen, "bytepool_returned_buffers_total", **label) == 4
        assert value(seen, "bytepool_freed_buffers_total", **label, reason="discarded") == 1
        assert value(seen, "bytepool_idle_buffers", **label) == 2
        larger = {"pool": "uploads", "size": "4096"}
        assert value(seen, "bytepool_outstanding_buffers", **larger) == 1
        pool = {"pool": "uploads"}
        assert value(seen, "bytepool_outstanding_bytes", **pool) == 4096 + 5000
        assert value(seen, "bytepool_deferred_bytes", **pool) == 4096
        assert value(seen, "bytepool_transient_requests_total", **pool) == 1
        assert value(seen, "bytepool_limit_bytes", **pool, limit="max_bytes") == 1 << 20
        assert value(seen, "bytepool_idle_bytes", pool="") == 0
        # Every scrape takes new snapshots.
        del view, transient
        assert value(scrape(), "bytepool_outstanding_bytes", **pool) == 0
        stats = uploads.stats()
        assert value(scrape(), "bytepool_dropped_buffers_total", **pool) == stats.dropped


def test_metric_names_follow_the_conventions_of_prometheus() -> None:
    registry = CollectorRegistry()
    registry.register(PoolCollector(Pool()))
    for family in registry.collect():
        assert family.name.startswith("bytepool_")
        assert not family.name.endswith("_total"), "the client library adds this suffix to counters"
        assert family.documentation


@pytest.mark.parametrize("names", [("a", "a"), (None, None), (None, "")])
def test_pools_with_equal_names_raise(names: tuple[str | None, ...]) -> None:
    with pytest.raises(ValueError, match="2 of the pools are named"):
        PoolCollector(*(Pool(name=name) for name in names))
