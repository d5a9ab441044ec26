"""Prometheus metrics of pools. Install them with ``pip install 'bytepool[prometheus]'``.

::

    from prometheus_client import REGISTRY
    from bytepool.prometheus import PoolCollector

    REGISTRY.register(PoolCollector(uploads, thumbnails))

The collector adds no counters of its own. At each scrape it takes one snapshot of each pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bytepool.stats import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from bytepool import BucketStats, Pool, Stats

__all__ = ["PoolCollector"]

# metric name: (help text, function that reads the value)
_TOTALS: dict[str, tuple[str, Callable[[Stats], int]]] = {
    "bytepool_transient_requests": (
        "Requests served without pooling because they exceed max_size",
        lambda stats: stats.transient,
    ),
    "bytepool_waits": ("Requests that waited for the budget", lambda stats: stats.waits),
    "bytepool_dropped_buffers": (
        "Buffers returned without release()",
        lambda stats: stats.dropped,
    ),
    "bytepool_deferred_releases": (
        "Releases whose return waits for the last view",
        lambda stats: stats.deferred,
    ),
}
_GAUGES: dict[str, tuple[str, Callable[[Stats], int]]] = {
    "bytepool_outstanding_bytes": ("Bytes in use", lambda stats: stats.outstanding_bytes),
    "bytepool_outstanding_peak_bytes": (
        "Upper bound of the bytes in use so far",
        lambda stats: stats.peak_outstanding_bytes,
    ),
    "bytepool_idle_bytes": ("Bytes of idle buffers", lambda stats: stats.idle_bytes),
    "bytepool_idle_peak_bytes": (
        "Upper bound of the bytes of idle buffers so far",
        lambda stats: stats.peak_idle_bytes,
    ),
    "bytepool_transient_bytes": (
        "Bytes of transient requests in use",
        lambda stats: stats.transient_bytes,
    ),
    "bytepool_deferred_bytes": (
        "Bytes that were released and are still held by views",
        lambda stats: stats.deferred_bytes,
    ),
}
_CLASS_GAUGES: dict[str, tuple[str, Callable[[BucketStats], int]]] = {
    "bytepool_outstanding_buffers": ("Buffers in use", lambda bucket: bucket.outstanding),
    "bytepool_idle_buffers": ("Idle buffers", lambda bucket: bucket.depth),
}


class PoolCollector(Collector):
    """Collects the stats of pools. The label ``pool`` is the pool's name, or empty without one.

    Metrics of a size class also have the label ``size``, its capacity in bytes. Raises ValueError
    if two pools have the same name, or if more than one pool has no name.
    """

    def __init__(self, *pools: Pool) -> None:
        names = [pool.name or "" for pool in pools]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{names.count(name)} of the pools are named {name!r}")
        self._pools = dict(zip(names, pools, strict=True))

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of one snapshot of each pool, for the registry."""
        samples = {name: pool.stats() for name, pool in self._pools.items()}
        yield from self._totals(samples)
        yield from self._classes(samples)
        limits = GaugeMetricFamily(
            "bytepool_limit_bytes", "Configured limits of the pool", labels=["pool", "limit"]
        )
        for name, pool in self._pools.items():
            limits.add_metric([name, "max_idle_bytes"], pool.max_idle_bytes)
            if pool.max_bytes is not None:
                limits.add_metric([name, "max_bytes"], pool.max_bytes)
        yield limits

    @staticmethod
    def _totals(samples: dict[str, Stats]) -> Iterator[Metric]:
        for name, (text, number) in _TOTALS.items():
            counter = CounterMetricFamily(name, text, labels=["pool"])
            for pool, stats in samples.items():
                counter.add_metric([pool], number(stats))
            yield counter
        for name, (text, number) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["pool"])
            for pool, stats in samples.items():
                gauge.add_metric([pool], number(stats))
            yield gauge

    @staticmethod
    def _classes(samples: dict[str, Stats]) -> Iterator[Metric]:
        def classes() -> Iterable[tuple[list[str], BucketStats]]:
            for pool, stats in samples.items():
                for bucket in stats.buckets:
                    yield [pool, str(bucket.size)], bucket

        labels = ["pool", "size"]
        requests = CounterMetricFamily(
            "bytepool_requests", "Requests, by result (hit or miss)", labels=[*labels, "result"]
        )
        returned = CounterMetricFamily(
            "bytepool_returned_buffers", "Buffers returned to the pool", labels=labels
        )
        freed = CounterMetricFamily(
            "bytepool_freed_buffers",
            "Buffers freed, by reason",
            labels=[*labels, "reason"],
        )
        for label, bucket in classes():
            requests.add_metric([*label, "hit"], bucket.hits)
            requests.add_metric([*label, "miss"], bucket.misses)
            returned.add_metric(label, bucket.returned)
            for reason in REASONS:
                freed.add_metric([*label, reason], getattr(bucket, reason))
        yield from (requests, returned, freed)
        for name, (text, number) in _CLASS_GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for label, bucket in classes():
                gauge.add_metric(label, number(bucket))
            yield gauge
