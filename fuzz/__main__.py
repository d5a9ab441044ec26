"""Run a fuzz target, replay its corpus, or run random inputs.

``python -m fuzz TARGET FOLDER... [-OPTION=VALUE...]`` fuzzes with atheris and takes libFuzzer's
options. New inputs are written to the first folder, failing ones to ``fuzz/artifacts/TARGET/``.
Coverage comes from Python code only: the extension module is not instrumented.

``python -m fuzz TARGET --replay PATH...`` runs each input in the paths once, without atheris.

``python -m fuzz TARGET --random COUNT`` runs random inputs on all cores, without atheris.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz import plans

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS = ("streams", "surface")


def load(target: str) -> Callable[[bytes], None]:
    one: Callable[[bytes], None] = importlib.import_module(f"fuzz.{target}").one
    # Exempts the imported modules from the garbage collection after each input.
    gc.collect()
    gc.freeze()
    return one


def replay(target: str, paths: list[str]) -> None:
    inputs = [
        file
        for path in map(Path, paths)
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    one = load(target)
    start = time.monotonic()
    for file in inputs:
        try:
            one(file.read_bytes())
        except BaseException:
            print(f"{file} fails:", file=sys.stderr)
            raise
    print(f"{target}: {len(inputs)} inputs replayed in {time.monotonic() - start:.1f} s")


def fuzz(target: str, arguments: list[str]) -> None:
    import atheris

    artifacts = Path(__file__).parent / "artifacts" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["bytepool", "fuzz"]):
        one = load(target)
    # To merge corpora, libFuzzer runs its first argument as a command.
    command = f"{sys.executable} -m fuzz {target}"
    atheris.Setup([command, *arguments, f"-artifact_prefix={artifacts}/"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    match sys.argv[1:]:
        case [target, "--replay", *paths] if target in TARGETS:
            replay(target, paths)
        case [target, "--random", *arguments] if target in TARGETS:
            plans.main(target, arguments)
        case [target, *arguments] if target in TARGETS:
            fuzz(target, arguments)
        case _:
            sys.exit(__doc__)
