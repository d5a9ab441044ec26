"""``python -m bytepool.bench``: read the options, check what it needs, and run the command."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path


def rounds(text: str) -> int:
    """Return the number of rounds that an argument states."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def folder(text: str) -> Path:
    """Return the folder that an argument names. It is created now, because measuring takes long."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write to the folder: {error}") from None
    return path


def main() -> None:
    """Run the command, or exit with a message that names what is missing."""
    if sys.platform != "linux":
        sys.exit(f"bytepool.bench needs Linux: it reads /proc (this system: {sys.platform})")
    parser = argparse.ArgumentParser(
        prog="python -m bytepool.bench",
        description="Run all cases in turns. Writes tables, charts, and pyperf's JSON.",
    )
    parser.add_argument("--quick", action="store_true", help="the most important cases, < 1 minute")
    parser.add_argument(
        "--rounds", type=rounds, help="rounds of each case (default 5, with --quick 1)"
    )
    parser.add_argument(
        "--output", type=folder, default="bytepool-bench", help="folder for the results"
    )
    missing = [name for name in ("matplotlib", "pyperf", "rich") if find_spec(name) is None]
    if missing:
        install = f"missing: {', '.join(missing)}; install them with: pip install 'bytepool[bench]'"
        if not {"-h", "--help"} & {*sys.argv[1:]}:
            sys.exit(install)
        parser.epilog = install
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)

    from . import command

    command.run(options)


if __name__ == "__main__":
    main()
