"""The rules of ``bytepool.advise.verdict``, without running anything."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from bytepool.advise import verdict
from bytepool.advise.machine import Machine, measure
from bytepool.advise.remedies import IMPORT, SETTING, Remedy
from bytepool.advise.replay import Replay
from bytepool.advise.run import Run
from bytepool.advise.trace import Site, Trace
from bytepool.advise.verdict import Saving, decide, reachable, saving, small

MIB = 1 << 20
MACHINE = Machine(fault_seconds=1e-6, map_seconds=1e-5, byte_seconds=1e-10, huge_pages=False)


def make_run(cpu: float = 1.0, *, system: float = 0.5, faults: int = 0) -> Run:
    return Run(
        seconds=cpu,
        user=cpu - system,
        system=system,
        faults=faults + 1000,
        peak_rss=1000 * 4096,
        status=0,
        stopped=False,
        interrupted=False,
        listened=None,
        load_status=None,
    )


def make_trace(size: int = MIB, count: int = 100, *, kept: int = 0) -> Trace:
    frame = ("work", __file__, 1)
    site = Site(frame, "", False, [size] * count, [0] * (count - kept))
    return Trace([site])


def make_remedy(name: str, effort: int = 0, kind: str = SETTING) -> Remedy:
    return Remedy(name, kind, effort, f"how to use {name}", {})


def make_replay(saving: Saving) -> Replay:
    sites = tuple(make_trace().sites)
    return Replay(sites, "Pool(max_size=1 << 20)", 0.99, MIB, MIB, MIB, saving, saving, 1.0)


def steady(name: str, share: float) -> Saving:
    return Saving(name, (share - 0.01, share, share, share + 0.01))


def test_each_round_is_compared_with_its_neighbour() -> None:
    plain = [make_run(1.0), make_run(2.0), make_run(4.0)]
    found = saving("x", plain, [make_run(0.5), make_run(1.0), make_run(3.0)])
    assert found.rounds == (0.5, 0.5, 0.25)
    assert (found.median, found.is_real) == (0.5, True)


def test_saving_within_the_noise_is_not_real() -> None:
    noisy = Saving("x", (-0.2, 0.5, 0.1, 0.0, 0.3))
    assert noisy.median == 0.1
    assert not noisy.is_real
    assert not Saving("one round", (0.5,)).is_real
    assert not steady("small", 0.04).is_real


def test_faults_beyond_the_first_touch_and_copies_bound_what_can_be_saved() -> None:
    run = make_run(1.0, faults=100_000)
    assert run.excess_faults == 100_000
    copies = verdict.COPIES * 100 * MIB * MACHINE.byte_seconds
    maps = 100 * MACHINE.map_seconds
    assert reachable([run], make_trace(), MACHINE) == pytest.approx(0.1 + maps + copies)
    # Faults cannot take more than the time in the kernel.
    assert reachable([make_run(1.0, system=0.0, faults=100_000)], None, MACHINE) < 0.1
    huge = dataclasses.replace(MACHINE, huge_pages=True)
    faults = 100 * 256 * MACHINE.fault_seconds
    assert reachable([make_run()], make_trace(), huge) == pytest.approx(faults + maps + copies)


def test_blocks_that_shrink_may_cost_a_mapping_each_as_far_as_there_are_page_faults() -> None:
    trace = make_trace(count=0)
    trace.shrunk = 10_000
    assert reachable([make_run(faults=1_000)], trace, MACHINE) == pytest.approx(0.001 + 0.01)
    assert reachable([make_run(faults=20_000)], trace, MACHINE) == pytest.approx(0.02 + 0.1)
    assert reachable([make_run(faults=0)], trace, MACHINE) == 0.0


@pytest.mark.parametrize(
    ("limit", "cpu", "stops"),
    [(0.01, 10.0, True), (0.5, 0.01, True), (0.5, 10.0, False), (verdict.WORTH_IT, 10.0, False)],
)
def test_small_costs_stop_before_any_remedy(limit: float, cpu: float, stops: bool) -> None:
    found = small(limit, cpu, make_trace())
    assert (found is not None) == stops
    if found:
        assert found.kind == "stop"
        assert f"{limit:.1%}" in found.reason
        assert "100 blocks" in found.reason


def choose(*tried: Any, replay: Replay | None = None, trace: Trace | None = None) -> Any:
    return decide(0.5, trace or make_trace(), tried, replay)


def test_setting_wins_over_an_import_that_saves_the_same() -> None:
    setting, change = make_remedy("tunables"), make_remedy("streams", 2, IMPORT)
    found = choose((change, steady("streams", 0.32)), (setting, steady("tunables", 0.3)))
    assert (found.kind, found.saving, found.steps) == ("setting", 0.3, ("how to use tunables",))
    found = choose((change, steady("streams", 0.5)), (setting, steady("tunables", 0.3)))
    assert (found.kind, found.saving) == ("import", 0.5)


def test_pool_is_advised_only_if_it_saves_clearly_more() -> None:
    setting = make_remedy("tunables")
    found = choose((setting, steady("tunables", 0.3)), replay=make_replay(steady("pool", 0.5)))
    assert (found.kind, found.saving) == ("pool", 0.5)
    assert found.steps[0] == "pool = Pool(max_size=1 << 20)"
    same = choose((setting, steady("tunables", 0.3)), replay=make_replay(steady("pool", 0.32)))
    assert same.kind == "setting"
    guess = Saving("pool", (-0.4, 0.5, 0.9, 0.0, 0.6))
    noisy = choose((setting, steady("tunables", 0.3)), replay=make_replay(guess))
    assert noisy.kind == "setting"
    assert choose(replay=make_replay(guess)).kind == "unclear"


def test_pool_names_the_line_and_what_to_write_instead(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("data = bytearray(n)\n")
    site = Site(("work", str(tmp_path / "own.py"), 1), "", False, [MIB], [0])
    replay = Replay((site,), "Pool()", 0.9, 0, 0, 0, steady("pool", 0.5), steady("pool", 0.6), 1.0)
    steps = choose(replay=replay).steps
    assert steps[1].endswith("own.py:1: instead of `data = bytearray(n)` write pool.view(n)")


def test_noise_that_could_hide_a_saving_gives_no_verdict() -> None:
    noisy = Saving("tunables", (-0.4, 0.9, 0.2, 0.0, 0.6))
    found = choose((make_remedy("tunables"), noisy))
    assert found.kind == "unclear"
    assert "--rounds" in found.reason


def test_blocks_that_are_kept_stop() -> None:
    nothing = (make_remedy("tunables"), steady("tunables", 0.0))
    found = choose(nothing, trace=make_trace(kept=95))
    assert found.kind == "stop"
    assert "95% of their bytes live until the end" in found.reason
    assert choose(nothing).reason.startswith("No remedy saves 5% of the CPU time")


def test_each_verdict_has_a_title_and_a_status_of_its_own() -> None:
    assert verdict.STATUS.keys() == verdict.TITLES.keys()
    assert len(set(verdict.STATUS.values())) == len(verdict.STATUS)
    assert verdict.STATUS["stop"] == 0


def test_pool_that_saves_little_or_much_is_no_reason_to_stop() -> None:
    replay = dataclasses.replace(make_replay(steady("pool", 0.01)), most=steady("pool", 0.4))
    found = choose(replay=replay)
    assert found.kind == "unclear"
    assert found.reason.startswith("A pool saves 1% to 40% of the CPU time")
    assert found.steps[0] == "pool = Pool(max_size=1 << 20)"
    setting = make_remedy("tunables")
    assert choose((setting, steady("tunables", 0.3)), replay=replay).kind == SETTING


def test_documented_thresholds_are_those_of_the_rules() -> None:
    text = (Path(__file__).parents[1] / "docs/advise.md").read_text()
    documented = dict(re.findall(r"^\| `([A-Z_]+)` \| ([\d.]+)", text, re.MULTILINE))
    names = ("WORTH_IT", "LEAST", "SAME", "KEPT", "DEVIATIONS", "HOPELESS", "FEW", "COPIES")
    assert {name: float(number) for name, number in documented.items()} == {
        name: getattr(verdict, name) for name in names
    }


def test_machine_has_plausible_prices() -> None:
    machine = measure()
    assert 1e-8 < machine.fault_seconds < 1e-3
    assert 1e-7 < machine.map_seconds < 1e-2
    assert 1e-12 < machine.byte_seconds < 1e-6
