"""Fuzz the public Python API with arbitrary calls and hostile arguments.

A call may raise documented exceptions, and those that a hostile argument raised itself. After each
call, buffers in use must hold what was written to them, and the counters must be consistent. When
all objects are dropped at the end, no buffer may be in use.
"""

from __future__ import annotations

import sys
import warnings

from fuzz.calls import STEPS
from fuzz.hostile import HostileError, HostileExit
from fuzz.reader import Reader
from fuzz.world import World


def one(data: bytes) -> None:
    """Run one input."""
    unraisable: list[str] = []

    def note(args: sys.UnraisableHookArgs) -> None:
        if not isinstance(args.exc_value, (HostileError, HostileExit)):
            unraisable.append(f"{args.exc_value!r} in {args.object!r}")

    before, sys.unraisablehook = sys.unraisablehook, note
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            world = World(Reader(data), STEPS)
            for _ in range(60):
                if not world.read:
                    break
                world.step()
                world.check()
            world.end()
    finally:
        sys.unraisablehook = before
    assert not unraisable, unraisable
