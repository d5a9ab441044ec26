"""The replay of recorded allocations on a real pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bytepool import Pool
from bytepool.advise import replay
from bytepool.advise.machine import Machine
from bytepool.advise.trace import Site, Trace

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = Machine(fault_seconds=1e-3, byte_seconds=1e-10, huge_pages=False)


def recorded(folder: Path, line: str, events: list[tuple[int, int, int]]) -> Trace:
    """Return a trace with one line, whose source text is given."""
    script = folder / "script.py"
    script.write_text(line + "\n")
    sizes = [size for _, size, _ in events if size > 0]
    site = Site(("work", str(script), 1), "", False, sizes, [0] * len(sizes))
    return Trace([site], events)


def one_after_another(count: int, size: int) -> list[tuple[int, int, int]]:
    return [event for n in range(count) for event in ((n, size, 0), (n, -1, -1))]


def test_real_replay_reuses_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "ROUNDS", 2)
    monkeypatch.setenv("BYTEPOOL", "null")  # is not for the replay
    trace = recorded(tmp_path, "data = bytearray(n)", one_after_another(50, 300_000))
    found = replay.replay(trace, tmp_path, MACHINE, 0)
    assert found
    assert found.call == "Pool(max_size=512 << 10)"
    assert found.hit_rate == 0.98
    assert found.idle_bytes == found.peak_idle_bytes == found.peak_bytes == 384 << 10
    assert found.spread[0] <= found.saved <= found.spread[1]
    assert found.share == 1.0


def test_limits_are_written_where_the_defaults_are_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "ROUNDS", 1)
    events = [(n, 5_000_000, 0) for n in range(20)] + [(n, -1, -1) for n in range(20)]
    trace = recorded(tmp_path, "data = sock.recv(n)", events)
    found = replay.replay(trace, tmp_path, MACHINE, 0)
    assert found
    assert found.call == "Pool(max_size=8 << 20, max_buffers=20, max_idle_bytes=128 << 20)"
    assert found.peak_idle_bytes > 100_000_000


def test_lines_without_a_replacement_are_not_replayed(tmp_path: Path) -> None:
    trace = recorded(tmp_path, "result = left + right", one_after_another(5, 300_000))
    assert replay.replay(trace, tmp_path, MACHINE, 0) is None


@pytest.mark.parametrize(("excess_faults", "saved"), [(10_000, 3.0), (400, 2.4), (0, 2.0)])
def test_page_faults_that_only_the_replay_has_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excess_faults: int, saved: float
) -> None:
    figures: dict[str, dict[str, Any]] = {
        "now": {"cpu": 4.0, "faults": 1_000},
        "pool": {
            "cpu": 1.0,
            "faults": 0,
            "hit_rate": 1.0,
            "idle_bytes": 0,
            "peak_bytes": 0,
            "peak_idle_bytes": 0,
            "peak_depth": 1,
        },
    }
    monkeypatch.setattr(replay, "_child", lambda _, mode: figures[mode])
    trace = recorded(tmp_path, "data = bytearray(n)", one_after_another(5, 300_000))
    found = replay.replay(trace, tmp_path, MACHINE, excess_faults)
    assert found
    assert found.saved == pytest.approx(saved)


def test_each_kind_makes_writable_memory_of_its_size() -> None:
    for make in [*replay.makers().values(), Pool().view]:
        thing: Any = make(100_000)
        assert len(thing) == 100_000
        assert replay.address(thing) > 0
    cpu = replay.once([(0, 70_000, "bytes"), (1, 70_000, "malloc"), (0, -1, "")], None)["cpu"]
    assert cpu > 0
