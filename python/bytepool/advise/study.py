"""Run the program in all the ways that an advice needs, and collect the results."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bytepool.advise import machine, remedies, replay, samples, trace, verdict
from bytepool.advise.run import Program, Run, run
from bytepool.advise.stdin import Input

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bytepool.advise.machine import Machine
    from bytepool.advise.remedies import Remedy
    from bytepool.advise.replay import Replay, Replays
    from bytepool.advise.samples import Samples
    from bytepool.advise.trace import Trace
    from bytepool.advise.verdict import Saving, Verdict

TAIL = 15  # lines of stderr that are shown when a run fails


class FailedError(Exception):
    """The program failed, so there is no advice. ``status`` is for the shell."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status: int = status if status >= 0 else 128 - status


@dataclass
class Advice:
    """All that the report shows."""

    program: Program
    plain: list[Run]
    """The rounds of the program as it is."""
    machine: Machine
    samples: Samples
    trace: Trace | None
    trace_overhead: float
    """CPU time of the traced run, as a multiple."""
    reachable: float
    """The largest share of CPU time that large blocks can cost."""
    tried: list[tuple[Remedy, Saving, list[Run]]]
    replay: Replay | None
    verdict: Verdict
    left_out: list[str]
    """The parts that were not measured, and why."""

    @property
    def cpu(self) -> float:
        """The median CPU seconds of the program as it is."""
        return statistics.median(run.cpu for run in self.plain)


