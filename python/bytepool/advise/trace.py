"""Read the allocations of 64 KiB and more that memray recorded, by line."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bytepool.advise import lines

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 64 << 10
MOST_EVENTS = 200_000  # that are kept for a replay


@dataclass
class Site:
    """A line that allocates large blocks."""

    frame: lines.Frame | None
    via: str
    """The innermost function of a library, if the line only calls it."""
    is_stream: bool
    """Whether asyncio's streams allocate here."""
    sizes: list[int] = field(default_factory=list)
    lifetimes: list[int] = field(default_factory=list)
    """How many large allocations were made before the block was freed."""

    @property
    def text(self) -> str:
        """The source text of the line."""
        return lines.text(self.frame) if self.frame else ""

    @property
    def place(self) -> str:
        """File and line, for people."""
        if not self.frame:
            return "outside of Python code"
        return f"{lines.short(self.frame[1])}:{self.frame[2]}"

    @property
    def way(self) -> lines.Way | None:
        """How the line makes its memory, if a pool can replace it."""
        return lines.way(self.text)

    @property
    def bytes(self) -> int:
        """All bytes that the line allocated."""
        return sum(self.sizes)

    @property
    def kept(self) -> int:
        """How many blocks were never freed."""
        return len(self.sizes) - len(self.lifetimes)

    @property
    def lifetime(self) -> float | None:
        """The median lifetime in large allocations; None if nothing was freed."""
        return statistics.median(self.lifetimes) if self.lifetimes else None


@dataclass
class Trace:
    """All large allocations of one run."""

    sites: list[Site] = field(default_factory=list)
    """Those with the most bytes first."""
    events: list[tuple[int, int, int]] = field(default_factory=list)
    """In order: (block, size, index in ``sites``), and (block, -1, -1) when it is freed."""
    processes: int = 0
    complete: bool = True
    """Whether ``events`` has them all."""

    @property
    def count(self) -> int:
        """How many large blocks were allocated."""
        return sum(len(site.sizes) for site in self.sites)

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(site.bytes for site in self.sites)

    @property
    def kept_bytes(self) -> int:
        """The bytes of blocks that lived until the end, estimated by each line's mean size."""
        return sum(site.bytes * site.kept // len(site.sizes) for site in self.sites)

    @property
    def uses_streams(self) -> bool:
        """Whether asyncio's streams allocated any of it."""
        return any(site.is_stream for site in self.sites)


def read(folder: Path) -> Trace:
    """Read what all processes of a traced run left in the folder."""
    import memray

    trace = Trace()
    allocators = memray.AllocatorType
    frees = {int(allocators.FREE), int(allocators.MUNMAP)}
    # Python's own allocator for small objects takes its arenas from mmap.
    skipped = {int(allocators.MMAP), int(allocators.MUNMAP)}
    sites: dict[tuple[Any, ...], int] = {}
    block = 0
    for path in sorted(folder.glob("trace.*")):
        by_stack: dict[int, int] = {}
        live: dict[int, tuple[int, int]] = {}
        try:
            reader = memray.FileReader(path)
        except OSError:  # a process that ended before it wrote anything
            continue
        trace.processes += 1
        with reader:
            for record in reader.get_allocation_records():
                allocator, address = record.allocator, record.address
                if allocator in frees:
                    if address in live and allocator not in skipped:
                        number, index = live.pop(address)
                        trace.sites[index].lifetimes.append(block - number - 1)
                        _add(trace, (number, -1, -1))
                elif record.size >= LARGE and allocator not in skipped:
                    index = by_stack.get(record.stack_id, -1)
                    if index < 0:
                        index = by_stack[record.stack_id] = _site(trace, sites, record)
                    trace.sites[index].sizes.append(record.size)
                    live[address] = block, index
                    _add(trace, (block, record.size, index))
                    block += 1
    _sort(trace)
    return trace


def _add(trace: Trace, event: tuple[int, int, int]) -> None:
    if len(trace.events) < MOST_EVENTS:
        trace.events.append(event)
    else:
        trace.complete = False


def _site(trace: Trace, sites: dict[tuple[Any, ...], int], record: Any) -> int:
    """Return the index of the record's site, which is new or known from another stack."""
    stack = record.stack_trace()
    frame = lines.attribute(stack)
    inner = stack[0] if stack and stack[0] != frame else None
    via = f"{lines.short(inner[1])}:{inner[0]}" if inner else ""
    is_stream = any(file.endswith(lines.STREAMS) for _, file, _ in stack)
    key = (frame, via, is_stream)
    if key not in sites:
        sites[key] = len(trace.sites)
        trace.sites.append(Site(frame, via, is_stream))
    return sites[key]


def _sort(trace: Trace) -> None:
    """Sort the sites, and let the events refer to the new order."""
    order = sorted(range(len(trace.sites)), key=lambda index: -trace.sites[index].bytes)
    position = defaultdict(lambda: -1, {old: new for new, old in enumerate(order)})
    trace.sites = [trace.sites[index] for index in order]
    trace.events = [(block, size, position[index]) for block, size, index in trace.events]
