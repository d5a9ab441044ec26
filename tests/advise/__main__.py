"""Ask the advisor about real programs, do as it tells, and compare its prediction with the result.

``make test-advise`` runs this. It fails if a verdict is wrong, or if a prediction differs from the
measured saving by more than a quarter and by more than the noise of both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advise.cases import CASES, PROGRAMS, SEND, Case, edit, free_port
from libraries import fakes

from bytepool.advise import verdict
from bytepool.advise.run import Program, run

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN = 0.25  # of the measured saving


@contextlib.contextmanager
def server(case: Case) -> Iterator[int]:
    """Yield the port that the program uses, with a Redis behind it if the program needs one."""
    if case.needs_redis:
        with fakes.serve("redis") as port:
            yield port
    else:
        yield free_port()


def ask(case: Case, arguments: list[str], load: str | None, options: Any) -> dict[str, Any]:
    """Return the figures of the advisor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        command = [sys.executable, "-m", "bytepool.advise", "--json", str(path)]
        command += ["--rounds", str(options.rounds), *(["--load", load] if load else [])]
        done = subprocess.run(
            [*command, *arguments], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        report = done.stderr.decode()
        if options.verbose:
            print(report)
        assert path.exists(), f"{case.name}: {report}"
        figures: dict[str, Any] = json.loads(path.read_text())
        return figures


def as_told(
    case: Case, arguments: list[str], figures: dict[str, Any], folder: Path
) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of the program after the advice."""
    steps = figures["steps"]
    if figures["verdict"] == "setting":
        name, _, value = steps[0].rpartition(" ")[2].partition("=")
        return arguments, {name: value}
    if figures["verdict"] in ("stop", "unclear"):  # the setting that was not worth it
        one = next((one for one in figures["remedies"] if one["name"] == "glibc tunables"), None)
        from bytepool.advise.remedies import allocators

        found = {remedy.name: remedy.environment for remedy in allocators()[0]}
        return arguments, dict(found[one["name"] if one else "glibc tunables"])
    if case.more_arguments:
        return [*arguments, *case.more_arguments], {}
    text = (PROGRAMS / arguments[0]).read_text()
    changed = folder / arguments[0]
    changed.write_text(edit(text, case.edits, lambda: str(steps[0])))
    return [str(changed), *arguments[1:]], {}


def measure(
    plain: list[str], changed: list[str], environment: dict[str, str], load: str | None, rounds: int
) -> tuple[verdict.Saving, verdict.Saving]:
    """Let the program, the changed one, and the program again take turns.

    Return what the changed one saves, and what the program saves over itself: the noise.
    """
    runs: list[list[Any]] = [[], [], []]
    with tempfile.TemporaryFile() as output:
        streams = (None, output.fileno(), output.fileno())
        for turn in range(rounds):
            for which in (0, 1, 2) if turn % 2 else (2, 1, 0):
                program = Program(changed if which == 1 else plain, load=load)
                more = environment if which == 1 else {}
                one = run(program, {**os.environ, **more}, streams)
                if one.failed:
                    output.seek(0)
                    raise AssertionError(output.read().decode()[-2000:])
                runs[which].append(one)
    first, other, again = runs
    return verdict.saving("as told", first, other), verdict.saving("nothing", first, again)


def prediction_noise(figures: dict[str, Any]) -> float:
    """Return the share by which the prediction may be wrong."""
    remedies = figures["remedies"] + ([figures["pool"]] if figures["pool"] else [])
    measured = [tuple(one["rounds"]) for one in remedies if one["saving"] == figures["saving"]]
    return verdict.Saving("as predicted", measured[0]).noise if measured else 0.0


def check(case: Case, options: Any) -> tuple[list[str], bool]:
    """Return a row of the table, and whether it is as it should be."""
    with server(case) as port, tempfile.TemporaryDirectory() as folder:
        names = {"port": port, "stdlib": sysconfig.get_path("stdlib")}
        arguments = [argument.format(**names) for argument in case.arguments]
        load = f"{sys.executable} {SEND} {case.load.format(**names)}" if case.load else None
        figures = ask(case, arguments, load, options)
        changed, environment = as_told(case, arguments, figures, Path(folder))
        found, nothing = measure(arguments, changed, environment, load, options.rounds + 2)
    least, measured = figures["saving"], found.median
    most = figures["pool"]["at_most"] if figures["verdict"] == "pool" else least
    difference = max(least - measured, measured - most, 0.0)
    noise = math.hypot(found.noise, prediction_noise(figures), abs(nothing.median) + nothing.noise)
    if figures["verdict"] == "stop":  # unless it was shown that a setting is worth it
        is_right = measured < verdict.WORTH_IT + noise
    else:
        is_right = difference <= max(WITHIN * abs(measured), noise)
    # Where the program differs from itself by more than a remedy has to save, there is no verdict.
    too_noisy = figures["verdict"] == "unclear" and noise >= verdict.WORTH_IT
    is_right = is_right and (figures["verdict"] in case.allowed or too_noisy)
    low, high = min(found.rounds), max(found.rounds)
    row = [
        case.name,
        verdict.TITLES[figures["verdict"]],
        f"{figures['cpu']:.2f} s",
        verdict.shares(least, most),
        f"{measured:.0%} ({low:.0%} to {high:.0%})",
        f"{noise:.0%}",
        "yes" if is_right else "NO",
    ]
    return row, is_right


def main() -> None:
    parser = argparse.ArgumentParser(prog="make test-advise", description=__doc__)
    parser.add_argument("names", nargs="*", help="words in the names of programs (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--verbose", action="store_true", help="show the reports")
    options = parser.parse_args()
    os.chdir(PROGRAMS)
    columns = "program, verdict, CPU time, predicted saving, measured saving, noise, as predicted"
    print(f"| {columns.replace(', ', ' | ')} |")
    print("|---" * len(columns.split(", ")) + "|", flush=True)
    failed = []
    for case in CASES:
        if not options.names or any(name in case.name for name in options.names):
            row, is_right = check(case, options)
            print(f"| {' | '.join(row)} |", flush=True)
            failed += [] if is_right else [case.name]
    if failed:
        sys.exit(f"not as they should be: {', '.join(failed)}")


if __name__ == "__main__":
    main()
