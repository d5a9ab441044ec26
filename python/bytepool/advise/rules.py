"""Judge a pool by its counters: ``review(stats)``. Each rule is also a Prometheus alert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bytepool.stats import size_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from bytepool import Stats

ENOUGH_REQUESTS = 1000  # fewer say nothing about a pool
HIT_RATE = 0.8  # a pool with fewer hits does not earn its place
FREED_SHARE = 0.1  # of the returned buffers, for one reason
TRANSIENT_SHARE = 0.05  # of all requests
WAIT_SHARE = 0.01  # of all requests
IDLE_FACTOR = 4  # idle bytes for each byte in use
IDLE_BYTES = 16 << 20  # less idle memory does not matter
DEFERRED_SHARE = 0.25  # of the bytes in use
DEFERRED_BYTES = 1 << 20  # fewer deferred bytes do not matter

_REQUESTS = "sum without (size, result) (rate(bytepool_requests_total[1h]))"
_ALL = f"({_REQUESTS} + rate(bytepool_transient_requests_total[1h]))"


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong with a pool."""

    name: str
    """The name of the alert."""
    alert: str
    """The same rule in PromQL, over the last hour."""
    applies: Callable[[Stats], bool]
    advice: Callable[[Stats], str]
    """One sentence: the figure, and the argument to change."""


def _requests(stats: Stats) -> int:
    return sum(bucket.hits + bucket.misses for bucket in stats.buckets) + stats.transient


def _returned(stats: Stats) -> int:
    return sum(bucket.returned for bucket in stats.buckets)


def _freed(reason: str, argument: str, name: str) -> Rule:
    """The rule for buffers that a limit of the pool frees."""
    rate = (
        f'sum without (size, reason) (rate(bytepool_freed_buffers_total{{reason="{reason}"}}[1h]))'
    )
    return Rule(
        name,
        f"{rate} > {FREED_SHARE} * sum without (size) (rate(bytepool_returned_buffers_total[1h]))",
        lambda stats: stats.freed[reason] > FREED_SHARE * _returned(stats),
        lambda stats: (
            f"{stats.freed[reason]:,} buffers were freed instead of kept ({reason}), and"
            f" {_returned(stats):,} were returned: raise {argument}."
        ),
    )


RULES = (
    Rule(
        "BytepoolFewHits",
        'sum without (size, result) (rate(bytepool_requests_total{result="hit"}[1h]))'
        f" < {HIT_RATE} * {_REQUESTS}",
        lambda stats: stats.hit_rate < HIT_RATE and _requests(stats) > stats.transient,
        lambda stats: (
            f"The pool does not earn its place: {stats.hit_rate:.0%} of its requests reused a"
            f" buffer, and {HIT_RATE:.0%} should."
        ),
    ),
    _freed("discarded", "max_buffers", "BytepoolClassesTooSmall"),
    _freed("capped", "max_idle_bytes (or max_bytes)", "BytepoolPoolTooSmall"),
    _freed("decayed", "idle_timeout", "BytepoolFreesTooSoon"),
    Rule(
        "BytepoolManyTransient",
        f"rate(bytepool_transient_requests_total[1h]) > {TRANSIENT_SHARE} * {_ALL}",
        lambda stats: stats.transient > TRANSIENT_SHARE * _requests(stats),
        lambda stats: (
            f"{stats.transient / _requests(stats):.0%} of the requests were too large for the pool:"
            " raise max_size."
        ),
    ),
    Rule(
        "BytepoolManyWaits",
        f"rate(bytepool_waits_total[1h]) > {WAIT_SHARE} * {_ALL}",
        lambda stats: stats.waits > WAIT_SHARE * _requests(stats),
        lambda stats: (
            f"{stats.waits / _requests(stats):.0%} of the requests waited for the budget:"
            " raise max_bytes."
        ),
    ),
    Rule(
        "BytepoolMuchIdle",
        f"bytepool_idle_bytes > {IDLE_FACTOR} * bytepool_outstanding_bytes"
        f" and bytepool_idle_bytes > {IDLE_BYTES}",
        lambda stats: stats.idle_bytes > max(IDLE_FACTOR * stats.outstanding_bytes, IDLE_BYTES),
        lambda stats: (
            f"{size_text(stats.idle_bytes)} are idle and"
            f" {size_text(stats.outstanding_bytes)} in use (peak"
            f" {size_text(stats.peak_outstanding_bytes)}): if this lasts, lower max_idle_bytes or"
            " idle_timeout."
        ),
    ),
    Rule(
        "BytepoolViewsOutliveRelease",
        f"bytepool_deferred_bytes > {DEFERRED_SHARE} * bytepool_outstanding_bytes"
        f" and bytepool_deferred_bytes > {DEFERRED_BYTES}",
        lambda stats: (
            stats.deferred_bytes > max(DEFERRED_SHARE * stats.outstanding_bytes, DEFERRED_BYTES)
        ),
        lambda stats: (
            f"{size_text(stats.deferred_bytes)} were released, but views still hold them: copy what"
            ' you keep, or find the holders with track="sampled".'
        ),
    ),
)


def review(stats: Stats) -> list[str]:
    """Judge a pool by a snapshot of it, or by the difference of two: a sentence for each finding.

    The first sentence says whether the pool earns its place. Each further one names a figure that
    is out of bounds, and the argument of ``Pool`` to change. Below 1,000 requests it only says that
    these are too few. ``docs/observe.md`` has the same rules as Prometheus alerts.
    """
    requests = _requests(stats)
    if requests < ENOUGH_REQUESTS:
        return [f"Too few requests to judge the pool: {requests:,} of {ENOUGH_REQUESTS:,}."]
    found = [rule.advice(stats) for rule in RULES if rule.applies(stats)]
    if RULES[0].applies(stats) or requests == stats.transient:
        return found
    earns = f"The pool earns its place: {stats.hit_rate:.0%} of its requests reused a buffer."
    return [earns, *found]
