"""Arbitrary calls on everything that Python sees of a pool, with arguments that do not behave.

Only documented exceptions may come out, and those that a hostile object raised itself. After each
call the bytes that are out must hold what was written to them and the pools' numbers must be true;
at the end, when all is dropped, nothing may be out.
"""

from __future__ import annotations

import sys
import warnings

from fuzz.calls import STEPS
from fuzz.hostile import HostileError, HostileExit
from fuzz.reader import Reader
from fuzz.world import World


def one(data: bytes) -> None:
    """Do what the input says."""
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
