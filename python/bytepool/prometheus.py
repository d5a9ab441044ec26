"""Prometheus metrics of pools. Install them with ``pip install 'bytepool[prometheus]'``.

Register your pools once:

    from bytepool import prometheus

    prometheus.register(uploads, thumbnails)

An application and its libraries can register their pools independently, at any time. The metrics
have no counters of their own: each scrape takes one snapshot of each pool. A forked process counts
from its fork on.

In the multiprocess mode of ``prometheus_client``, a scrape cannot ask the other processes. There,
each process calls ``publish()`` from time to time, for example once a second or after each request.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

try:
    from prometheus_client import REGISTRY, Counter, Gauge
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _error:
    raise ImportError(
        "bytepool.prometheus needs prometheus-client: pip install 'bytepool[prometheus]'"
    ) from _error

from bytepool.stats import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from bytepool import BucketStats, Pool, Stats

    _Values = Iterable[tuple[tuple[str, ...], float]]
    _Read = Callable[[Stats], _Values]

__all__ = ["publish", "register", "unregister"]


def _one(field: str) -> _Read:
    """Read one number of a snapshot. It has no labels but the pool's."""
    return lambda stats: [((), getattr(stats, field))]


def _classes(read: Callable[[BucketStats], _Values]) -> _Read:
    """Read numbers of each size class. Their first label is its size."""
    return lambda stats: [
        ((str(bucket.size), *labels), value)
        for bucket in stats.buckets
        for labels, value in read(bucket)
    ]


# name, help text, labels besides "pool", function that reads the values
_COUNTERS: list[tuple[str, str, list[str], _Read]] = [
    (
        "bytepool_transient_requests",
        "Requests served without pooling because they exceed max_size",
        [],
        _one("transient"),
    ),
    ("bytepool_waits", "Requests that waited for the budget", [], _one("waits")),
    ("bytepool_dropped_buffers", "Buffers returned without release()", [], _one("dropped")),
    (
        "bytepool_deferred_releases",
        "Releases whose return waits for the last view",
        [],
        _one("deferred"),
    ),
    (
        "bytepool_requests",
        "Requests, by result (hit or miss)",
        ["size", "result"],
        _classes(lambda bucket: [(("hit",), bucket.hits), (("miss",), bucket.misses)]),
    ),
    (
        "bytepool_returned_buffers",
        "Buffers returned to the pool",
        ["size"],
        _classes(lambda bucket: [((), bucket.returned)]),
    ),
    (
        "bytepool_freed_buffers",
        "Buffers freed, by reason",
        ["size", "reason"],
        _classes(lambda bucket: [((reason,), getattr(bucket, reason)) for reason in REASONS]),
    ),
]
_GAUGES: list[tuple[str, str, list[str], _Read]] = [
    ("bytepool_outstanding_bytes", "Bytes in use", [], _one("outstanding_bytes")),
    (
        "bytepool_outstanding_peak_bytes",
        "Upper bound of the bytes in use so far",
        [],
        _one("peak_outstanding_bytes"),
    ),
    ("bytepool_idle_bytes", "Bytes of idle buffers", [], _one("idle_bytes")),
    (
        "bytepool_idle_peak_bytes",
        "Upper bound of the bytes of idle buffers so far",
        [],
        _one("peak_idle_bytes"),
    ),
    (
        "bytepool_transient_bytes",
        "Bytes of transient requests in use",
        [],
        _one("transient_bytes"),
    ),
    (
        "bytepool_deferred_bytes",
        "Bytes that were released and are still held by views",
        [],
        _one("deferred_bytes"),
    ),
    (
        "bytepool_outstanding_buffers",
        "Buffers in use",
        ["size"],
        _classes(lambda bucket: [((), bucket.outstanding)]),
    ),
    (
        "bytepool_idle_buffers",
        "Idle buffers",
        ["size"],
        _classes(lambda bucket: [((), bucket.depth)]),
    ),
]
_LIMITS = ("bytepool_limit_bytes", "Configured limits of the pool", ["limit"])


def _limits(pool: Pool) -> _Values:
    yield ("max_idle_bytes",), pool.max_idle_bytes
    if pool.max_bytes is not None:
        yield ("max_bytes",), pool.max_bytes


def register(*pools: Pool, registry: CollectorRegistry = REGISTRY) -> None:
    """Export the metrics of the pools in a registry of ``prometheus_client``.

    The label ``pool`` is the pool's name, or empty without one. Metrics of a size class also have
    the label ``size``, its capacity in bytes. Registering a pool again changes nothing. The
    registry does not keep a pool alive: its metrics end when nobody can use it any more.

    Raises ValueError if the registry has another open pool of this name.
    """
    with _state.lock:
        collector = _state.collectors.get(registry)
        if collector is None:
            collector = _PoolCollector()
            registry.register(collector)
            _state.collectors[registry] = collector
        for pool in pools:
            collector.add(pool)


