"""Frozen snapshots of a pool, as ``Pool.stats()`` returns them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["BucketStats", "Stats"]


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
    peak_outstanding: int
    """The most of its buffers that were ever out at once."""

    @property
    def freed(self) -> int:
        """Buffers that were freed, for whatever reason."""
        return self.discarded + self.capped + self.trimmed + self.decayed + self.closed

    @property
    def outstanding(self) -> int:
        """Buffers that are out now: ``hits + misses - returned``."""
        return self.hits + self.misses - self.returned


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a pool had done at the moment of ``Pool.stats()``. Prints as a table.

    Bytes count what the memory costs: the capacity of the size class, not the bytes asked for.
    """

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
    transient: int
    """Requests served without pooling: above ``max_size``, or made of the null pool."""
    dropped: int
    """Buffers that went home without ``release()``: dropped handles, and all of ``pool.view()``."""
    deferred: int
    """Releases that had to wait because somebody still held a view."""

    @property
    def hit_rate(self) -> float:
        """The share of pooled requests that found a buffer: 0.0 to 1.0; 0.0 before the first."""
        hits = sum(bucket.hits for bucket in self.buckets)
        misses = sum(bucket.misses for bucket in self.buckets)
        return hits / (hits + misses) if hits or misses else 0.0

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
            f"idle: {_bytes(self.idle_bytes)}, hit rate: {self.hit_rate:.1%}",
            *self._freed(),
            f"transient: {self.transient:,}, dropped: {self.dropped:,},"
            f" deferred: {self.deferred:,}",
        ]
        return "\n".join((table if rows else []) + totals)

    def _freed(self) -> list[str]:
        """A line with what was freed and why, if anything was."""
        freed = {
            reason: sum(getattr(bucket, reason) for bucket in self.buckets)
            for reason in ("discarded", "capped", "trimmed", "decayed", "closed")
        }
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in freed.items() if count)
        return [f"freed: {reasons}"] if reasons else []


def _bytes(n: int) -> str:
    """``n`` in the largest unit that leaves at least 1, to one decimal where it is not whole."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n >> shift:
            number = f"{n / (1 << shift):,.1f}".removesuffix(".0")
            return f"{number} {unit}"
    return f"{n} B"
