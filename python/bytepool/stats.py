"""The snapshots that ``Pool.stats()`` returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BucketStats", "Stats"]

# The reasons why a pooled buffer is freed. Each one is a field of BucketStats.
REASONS = ("discarded", "capped", "trimmed", "decayed", "closed")

T = TypeVar("T", "BucketStats", "Stats")


@dataclass(frozen=True, kw_only=True)
class BucketStats:
    """The counters of one size class. ``hits + misses == returned + outstanding`` always holds."""

    size: int
    """The capacity of each buffer of this class, in bytes."""
    hits: int
    """Requests served with an idle buffer."""
    misses: int
    """Requests for which a new buffer was allocated."""
    returned: int
    """Buffers returned to the pool, including those that were then freed."""
    discarded: int
    """Returned buffers that were freed because the size class was full (``max_buffers``)."""
    capped: int
    """Buffers freed because of ``max_idle_bytes`` or ``max_bytes``."""
    trimmed: int
    """Idle buffers freed by ``Pool.trim()``."""
    decayed: int
    """Idle buffers freed because they were not needed for ``idle_timeout`` seconds."""
    closed: int
    """Buffers freed because the pool was closed: idle ones, and those returned later."""
    depth: int
    """Idle buffers."""
    peak_depth: int
    """An upper bound of ``depth`` since the pool was made.

    It is the smaller of ``peak_outstanding`` and the most buffers that the class may keep.
    """
    peak_outstanding: int
    """The most buffers of this class that were ever in use at the same time."""

    @property
    def freed(self) -> int:
        """Buffers freed, for all reasons together."""
        return sum(getattr(self, reason) for reason in REASONS)

    @property
    def outstanding(self) -> int:
        """Buffers in use: ``hits + misses - returned``."""
        return self.hits + self.misses - self.returned


@dataclass(frozen=True, kw_only=True)
class Stats:
    """A snapshot of a pool, as ``Pool.stats()`` returns it. ``print()`` shows it as a table.

    Fields that count bytes count memory: the capacity of the size class, not the size that was
    requested.

    ``after - before`` is a snapshot of the time between two snapshots. Every number in it is a
    difference, and numbers of buffers and bytes in use or idle may be negative. Peaks are those
    of ``after``.
    """

    name: str | None
    """The pool's name, or None."""
    buckets: tuple[BucketStats, ...]
    """The size classes that were used at least once, smallest first."""
    outstanding: int
    """Buffers in use, including transient ones."""
    outstanding_bytes: int
    """Bytes in use."""
    peak_outstanding: int
    """An upper bound of ``outstanding`` so far: the sum of the exact peaks of all size classes."""
    peak_outstanding_bytes: int
    """An upper bound of ``outstanding_bytes`` so far: the sum over all size classes."""
    idle_bytes: int
    """Bytes of idle buffers."""
    peak_idle_bytes: int
    """An upper bound of ``idle_bytes`` so far: the sum of ``peak_depth`` over all size classes."""
    transient: int
    """Requests served without pooling: larger than ``max_size``, or made to the null pool."""
    transient_bytes: int
    """Bytes of transient requests in use."""
    waits: int
    """Requests that waited for the budget (``max_bytes``)."""
    dropped: int
    """Buffers returned without ``release()``: dropped handles, and every ``pool.view()``."""
    deferred: int
    """Releases that came before the last view was gone, so the return had to wait for it."""
    deferred_bytes: int
    """Bytes that were released and are still in use because a view holds them."""

    @property
    def hit_rate(self) -> float:
        """The share of pooled requests that were hits: 0.0 to 1.0, and 0.0 without any request."""
        hits = sum(bucket.hits for bucket in self.buckets)
        misses = sum(bucket.misses for bucket in self.buckets)
        return hits / (hits + misses) if hits or misses else 0.0

    @property
    def freed(self) -> dict[str, int]:
        """The number of freed buffers for each reason. ``BucketStats`` explains the reasons."""
        return {
            reason: sum(getattr(bucket, reason) for bucket in self.buckets) for reason in REASONS
        }

    def __sub__(self, before: Stats) -> Stats:
        """The snapshot of the time since ``before``."""
        if not isinstance(before, type(self)):  # the name differs after a reload
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
        """A table with one line per size class, followed by the totals."""
        head = ("size", "hits", "misses", "returned", "freed", "idle", "in use", "peak")
        rows = [
            (
                size_text(bucket.size),
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
            f"in use: {self.outstanding:,} buffers, {size_text(self.outstanding_bytes)}"
            f" (peak at most {self.peak_outstanding:,} buffers,"
            f" {size_text(self.peak_outstanding_bytes)})",
            f"idle: {size_text(self.idle_bytes)} (peak at most {size_text(self.peak_idle_bytes)}),"
            f" hit rate: {self.hit_rate:.1%}",
            f"transient: {self.transient:,}, returned without release: {self.dropped:,},"
            f" deferred: {self.deferred:,}, waits: {self.waits:,}",
            *self._unusual(),
        ]
        title = [f"pool {self.name!r}"] if self.name is not None else []
        return "\n".join(title + (table if rows else []) + totals)

    def _unusual(self) -> list[str]:
        """The lines that are left out when they would show zero."""
        freed = ", ".join(f"{reason} {count:,}" for reason, count in self.freed.items() if count)
        return [
            *([f"freed: {freed}"] if freed else []),
            *(
                [f"released, but still held by views: {size_text(self.deferred_bytes)}"]
                if self.deferred_bytes
                else []
            ),
        ]


_NUMBERS = Struct("=12Q")
_TOTALS = tuple(field.name for field in fields(Stats) if field.name not in ("name", "buckets"))
_OF_BUCKET = tuple(field.name for field in fields(BucketStats))


def _snapshot(
    name: str | None,
    numbers: bytes,
    kind: type[Stats] = Stats,
    kind_of_bucket: type[BucketStats] = BucketStats,
) -> Stats:
    """Return the snapshot that the extension has packed: the totals, then each size class.

    Its classes are the same after this module was reloaded, so that snapshots subtract.
    """
    totals, *rows = _NUMBERS.iter_unpack(numbers)
    buckets = tuple(_make(kind_of_bucket, zip(_OF_BUCKET, row, strict=True)) for row in rows)
    common = (("name", name), ("buckets", buckets))
    return _make(kind, (*common, *zip(_TOTALS, totals, strict=True)))


def _make(kind: type[T], values: Iterable[tuple[str, object]]) -> T:
    """Return an instance with these values, made without the generated ``__init__``.

    Its code reads a closure cell for each field. CPython 3.13 without a GIL locks the cell each
    time, so all threads would wait for each other, and a forked child can find the cell locked.
    """
    made = object.__new__(kind)
    vars(made).update(values)
    return made


def _difference(after: T, before: T | None, *, keep: str) -> T:
    """``after`` minus ``before`` in every number, except peaks and the field ``keep``."""
    if before is None:
        return after
    numbers = {
        field.name: getattr(after, field.name) - getattr(before, field.name)
        for field in fields(after)
        if field.name not in (keep, "buckets") and not field.name.startswith("peak_")
    }
    return replace(after, **numbers)


def size_text(n: int) -> str:
    """``n`` in the largest unit that gives at least 1, with one decimal unless it is whole."""
    if n < 0:
        return f"-{size_text(-n)}"
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n >> shift:
            number = f"{n / (1 << shift):,.1f}".removesuffix(".0")
            return f"{number} {unit}"
    return f"{n} B"
