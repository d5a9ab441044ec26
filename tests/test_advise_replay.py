"""The replay of recorded allocations on a real pool."""

from __future__ import annotations

import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from bytepool import Pool
from bytepool._bytepool import FREE_THREADED
from bytepool.advise import replay
from bytepool.advise.machine import Machine
from bytepool.advise.run import Run
from bytepool.advise.trace import MAIN, Event, Site, Trace

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = Machine(fault_seconds=1e-3, map_seconds=0.0, byte_seconds=1e-10, huge_pages=False)


def program(excess_faults: int = 0, cpu: float = 100.0) -> Run:
    return Run(cpu, cpu, 0.0, excess_faults, 0, 0, False, False, None, None)


def recorded(folder: Path, line: str, events: list[Event]) -> Trace:
    """Return a trace with one line, whose source text is given."""
    script = folder / "script.py"
    script.write_text(line + "\n")
    sizes = [event.size for event in events if event.size > 0]
    site = Site(("work", str(script), 1), "", False, sizes, [0] * len(sizes))
    return Trace([site], events)


def make(block: int, size: int) -> Event:
    return Event(block, size, 0, MAIN)


def free(block: int) -> Event:
    return Event(block, -1, -1, MAIN)


def one_after_another(count: int, size: int) -> list[Event]:
    return [event for n in range(count) for event in (make(n, size), free(n))]


def replayed(folder: Path, trace: Trace, programs: list[Run]) -> replay.Replay:
    """Replay once beside each run of the program."""
    replays = replay.prepare(trace, folder)
    assert replays
    for _ in programs:
        replays.take_turn()
    return replays.compare(programs, MACHINE)


def test_real_replay_reuses_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTEPOOL", "null")  # is not for the replay
    trace = recorded(tmp_path, "data = bytearray(n)", one_after_another(50, 300_000))
    found = replayed(tmp_path, trace, [program(), program()])
    assert found.call == "Pool(max_size=512 << 10)"
    assert found.hit_rate == 0.98
    assert found.idle_bytes == found.peak_idle_bytes == found.peak_bytes == 384 << 10
    assert len(found.least.rounds) == len(found.most.rounds) == 2
    assert found.share == 1.0


def test_limits_are_written_where_the_defaults_are_too_small(tmp_path: Path) -> None:
    events = [make(n, 5_000_000) for n in range(20)] + [free(n) for n in range(20)]
    trace = recorded(tmp_path, "data = sock.recv(n)", events)
    found = replayed(tmp_path, trace, [program()])
    assert found.call == "Pool(max_size=8 << 20, max_buffers=20, max_idle_bytes=128 << 20)"
    assert found.peak_idle_bytes > 100_000_000


def test_lines_without_a_replacement_are_not_replayed(tmp_path: Path) -> None:
    trace = recorded(tmp_path, "result = left + right", one_after_another(5, 300_000))
    assert replay.prepare(trace, tmp_path) is None


def fake_child(
    monkeypatch: pytest.MonkeyPatch,
    figures: dict[tuple[str, str], float],
    faults: dict[str, int] | None = None,
) -> None:
    """Let replays report these CPU seconds, and these page faults with and without the pool."""
    rest = ("hit_rate", "idle_bytes", "peak_bytes", "peak_idle_bytes", "peak_depth")

    def child(_: Path, mode: str, write: str) -> dict[str, Any]:
        found = {"cpu": figures[mode, write], "faults": (faults or {}).get(mode, 0)}
        return {**found, **dict.fromkeys(rest, 0)}

    monkeypatch.setattr(replay, "_child", child)


@pytest.mark.parametrize(("excess_faults", "saved"), [(0, 3.0), (400, 3.4), (1_000, 4.0)])
def test_page_faults_that_are_saved_are_those_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excess_faults: int, saved: float
) -> None:
    whole = {("now", "whole"): 4.0, ("pool", "whole"): 1.0}
    fake_child(monkeypatch, {**whole, ("now", "bare"): 0.0, ("pool", "bare"): 0.0})
    trace = recorded(tmp_path, "data = bytearray(n)", one_after_another(5, 300_000))
    found = replayed(tmp_path, trace, [program(excess_faults)])
    assert found.least.median == pytest.approx(excess_faults / 1000 / 100)
    assert found.most.median == pytest.approx(saved / 100)


