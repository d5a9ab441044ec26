"""Read the allocations of 64 KiB and more that memray recorded, by line."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bytepool.advise import lines

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 64 << 10
MOST_EVENTS = 200_000  # that are kept for a replay
MAIN = 0  # the number of the main thread


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


class Event(NamedTuple):
    """A block that is made or freed."""

    block: int
    size: int
    """In bytes; -1 if it is freed."""
    site: int
    """The index in ``sites``; -1 if it is freed."""
    thread: int
    """``MAIN`` is the main thread, of any process."""


@dataclass
class Trace:
    """All large allocations of one run."""

    sites: list[Site] = field(default_factory=list)
    """Those with the most bytes first."""
    events: list[Event] = field(default_factory=list)
    """In order."""
    shrunk: int = 0
    """How many other blocks were as large at first, but not when they were freed."""
    processes: set[int] = field(default_factory=set)
    """The ids of the traced processes."""
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
    sites: dict[tuple[Any, ...], int] = {}
    blocks: list[_Block] = []
    order: list[tuple[int, bool, int]] = []  # the blocks as threads make (True) and free them
    threads: dict[tuple[int, int], int] = {}
    for path in sorted(folder.glob("trace.*")):
        try:
            reader = memray.FileReader(path)
        except OSError:  # a process that ended before it wrote anything
            continue
        # A forked child adds its id to the name of its parent's file.
        _, parent, _, *child = path.name.split(".")
        trace.processes.add(int(child[-1] if child else parent))
        with reader:
            _read_process(reader, bool(child), trace, sites, blocks, order, threads)
    _collect(trace, blocks, order)
    return trace


@dataclass
class _Block:
    size: int
    site: int
    lifetime: int | None = None


def _read_process(
    reader: Any,
    forked: bool,
    trace: Trace,
    sites: dict[tuple[Any, ...], int],
    blocks: list[_Block],
    order: list[tuple[int, bool, int]],
    threads: dict[tuple[int, int], int],
) -> None:
    from memray import AllocatorType

    # Python's own allocator for small objects takes its arenas from mmap.
    skipped = {int(AllocatorType.MMAP), int(AllocatorType.MUNMAP)}
    free, realloc = int(AllocatorType.FREE), int(AllocatorType.REALLOC)
    by_stack: dict[int, int] = {}
    live: dict[int, int] = {}
    resized: tuple[int, int] | None = None  # the block that was just freed, and the thread
    process, main = reader.metadata.pid, None
    # The thread that starts memray is one of ours, and not the main thread. A fork has no such one.
    starter = None if forked else reader.metadata.main_thread_id

    def thread(tid: int) -> int:
        return MAIN if tid == main else threads.setdefault((process, tid), len(threads) + 1)

    for record in reader.get_allocation_records():
        allocator, address, size = record.allocator, record.address, record.size
        if main is None and record.tid != starter:
            main = record.tid
        if resized and allocator == realloc and record.tid == resized[1]:
            # memray shows a realloc as a free and an allocation. A block that shrinks stays the
            # same: socket.recv() allocates the most it may receive, and keeps the received part.
            block = blocks[resized[0]]
            if size < block.size:
                block.size, block.lifetime = size, None
                order.pop()
                live[address] = resized[0]
                resized = None
                continue
        resized = None
        if allocator == free:
            number = live.pop(address, None)
            if number is not None:
                blocks[number].lifetime = len(blocks) - number - 1
                order.append((number, False, thread(record.tid)))
                resized = number, record.tid
        elif size >= LARGE and allocator not in skipped:
            if record.stack_id not in by_stack:
                by_stack[record.stack_id] = _site(trace, sites, record)
            live[address] = len(blocks)
            order.append((len(blocks), True, thread(record.tid)))
            blocks.append(_Block(size, by_stack[record.stack_id]))


def _collect(trace: Trace, blocks: list[_Block], order: list[tuple[int, bool, int]]) -> None:
    """Fill the sites and the events with the blocks that stayed large."""
    for block in blocks:
        if block.size >= LARGE:
            site = trace.sites[block.site]
            site.sizes.append(block.size)
            if block.lifetime is not None:
                site.lifetimes.append(block.lifetime)
        else:
            trace.shrunk += 1
    used = [index for index, site in enumerate(trace.sites) if site.sizes]
    used.sort(key=lambda index: -trace.sites[index].bytes)
    position = {old: new for new, old in enumerate(used)}
    trace.sites = [trace.sites[index] for index in used]
    for number, is_new, thread in order:
        block = blocks[number]
        if block.size >= LARGE:
            if len(trace.events) == MOST_EVENTS:
                trace.complete = False
                break
            size, index = (block.size, position[block.site]) if is_new else (-1, -1)
            trace.events.append(Event(number, size, index, thread))


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