@dataclass
class Study:
    """All runs of one program."""

    program: Program
    rounds: int
    folder: Path
    left_out: list[str] = field(default_factory=list)
    done: int = 0

    def __post_init__(self) -> None:
        """Look at this process's own standard input before anything reads it."""
        self.input: Input = Input(self.folder)

    def advice(self) -> Advice:
        """Run everything. Raises ``FailedError`` if the program fails as it is."""
        first = self._first()
        sampled = self._sample()
        traced, overhead = self._trace(first)
        prices = machine.measure()
        limit = verdict.reachable([first], traced, prices)
        candidates = []
        replays: Replays | None = None
        if not verdict.small(limit, first.cpu, traced):
            candidates = self._candidates(traced, sampled)
            replays = replay.prepare(traced, self.folder) if traced else None
        plain: list[Run] = []
        changed: dict[Remedy, list[Run]] = {remedy: [] for remedy in candidates}
        for _ in range(2):  # the second time, if the first was not enough
            self._rounds(plain, changed, replays)
            tried = [
                (remedy, verdict.saving(remedy.name, plain, runs), runs)
                for remedy, runs in changed.items()
            ]
            limit = verdict.reachable(plain, traced, prices)
            cpu = statistics.median(one.cpu for one in plain)
            replayed = replays.compare(plain, prices) if replays else None
            savings = [(remedy, saved) for remedy, saved, _ in tried]
            decision = verdict.small(limit, cpu, traced) or verdict.decide(
                limit, traced, savings, replayed
            )
            if decision.kind != "unclear":
                break
        if decision.kind == "stop" and sampled.places:
            place, share = sampled.places[0]
            decision = dataclasses.replace(
                decision, reason=f"{decision.reason} Most time goes into {place} ({share:.0%})."
            )
        return Advice(
            self.program, plain, prices, sampled, traced, overhead, limit, tried, replayed,
            decision, self.left_out,
        )  # fmt: skip

    def _first(self) -> Run:
        """Run the program as it is, with its own streams."""
        stdin = self.input.first()
        try:
            first = run(self.program, os.environ, (stdin,))
        finally:
            if stdin is not None:
                os.close(stdin)
        if first.failed:
            raise FailedError(_failure(first), first.status)
        if first.stopped and not first.interrupted:
            # Python's traceback of an interrupt looks like a failure.
            print(
                "bytepool.advise: the first run was stopped as with Ctrl-C, and more runs follow",
                file=sys.stderr,
            )
        if first.stopped and first.interrupted:
            self.program = dataclasses.replace(self.program, seconds=first.seconds)
        elif first.interrupted:
            raise FailedError("interrupted", first.status)
        if first.load_status:
            self.left_out.append(f"the load failed with status {first.load_status}")
        if first.listened is not None and self.program.load is None:
            self.left_out.append(
                "equal work: without --load, the runs are only comparable if each second has the"
                " same load"
            )
        return first

    def _again(self, name: str, environment: Mapping[str, str]) -> Run | None:
        """Run the program again without its output; None if it fails now."""
        self.done += 1
        if sys.stderr.isatty():
            print(f"\rrun {self.done}: {name}\033[K", end="\r", file=sys.stderr, flush=True)
        errors = self.folder / "stderr"
        streams = (
            self.input.again(),
            os.open(os.devnull, os.O_WRONLY),
            os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        )
        try:
            again = run(self.program, {**os.environ, **environment}, streams)
        finally:
            for stream in streams:
                os.close(stream)
        if again.interrupted:
            raise FailedError("interrupted: no verdict", 130)
        if not again.failed:
            return again
        if not environment:
            tail = "\n".join(errors.read_text(errors="replace").splitlines()[-TAIL:])
            raise FailedError(
                f"{_failure(again)} when it was run again, so it cannot be measured.\n{tail}",
                again.status,
            )
        self.left_out.append(f"{name}: {_failure(again)} with it")
        return None

    def _sample(self) -> Samples:
        folder = self.folder / "samples"
        self._again("where the time goes", remedies.inside("sample", folder))
        return samples.read(folder)

    def _trace(self, first: Run) -> tuple[Trace | None, float]:
        """Trace the allocations. Return also the overhead of tracing."""
        if importlib.util.find_spec("memray") is None:
            self.left_out.append(
                "allocations by line, and the pool: install memray (pip install 'bytepool[advise]')"
            )
            return None, 0.0
        folder = self.folder / "trace"
        traced = self._again("tracing allocations", remedies.inside("trace", folder))
        found = trace.read(folder)
        if traced is None or not found.processes:
            self.left_out.append("allocations by line: the program could not be traced")
            return None, 0.0
        if untraced := set(traced.children) - found.processes:
            self.left_out.append(
                f"allocations of {len(untraced)} child process(es), which do not run Python or"
                " ended at once"
            )
        if not found.complete:
            self.left_out.append(
                f"a replay of all allocations: only of the first {trace.MOST_EVENTS:,}"
            )
        return found, traced.cpu / first.cpu if first.cpu else 0.0

    def _candidates(self, traced: Trace | None, sampled: Samples) -> list[Remedy]:
        uses_streams = traced.uses_streams if traced else "asyncio.streams" in sampled.modules
        settings, missing = remedies.allocators()
        changes, unfit = remedies.imports(
            uses_streams=uses_streams, modules=sampled.modules, folder=self.folder
        )
        self.left_out += missing + unfit
        return settings + changes

    def _rounds(
        self, plain: list[Run], changed: dict[Remedy, list[Run]], replays: Replays | None
    ) -> None:
        """Let the program as it is, the remedies and the replays take turns."""
        for turn in range(self.rounds):
            names = [None, *changed]
            for remedy in names if turn % 2 == 0 else reversed(names):
                if remedy is None:
                    one = self._again("as it is", {})
                    assert one is not None
                    plain.append(one)
                    if replays:
                        replays.take_turn()
                    continue
                again = self._again(remedy.name, remedy.environment)
                if again is not None and remedy.was_applied:
                    changed[remedy].append(again)
                    continue
                if again is not None:
                    self.left_out.append(f"{remedy.name}: could not be applied to the program")
                del changed[remedy]
            for remedy, runs in list(changed.items()):
                costs = [-share for share in verdict.saving("", plain, runs).rounds]
                if len(runs) == verdict.FEW and min(costs) > verdict.HOPELESS:
                    self.left_out.append(
                        f"{remedy.name}: dropped after {verdict.FEW} rounds, which took"
                        f" {1 + min(costs):.1f} times the CPU time or more"
                    )
                    del changed[remedy]


def _failure(failed: Run) -> str:
    if failed.status < 0:
        return f"the program was ended by signal {-failed.status}"
    return f"the program failed with status {failed.status}"
