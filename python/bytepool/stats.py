"""Frozen snapshots of a pool, as ``Pool.stats()`` returns them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

__all__ = ["BucketStats", "Stats"]

# Why a pooled buffer was freed; each is a field of BucketStats.
REASONS = ("discarded", "capped", "trimmed", "decayed", "closed")

T = TypeVar("T", "BucketStats", "Stats")


@dataclass(frozen=True, kw_only=True)
class BucketStats:
    """One size class of a pool. ``hits + misses == returned + outstanding`` always holds."""

    size: int
    """The capacity of its buffers in bytes."""
    hits: int
    """Requests served with a pooled buffer."""
    misses: int
    """Requests for which a buffer had to be allocated."""
    returned: int
    """Buffers that came home, discarded ones included."""
    discarded: int
    """Buffers that came home to a full bucket and were freed."""
    capped: int
    """Buffers that were freed because the whole pool may keep or hold no more bytes."""
    trimmed: int
    """Idle buffers that ``Pool.trim()`` freed."""
    decayed: int
    """Idle buffers that were freed because nobody had needed them for ``idle_timeout``."""
    closed: int
    """Buffers that were idle when the pool was closed, or came home after that, and were freed."""
    depth: int
    """Buffers waiting in the bucket."""
    peak_depth: int
    """No more than these ever waited at once: as many as were ever out, or as may be kept."""
    peak_outstanding: int
    """The most of its buffers that were ever out at once."""

    @property
    def freed(self) -> int:
        """Buffers that were freed, for whatever reason."""
        return sum(getattr(self, reason) for reason in REASONS)

    @property
    def outstanding(self) -> int:
        """Buffers that are out now: ``hits + misses - returned``."""
        return self.hits + self.misses - self.returned


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a pool had done at the moment of ``Pool.stats()``. Prints as a table.

    Bytes count what the memory costs: the capacity of the size class, not the bytes asked for.

    ``after - before`` is what happened in between: all numbers are differences, of what is out and
    idle too, so those may be negative. Only the peaks are those of ``after``.
    """

    name: str | None
    """The pool's name."""
    buckets: tuple[BucketStats, ...]
    """The size classes with any activity, smallest first."""
    outstanding: int
    """Buffers that are out now, transient ones included."""
    outstanding_bytes: int
    """Bytes that are out now."""
    peak_outstanding: int
    """No more buffers than these were ever out at once: the size classes' exact peaks, added up."""
    peak_outstanding_bytes: int
    """No more bytes than these were ever out at once: the size classes' exact peaks, added up."""
    idle_bytes: int
    """Bytes waiting in the buckets."""
    peak_idle_bytes: int
    """No more bytes than these ever waited at once: the classes' ``peak_depth``, added up."""
    transient: int
    """Requests served without pooling: above ``max_size``, or made of the null pool."""
    transient_bytes: int
    """Bytes of such that are out now."""
    waits: int
    """Requests that had to wait for the budget (``max_bytes``)."""
    dropped: int
    """Buffers that went home without ``release()``: dropped handles, and all of ``pool.view()``."""
    deferred: int
    """Releases that had to wait because somebody still held a view."""
    deferred_bytes: int
    """Bytes that are still out because of that."""

    @property
    def hit_rate(self) -> float:
        """The share of pooled requests that found a buffer: 0.0 to 1.0; 0.0 before the first."""
        hits = sum(bucket.hits for bucket in self.buckets)
        misses = sum(bucket.misses for bucket in self.buckets)
        return hits / (hits + misses) if hits or misses else 0.0

    @property
    def freed(self) -> dict[str, int]:
        """How many pooled buffers were freed for each reason: see ``BucketStats``."""
        return {
            reason: sum(getattr(bucket, reason) for bucket in self.buckets) for reason in REASONS
        }

    def __sub__(self, before: Stats) -> Stats:
        """What happened since ``before``."""
        if not isinstance(before, Stats):
            return NotImplemented
        earlier = {bucket.size: bucket for bucket in before.buckets}
        buckets = (
            _difference(bucket, earlier.get(bucket.size), keep="size") for bucket in self.buckets
        )
        return replace(_difference(self, before, keep="name"), buckets=tuple(buckets))

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain dicts, lists and ints, ready for ``json.dumps``."""
        plain = asdict(self)
        return {**plain, "buckets": list(plain["buckets"])}

    def __str__(self) -> str:
        """A table of the buckets, and the totals below it."""
        head = ("size", "hits", "misses", "returned", "freed", "depth", "out", "peak")
        rows = [
            (
                _bytes(bucket.size),
                *(
                    f"{number:,}"
                    for number in (
                        bucket.hits,
                        bucket.misses,
                        bucket.returned,
                        bucket.freed,
                        bucket.depth,
                        bucket.outstanding,
                        bucket.peak_outstanding,
                    )
                ),
            )
            for bucket in self.buckets
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        table = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in (head, *rows)
        ]
        totals = [
            f"out now: {self.outstanding:,} buffers, {_bytes(self.outstanding_bytes)}"
            f" (never above {self.peak_outstanding:,} buffers,"
            f" {_bytes(self.peak_outstanding_bytes)})",
            f"idle: {_bytes(self.idle_bytes)} (never above {_bytes(self.peak_idle_bytes)}),"
            f" hit rate: {self.hit_rate:.1%}",
            f"transient: {self.transient:,}, dropped: {self.dropped:,},"
            f" deferred: {self.deferred:,}, waits: {self.waits:,}",
            *self._unusual(),
        ]
        title = [f"pool {self.name!r}"] if self.name is not None else []
        return "\n".join(title + (table if rows else []) + totals)

    def _unusual(self) -> list[str]:
        """Lines that are worth reading only if there is something in them."""
        freed = ", ".join(f"{reason} {count:,}" for reason, count in self.freed.items() if count)
        return [
            *([f"freed: {freed}"] if freed else []),
            *(
                [f"still held after their release: {_bytes(self.deferred_bytes)}"]
                if self.deferred_bytes
                else []
            ),
        ]


def _difference(after: T, before: T | None, *, keep: str) -> T:
    """All numbers of ``after`` less those of ``before``, but for peaks and the field to keep."""
    if before is None:
        return after
    numbers = {
        field.name: getattr(after, field.name) - getattr(before, field.name)
        for field in fields(after)
        if field.name not in (keep, "buckets") and not field.name.startswith("peak_")
    }
    return replace(after, **numbers)


def _bytes(n: int) -> str:
    """``n`` in the largest unit that leaves at least 1, to one decimal where it is not whole."""
    if n < 0:
        return f"-{_bytes(-n)}"
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n >> shift:
            number = f"{n / (1 << shift):,.1f}".removesuffix(".0")
            return f"{number} {unit}"
    return f"{n} B"