def unregister(*pools: Pool, registry: CollectorRegistry = REGISTRY) -> None:
    """Stop exporting the metrics of the pools. Pools that are not registered are left alone."""
    with _state.lock:
        collector = _state.collectors.get(registry)
        if collector is not None:
            for pool in pools:
                collector.remove(pool)


def publish() -> None:
    """Write the metrics of this process's registered pools for the multiprocess mode.

    The mode is on if the environment variable ``PROMETHEUS_MULTIPROC_DIR`` was set before
    ``prometheus_client`` was imported. Otherwise this does nothing. Any process can then serve the
    numbers that all processes published last: counters of all processes together, and gauges of
    those that live. As for all gauges of this mode, call
    ``prometheus_client.multiprocess.mark_process_dead(pid)`` for a process that has ended.
    """
    if {"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"} & os.environ.keys():
        with _state.lock:
            _state.publish()


class _PoolCollector(Collector):
    """Collects the metrics of all pools of one registry, which accepts one collector per metric."""

    def __init__(self) -> None:
        self._pools: dict[str, weakref.ref[Pool]] = {}

    def add(self, pool: Pool) -> None:
        name = pool.name or ""
        known = self._pools.get(name, lambda: None)()
        if known is not None and known is not pool and not known.closed:
            raise ValueError(
                f"another pool named {name!r} is registered: give each pool a name of its own"
            )
        self._pools[name] = weakref.ref(pool)

    def remove(self, pool: Pool) -> None:
        for name, known in list(self._pools.items()):
            if known() is pool:
                del self._pools[name]

    def pools(self) -> dict[str, Pool]:
        found = {name: known() for name, known in list(self._pools.items())}
        return {name: pool for name, pool in found.items() if pool is not None}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of one snapshot of each pool, for the registry."""
        pools = self.pools()
        snapshots = {name: pool.stats() for name, pool in pools.items()}
        since_fork = {name: _state.since_fork(pools[name], now) for name, now in snapshots.items()}
        for name, text, labels, read in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["pool", *labels])
            for pool, stats in since_fork.items():
                for values, value in read(stats):
                    counter.add_metric([pool, *values], value)
            yield counter
        for name, text, labels, read in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["pool", *labels])
            for pool, stats in snapshots.items():
                for values, value in read(stats):
                    gauge.add_metric([pool, *values], value)
            yield gauge
        name, text, labels = _LIMITS
        limits = GaugeMetricFamily(name, text, labels=["pool", *labels])
        for pool in pools:
            for values, value in _limits(pools[pool]):
                limits.add_metric([pool, *values], value)
        yield limits


class _State:
    """The metrics that this process has registered and published."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.collectors: weakref.WeakKeyDictionary[CollectorRegistry, _PoolCollector] = (
            weakref.WeakKeyDictionary()
        )
        self._at_fork: weakref.WeakKeyDictionary[Pool, Stats] = weakref.WeakKeyDictionary()
        self._counted: weakref.WeakKeyDictionary[Pool, dict[tuple[str, ...], float]] = (
            weakref.WeakKeyDictionary()
        )
        self._shown: set[tuple[str, ...]] = set()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}

    def pools(self) -> dict[str, Pool]:
        return {
            name: pool
            for collector in list(self.collectors.values())
            for name, pool in collector.pools().items()
        }

    def after_fork(self) -> None:
        """Begin to count anew: the counters so far are those of the parent process."""
        self.lock = threading.Lock()  # another thread of the parent may have held it
        self._counted.clear()
        self._shown.clear()
        for pool in self.pools().values():
            self._at_fork[pool] = pool.stats()

    def since_fork(self, pool: Pool, now: Stats) -> Stats:
        before = self._at_fork.get(pool)
        return now if before is None else now - before

    def publish(self) -> None:
        shown = set()
        for name, pool in self.pools().items():
            snapshot = pool.stats()
            self._count(name, pool, self.since_fork(pool, snapshot))
            for metric, text, labels, read in _GAUGES:
                for values, value in read(snapshot):
                    self._gauge(metric, text, labels).labels(name, *values).set(value)
                    shown.add((metric, name, *values))
            for values, value in _limits(pool):
                self._gauge(*_LIMITS).labels(name, *values).set(value)
                shown.add((_LIMITS[0], name, *values))
        # The client cannot remove a metric in this mode.
        for gone in self._shown - shown:
            self._gauges[gone[0]].labels(*gone[1:]).set(0)
        self._shown = shown

    def _count(self, name: str, pool: Pool, stats: Stats) -> None:
        counted = self._counted.setdefault(pool, {})
        for metric, text, labels, read in _COUNTERS:
            counter = self._counters.get(metric)
            if counter is None:
                counter = Counter(metric, text, ["pool", *labels], registry=None)
                self._counters[metric] = counter
            for values, value in read(stats):
                key = (metric, *values)
                before = counted.get(key, 0)
                if value > before:
                    counter.labels(name, *values).inc(value - before)
                    counted[key] = value

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = Gauge(name, text, ["pool", *labels], registry=None, multiprocess_mode="livesum")
            self._gauges[name] = gauge
        return gauge


_state = _State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.after_fork)
