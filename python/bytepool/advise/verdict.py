"""The rules of the verdict, and all their thresholds. ``docs/advise.md`` explains them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bytepool.advise.machine import Machine
    from bytepool.advise.remedies import Remedy
    from bytepool.advise.replay import Replay
    from bytepool.advise.run import Run
    from bytepool.advise.trace import Trace

WORTH_IT = 0.05  # the least saving of CPU time for which to change anything
LEAST = 0.02  # CPU seconds of one run; less is not worth a change either
SAME = 0.04  # savings that differ by less of the CPU time are the same; the smaller effort wins
KEPT = 0.9  # the share of bytes that live until the end, from which on a pool has nothing to reuse
DEVIATIONS = 2.0  # a saving must exceed so many standard errors of its median
HOPELESS = 0.2  # a remedy that costs this share of the CPU time in its first rounds is dropped
FEW = 2  # that many first rounds
COPIES = 2  # of each large block, that a remedy may save besides its page faults

# The standard error of a median of n normal numbers is this, times their median absolute deviation,
# divided by the root of n.
STANDARD_ERROR = 1.2533 * 1.4826

# The exit status of each verdict.
STATUS = {"stop": 0, "setting": 10, "import": 11, "pool": 12, "unclear": 13}
TITLES = {
    "stop": "STOP HERE",
    "setting": "A SETTING DOES IT",
    "import": "CHANGE THIS IMPORT",
    "pool": "USE A POOL AT THESE LINES",
    "unclear": "NO VERDICT",
}


@dataclass(frozen=True)
class Saving:
    """The saving of a remedy: the share of CPU time, of each round against its neighbour."""

    name: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median share of CPU time that is saved; negative if it costs more."""
        return statistics.median(self.rounds)

    @property
    def noise(self) -> float:
        """The share by which the median may be wrong; more rounds lower it."""
        if len(self.rounds) == 1:
            return math.inf
        middle = self.median
        deviation = statistics.median(abs(one - middle) for one in self.rounds)
        return DEVIATIONS * STANDARD_ERROR * deviation / math.sqrt(len(self.rounds))

    @property
    def is_real(self) -> bool:
        """Whether the saving is worth it, and no chance."""
        return self.median >= WORTH_IT and self.median > self.noise


def saving(name: str, plain: Sequence[Run], changed: Sequence[Run]) -> Saving:
    """Compare each round of a remedy with the round of the plain program beside it."""
    shares = (1 - new.cpu / old.cpu for old, new in zip(plain, changed, strict=True) if old.cpu)
    return Saving(name, tuple(shares) or (0.0,))


def reachable(runs: Sequence[Run], trace: Trace | None, machine: Machine) -> float:
    """Return the largest share of CPU time that large blocks can cost.

    That is the excess page faults and a mapping for each large block, which take no more than the
    system time, and copies of each large block. A mapping has at least one fault. Without a trace,
    each excess fault stands for a page of a large block.
    """
    cpu = statistics.median(run.cpu for run in runs)
    system = statistics.median(run.system for run in runs)
    faults = statistics.median(run.excess_faults for run in runs)
    size = trace.bytes if trace else faults * 4096
    if machine.huge_pages:
        faults = max(faults, size / 4096)
    maps = min(trace.count + trace.shrunk, faults) if trace else 0
    kernel = faults * machine.fault_seconds + maps * machine.map_seconds
    cost = min(kernel, system) + COPIES * size * machine.byte_seconds
    return min(cost / cpu, 1.0) if cpu else 0.0


@dataclass(frozen=True)
class Verdict:
    """The answer of the advisor."""

    kind: str
    """A key of ``STATUS``."""
    reason: str
    """One or two sentences with the figures."""
    saving: float
    """The predicted share of CPU time that is saved by doing as told; of a pool the least."""
    steps: tuple[str, ...] = ()
    """What to do."""


def small(limit: float, cpu: float, trace: Trace | None) -> Verdict | None:
    """Stop, if large blocks cannot cost enough to matter."""
    if limit >= WORTH_IT and limit * cpu >= LEAST:
        return None
    few = ""
    if trace:
        few = f"The program allocates {trace.count:,} blocks of 64 KiB and more. "
    most = f"{limit:.1%} of the CPU time, {limit * cpu * 1e3:.0f} ms of each run"
    return Verdict("stop", f"{few}Large buffers cost at most {most}.", 0.0)


def shares(least: float, most: float) -> str:
    """Return the text of a range of shares."""
    ends = [f"{least:.0%}", f"{max(least, most):.0%}"]
    return " to ".join(dict.fromkeys(ends))


def decide(
    limit: float,
    trace: Trace | None,
    tried: Sequence[tuple[Remedy, Saving]],
    replay: Replay | None,
) -> Verdict:
    """Choose the least effort that saves nearly as much as the best remedy."""
    choices = [(remedy.effort, one.median, remedy) for remedy, one in tried if one.is_real]
    pooled = min(replay.least.median, limit) if replay else 0.0
    best = max((saved for _, saved, _ in choices), default=0.0)
    if replay and replay.least.is_real and WORTH_IT <= pooled > best + SAME:
        return Verdict(
            "pool",
            f"A pool saves {shares(pooled, min(replay.most.median, limit))} of the CPU time, and no"
            f" setting saves as much (at best {best:.0%}). {replay.hit_rate:.0%} of its requests"
            " reuse a buffer.",
            pooled,
            _pool_steps(replay),
        )
    if choices:
        near = [choice for choice in choices if choice[1] > best - SAME]
        _, saved, remedy = min(near, key=lambda choice: (choice[0], -choice[1]))
        return Verdict(
            remedy.kind,
            f"{remedy.name} saves {saved:.0%} of the CPU time.",
            saved,
            (remedy.how,),
        )
    if replay and replay.most.is_real and min(replay.most.median, limit) >= WORTH_IT:
        return Verdict(
            "unclear",
            f"A pool saves {shares(pooled, min(replay.most.median, limit))} of the CPU time, which"
            " depends on how much of each block the program writes. Try it.",
            pooled,
            _pool_steps(replay),
        )
    savings = [one for _, one in tried] + ([replay.least] if replay else [])
    return _nothing_helps(limit, trace, savings)


def _pool_steps(replay: Replay) -> tuple[str, ...]:
    lines = (
        f"{site.place}: instead of `{site.text}` write {site.way.instead}"
        for site in replay.sites
        if site.way
    )
    return f"pool = {replay.call}", *lines


def _nothing_helps(limit: float, trace: Trace | None, savings: Sequence[Saving]) -> Verdict:
    if trace and trace.bytes and trace.kept_bytes >= KEPT * trace.bytes:
        share = trace.kept_bytes / trace.bytes
        return Verdict(
            "stop",
            f"The large blocks are kept, not reused: {share:.0%} of their bytes live until the end."
            " A pool has nothing to reuse.",
            0.0,
        )
    noise = max((one.noise for one in savings if one.median + one.noise >= WORTH_IT), default=0.0)
    if noise:
        return Verdict(
            "unclear",
            f"The runs differ: a saving may be wrong by {noise:.0%} of the CPU time, and up to"
            f" {limit:.0%} can be saved. Use a quieter machine, a longer run, or more --rounds.",
            0.0,
        )
    best = max((one.median for one in savings), default=0.0)
    return Verdict(
        "stop",
        f"No remedy saves {WORTH_IT:.0%} of the CPU time (at best {max(best, 0.0):.0%}).",
        0.0,
    )
