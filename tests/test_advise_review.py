"""``bytepool.advise.review`` judges a pool by its counters, as the Prometheus alerts do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bytepool import BucketStats, Pool, Stats, prometheus
from bytepool.advise import review
from bytepool.advise.rules import RULES

OBSERVE = Path(__file__).parents[1] / "docs/observe.md"


def snapshot(*, freed: str = "", **fields: Any) -> Stats:
    """Return the stats of a busy pool without a finding, with some fields changed."""
    pool = Pool()
    view = pool.view(1 << 20)
    stats = pool.stats()
    del view
    bucket: BucketStats = stats.buckets[0]
    hits, misses = fields.pop("hits", 9_000), fields.pop("misses", 1_000)
    bucket = dataclasses.replace(bucket, hits=hits, misses=misses, returned=9_999)
    if freed:
        bucket = dataclasses.replace(bucket, **{freed: 2_000})
    return dataclasses.replace(stats, buckets=(bucket,), **fields)


def test_pool_without_findings_earns_its_place() -> None:
    assert review(snapshot()) == [
        "The pool earns its place: 90% of its requests reused a buffer.",
    ]


def test_too_few_requests_are_not_judged() -> None:
    pool = Pool()
    pool.allocate(100).release()
    (sentence,) = review(pool.stats())
    assert sentence == "Too few requests to judge the pool: 1 of 1,000."


@pytest.mark.parametrize(
    ("name", "stats", "words"),
    [
        ("BytepoolFewHits", snapshot(hits=700, misses=300), "70% of its requests"),
        ("BytepoolClassesTooSmall", snapshot(freed="discarded"), "raise max_buffers"),
        ("BytepoolPoolTooSmall", snapshot(freed="capped"), "raise max_idle_bytes"),
        ("BytepoolFreesTooSoon", snapshot(freed="decayed"), "raise idle_timeout"),
        ("BytepoolManyTransient", snapshot(transient=1_000), "9% of the requests were too large"),
        ("BytepoolManyWaits", snapshot(waits=500), "raise max_bytes"),
        ("BytepoolMuchIdle", snapshot(idle_bytes=64 << 20), "64 MiB are idle and 1 MiB in use"),
        (
            "BytepoolViewsOutliveRelease",
            snapshot(outstanding_bytes=8 << 20, deferred_bytes=3 << 20),
            "3 MiB were released, but views still hold them",
        ),
    ],
)
def test_each_finding_is_one_sentence(name: str, stats: Stats, words: str) -> None:
    assert [rule.name for rule in RULES if rule.applies(stats)] == [name]
    sentences = review(stats)
    assert words in sentences[-1]
    assert sentences[-1].endswith(".")
    assert len(sentences) == (1 if name == "BytepoolFewHits" else 2)


def test_pool_that_serves_nothing_from_its_classes_earns_nothing() -> None:
    (sentence,) = review(snapshot(hits=0, misses=0, transient=5_000))
    assert "100% of the requests were too large" in sentence


def test_difference_of_two_snapshots_can_be_judged() -> None:
    pool = Pool()
    before = pool.stats()
    for _ in range(1_500):
        pool.allocate(100_000).release()
    assert review(pool.stats() - before)[0].startswith("The pool earns its place: 100%")
    pool.trim()
    between = pool.stats() - before
    assert review(between - between) == review(between - between)


def test_documented_alerts_are_the_rules() -> None:
    rows = re.findall(r"^\| `(Bytepool\w+)` \| `(.+)` \|$", OBSERVE.read_text(), re.MULTILINE)
    assert dict(rows) == {rule.name: rule.alert for rule in RULES}


def test_alerts_name_metrics_that_exist() -> None:
    registry = CollectorRegistry()
    pool = Pool(name="alerts", max_bytes=1 << 20)
    pool.allocate(100).release()
    prometheus.register(pool, registry=registry)
    known = {
        (sample.name, label)
        for metric in registry.collect()
        for sample in metric.samples
        for label in sample.labels
    }
    for rule in RULES:
        for name, label in re.findall(r"(bytepool_\w+)(?:\{(\w+)=)?", rule.alert):
            assert (name, label or "pool") in known, rule.name
