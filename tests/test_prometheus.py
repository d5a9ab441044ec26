"""``bytepool.prometheus``, scraped over HTTP as Prometheus does it."""

from __future__ import annotations

import contextlib
import gc
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from bytepool import Pool, prometheus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextlib.contextmanager
def endpoint(*pools: Pool) -> Iterator[Callable[[], Scrape]]:
    """Serve the metrics of the pools over HTTP, and return a function that scrapes them."""
    registry = CollectorRegistry()
    prometheus.register(*pools, registry=registry)
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
    registry, pool = CollectorRegistry(), Pool()
    prometheus.register(pool, registry=registry)
    for family in registry.collect():
        assert family.name.startswith("bytepool_")
        assert not family.name.endswith("_total"), "the client library adds this suffix to counters"
        assert family.documentation


def pools_in(registry: CollectorRegistry) -> list[str]:
    """Return the names of the pools in a scrape, which a parser of Prometheus must accept."""
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a scrape has each metric once"
    idle = next(family for family in families if family.name == "bytepool_idle_bytes")
    return [sample.labels["pool"] for sample in idle.samples]


def test_application_and_library_register_pools_in_one_registry() -> None:
    registry = CollectorRegistry(auto_describe=True)
    application, library = Pool(name="uploads"), Pool(name="library")
    prometheus.register(application, registry=registry)
    prometheus.register(library, registry=registry)
    assert pools_in(registry) == ["uploads", "library"]


def test_a_pool_can_be_added_and_removed_later() -> None:
    registry = CollectorRegistry(auto_describe=True)
    first, second = Pool(name="first"), Pool()
    prometheus.register(registry=registry)
    assert pools_in(registry) == []
    prometheus.register(first, registry=registry)
    prometheus.register(first, second, registry=registry)  # again, and another
    assert pools_in(registry) == ["first", ""]
    prometheus.unregister(first, registry=registry)
    prometheus.unregister(first, registry=registry)
    prometheus.unregister(first, registry=CollectorRegistry())
    assert pools_in(registry) == [""]


@pytest.mark.parametrize("names", [("a", "a"), (None, None), (None, "")])
def test_pools_with_equal_names_raise(names: tuple[str | None, ...]) -> None:
    registry = CollectorRegistry()
    first, second = (Pool(name=name) for name in names)
    prometheus.register(first, registry=registry)
    with pytest.raises(ValueError, match=f"another pool named '{names[1] or ''}' is registered"):
        prometheus.register(second, registry=registry)
    assert pools_in(registry) == [names[0] or ""]
    prometheus.register(second, registry=CollectorRegistry())


def test_the_name_of_a_closed_or_dropped_pool_can_be_registered_again() -> None:
    registry = CollectorRegistry()
    for _ in range(2):  # a factory of applications, called twice
        pool = Pool(name="uploads")
        prometheus.register(pool, registry=registry)
        del pool
        gc.collect()
    assert pools_in(registry) == []
    closed, pool = Pool(name="uploads"), Pool(name="uploads")
    prometheus.register(closed, registry=registry)
    closed.close()
    prometheus.register(pool, registry=registry)
    pool.view(5000)
    assert pools_in(registry) == ["uploads"]
    assert b'bytepool_idle_bytes{pool="uploads"} 0.0' not in generate_latest(registry)


def test_publish_does_nothing_without_the_multiprocess_mode() -> None:
    registry, pool = CollectorRegistry(), Pool()
    prometheus.register(pool, registry=registry)
    prometheus.publish()
    assert pools_in(registry) == [""]