def test_page_faults_of_the_replay_are_not_those_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {("now", "whole"): 4.0, ("pool", "whole"): 1.0}
    figures = {**whole, ("now", "bare"): 0.0, ("pool", "bare"): 0.0}
    fake_child(monkeypatch, figures, {"now": 500, "pool": 100})
    trace = recorded(tmp_path, "data = bytearray(n)", one_after_another(5, 300_000))
    assert replayed(tmp_path, trace, [program()]).most.median == pytest.approx((3.5 - 0.9) / 100)


@pytest.mark.parametrize(
    ("cpu", "saved"), [(9.0, 1.0), (8.0, 1.0), (5.0, 2.0), (2.0, 3.0), (1.0, 3.0)]
)
def test_blocks_are_written_only_as_far_as_the_program_had_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: float, saved: float
) -> None:
    whole = {("now", "whole"): 8.0, ("pool", "whole"): 7.0}
    fake_child(monkeypatch, {**whole, ("now", "bare"): 2.0, ("pool", "bare"): -1.0})
    trace = recorded(tmp_path, "data = bytearray(n)", one_after_another(5, 300_000))
    found = replayed(tmp_path, trace, [program(cpu=cpu)])
    assert found.least.median == pytest.approx(min(saved / cpu, 1.0))
    assert found.most.median == pytest.approx(min(3.0 / cpu, 1.0))


def test_each_replay_is_compared_with_the_run_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {("now", "whole"): 4.0, ("pool", "whole"): 1.0}
    fake_child(monkeypatch, {**whole, ("now", "bare"): 0.0, ("pool", "bare"): 0.0})
    trace = recorded(tmp_path, "data = bytearray(n)", one_after_another(5, 300_000))
    found = replayed(tmp_path, trace, [program(cpu=10.0), program(cpu=30.0)])
    assert found.most.rounds == pytest.approx((0.3, 0.1))
    assert found.least.rounds == (0.0, 0.0)


def test_each_kind_makes_writable_memory_of_its_size() -> None:
    for new in [*replay.makers().values(), Pool().view]:
        thing: Any = new(100_000)
        assert len(thing) == 100_000
        assert replay.address(thing) > 0


@pytest.mark.parametrize(("kind", "written"), [("bytearray", 1), ("malloc", 1), ("bytes", 100)])
def test_received_bytes_are_always_written(
    monkeypatch: pytest.MonkeyPatch, kind: str, written: int
) -> None:
    counts: list[int] = []
    fake = types.SimpleNamespace(memset=lambda _at, _byte, count: counts.append(count))
    makers = replay.makers()
    monkeypatch.setattr(replay, "makers", lambda: makers)
    monkeypatch.setattr(replay, "address", lambda _: 0)
    monkeypatch.setattr(replay, "ctypes", fake)
    replay.once([(MAIN, 0, 100, kind)], None, replay.BARE)
    assert counts == [written]


def test_blocks_are_made_and_freed_in_as_many_threads_as_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[tuple[str, int]] = []

    class Block(bytearray):
        def __init__(self, size: int) -> None:
            super().__init__(size)
            threads.append(("make", threading.get_ident()))

        def __del__(self) -> None:
            threads.append(("free", threading.get_ident()))

    monkeypatch.setattr(replay, "makers", lambda: {"bytearray": Block})
    steps = [
        (MAIN, 0, 70_000, "bytearray"),
        (7, 1, 70_000, "bytearray"),
        (8, 2, 70_000, "bytearray"),
        (7, 2, -1, ""),
        (MAIN, 1, -1, ""),
        (7, 0, -1, ""),
    ]
    cpu, faults = replay.once(steps, None)
    assert cpu > 0
    assert faults >= 0
    main, seven, eight = (thread for _, thread in threads[:3])
    assert len({threading.get_ident(), seven, eight}) == 3
    assert main == threading.get_ident()
    if not FREE_THREADED:  # without a GIL, Python may leave it to the thread that made the block
        assert threads[3:] == [("free", seven), ("free", main), ("free", seven)]
