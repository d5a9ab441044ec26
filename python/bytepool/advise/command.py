"""The command line of ``python -m bytepool.advise``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bytepool.advise import page, report, verdict
from bytepool.advise.run import Program
from bytepool.advise.study import FailedError, Study

USAGE = "python -m bytepool.advise [options] (script.py | -m module) [arguments]"
EPILOG = """\
The program runs many times. The first run has its input and its output as usual; the output of the
other runs is dropped. The report goes to stderr. Exit status: 0 for STOP HERE, 10 if a setting does
it, 11 if an import is to be changed, 12 for a pool, 13 without a verdict. If the program
fails, its own status."""


def _number(text: str) -> int:
    number = int(text)
    if number < 3:
        raise argparse.ArgumentTypeError(f"must be 3 or more, not {number}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return number


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the options, and leave the program's own arguments as they are."""
    parser = argparse.ArgumentParser(
        prog="python -m bytepool.advise",
        usage=USAGE,
        description="Measure what large buffers cost a program, and what makes it cheaper.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seconds", type=_seconds, help="stop a server after so many seconds")
    parser.add_argument("--load", help="a command to run once the server listens; it ends the run")
    parser.add_argument("--rounds", type=_number, default=5, help="of each remedy (default 5)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--page", type=Path, help="write a page with pictures to this file")
    own, program = _split(arguments)
    options = parser.parse_args(own)
    if not program or (program[0] == "-m" and len(program) == 1):
        parser.error("name the program: a script, or -m and a module")
    if program[0] != "-m" and not Path(program[0]).exists():
        parser.error(f"no such file: {program[0]}")
    for path in filter(None, (options.json, options.page)):
        if not path.parent.is_dir():
            parser.error(f"no such folder: {path.parent}")
    options.program = program
    return options


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split the advisor's options from the program, which begins with ``-m`` or a file name."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] != "-m":
        # Each option takes a value, except --help. It may be attached with "=".
        takes_value = arguments[at].startswith("--") and "=" not in arguments[at]
        at += 2 if takes_value and arguments[at] != "--help" else 1
    return arguments[:at], arguments[at:]


def interpreter_options() -> list[str]:
    """Return the options that this interpreter was started with, such as ``-X dev``."""
    original = sys.orig_argv[1:]
    for at, argument in enumerate(original):
        if argument == "bytepool.advise" and at and original[at - 1].endswith("m"):
            rest = original[at - 1][:-1]  # of -Im, the -I
            return [*original[: at - 1], *([rest] if rest != "-" else [])]
        if argument.endswith("mbytepool.advise"):
            rest = argument.removesuffix("mbytepool.advise")
            return [*original[:at], *([rest] if rest != "-" else [])]
    return []


def main(arguments: list[str] | None = None) -> int:
    """Study the program, show the report, and return the exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    program = Program(options.program, interpreter_options(), options.seconds, options.load)
    with tempfile.TemporaryDirectory(prefix="bytepool-advise-") as folder:
        try:
            found = Study(program, options.rounds, Path(folder)).advice()
        except FailedError as failure:
            print(failure, file=sys.stderr)
            return failure.status
    print(report.text(found), file=sys.stderr)
    if options.json:
        options.json.write_text(report.as_json(found))
    if options.page:
        options.page.write_text(page.page(found))
    return verdict.STATUS[found.verdict.kind]
