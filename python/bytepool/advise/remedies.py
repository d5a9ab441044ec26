"""The remedies, each with the environment that applies it to an unchanged program."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bytepool.bench.cases import preloads

if TYPE_CHECKING:
    from collections.abc import Mapping

KEEP = 1 << 30  # bytes: larger than any block, so that glibc keeps what is freed
TUNABLES = f"glibc.malloc.mmap_threshold={KEEP}:glibc.malloc.trim_threshold={KEEP}"
STARTUP = Path(__file__).parent / "startup"

SETTING, IMPORT = "setting", "import"


@dataclass(frozen=True, eq=False)
class Remedy:
    """One change that may make the program cheaper."""

    name: str
    kind: str
    """``SETTING`` or ``IMPORT``."""
    effort: int
    """Of two remedies that save alike, the one with less effort wins."""
    how: str
    """What to do, in one line."""
    environment: Mapping[str, str]
    folder: Path | None = None
    """Where the program leaves a file to show that the remedy was applied."""

    @property
    def was_applied(self) -> bool:
        """Whether the last run shows that the remedy was applied."""
        return self.folder is None or any(self.folder.glob("applied.*"))


def inside(task: str, folder: Path) -> dict[str, str]:
    """Return the environment in which every Python process calls a function of ``inside``."""
    folder.mkdir(exist_ok=True)
    packages = {
        str(Path(spec.origin).parents[1])
        for name in ("bytepool", "memray")
        if (spec := importlib.util.find_spec(name)) and spec.origin
    }
    path = [str(STARTUP), *filter(None, [os.environ.get("PYTHONPATH")])]
    request = {"task": task, "folder": str(folder), "packages": sorted(packages)}
    return {"PYTHONPATH": os.pathsep.join(path), "BYTEPOOL_ADVISE": json.dumps(request)}


def allocators() -> tuple[list[Remedy], list[str]]:
    """Return settings and other allocators that are there, and sentences about the missing."""
    found, left_out = [], []
    if platform.libc_ver()[0] == "glibc":
        own = os.environ.get("GLIBC_TUNABLES")
        value = f"{own}:{TUNABLES}" if own else TUNABLES
        found.append(
            Remedy(
                "glibc tunables",
                SETTING,
                0,
                f"start the program with GLIBC_TUNABLES={value}",
                {"GLIBC_TUNABLES": value},
            )
        )
    else:
        left_out.append("glibc tunables: this system has another C library")
    for name in ("jemalloc", "mimalloc"):
        library = preloads().get(name)
        if library is None:
            left_out.append(f"{name}: not installed")
            continue
        before = os.environ.get("LD_PRELOAD")
        value = f"{library} {before}" if before else library
        found.append(
            Remedy(
                name,
                SETTING,
                1,
                f"start the program with LD_PRELOAD={value}",
                {"LD_PRELOAD": value},
            )
        )
    return found, left_out


def imports(
    *, uses_streams: bool, modules: set[str], folder: Path
) -> tuple[list[Remedy], list[str]]:
    """Return the changes of an import that fit the program, and sentences about the missing."""
    found, left_out = [], []
    if uses_streams:
        path = folder / "install"
        found.append(
            Remedy(
                "bytepool.streams",
                IMPORT,
                2,
                "import start_server and open_connection from bytepool.streams instead of asyncio,"
                " or call bytepool.streams.install() first",
                inside("install", path),
                path,
            )
        )
    if "uvicorn" in modules:
        if importlib.util.find_spec("bytepool.uvicorn") is None:
            left_out.append("bytepool.uvicorn: not in this version of bytepool")
        else:
            path = folder / "uvicorn"
            found.append(
                Remedy(
                    "bytepool.uvicorn",
                    IMPORT,
                    2,
                    "start uvicorn with --http bytepool.uvicorn:Protocol",
                    inside("uvicorn", path),
                    path,
                )
            )
    return found, left_out
