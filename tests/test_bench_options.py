"""Wrong options of ``python -m bytepool.bench`` end in a message, before anything is measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from bytepool.bench import __main__ as program
from bytepool.bench import command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--rounds -1", "argument --rounds: must be 1 or more, not -1"),
        ("--rounds=0", "argument --rounds: must be 1 or more, not 0"),
        ("--rounds 1.5", "argument --rounds: invalid rounds value: '1.5'"),
        ("--rounds", "argument --rounds: expected one argument"),
        ("--output {file}", "argument --output: cannot write to the folder: "),
        ("--output {file}/below", "argument --output: cannot write to the folder: "),
        ("--output /proc/nowhere", "argument --output: cannot write to the folder: "),
        ("--quick=1", "argument --quick: ignored explicit argument '1'"),
        ("--unknown", "unrecognized arguments: --unknown"),
        ("case", "unrecognized arguments: case"),
    ],
)
def test_wrong_option_ends_in_a_message(
    options: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "measure", lambda *_, **__: pytest.fail("it measures"))
    (tmp_path / "file").touch()
    arguments = options.format(file=tmp_path / "file").split()
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
