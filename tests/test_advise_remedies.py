"""Which remedies are tried, and how they are applied from outside."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from bytepool.advise import remedies
from bytepool.advise.command import parse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _two_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedies, "preloads", lambda: {"jemalloc": "libjemalloc.so.2"})
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    for variable in ("GLIBC_TUNABLES", "LD_PRELOAD", "PYTHONPATH"):
        monkeypatch.delenv(variable, raising=False)


def test_missing_allocator_is_named() -> None:
    found, left_out = remedies.allocators()
    assert [remedy.name for remedy in found] == ["glibc tunables", "jemalloc"]
    assert left_out == ["mimalloc: not installed"]
    assert found[1].environment == {"LD_PRELOAD": "libjemalloc.so.2"}


def test_another_c_library_has_no_tunables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    found, left_out = remedies.allocators()
    assert [remedy.name for remedy in found] == ["jemalloc"]
    assert left_out[0] == "glibc tunables: this system has another C library"


def test_settings_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    monkeypatch.setenv("LD_PRELOAD", "own.so")
    tunables, jemalloc = remedies.allocators()[0]
    value = tunables.environment["GLIBC_TUNABLES"]
    assert value.startswith("glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=")
    assert tunables.how.endswith(f"GLIBC_TUNABLES={value}")
    assert jemalloc.environment["LD_PRELOAD"] == "libjemalloc.so.2 own.so"


def test_startup_folder_comes_first_in_the_python_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "own")
    environment = remedies.inside("trace", tmp_path / "new")
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(remedies.STARTUP), "own"]
    assert json.loads(environment["BYTEPOOL_ADVISE"])["task"] == "trace"
    assert (tmp_path / "new").is_dir()


def test_imports_fit_what_the_program_uses(tmp_path: Path) -> None:
    def names(*, uses_streams: bool, modules: set[str]) -> list[str]:
        found, _ = remedies.imports(uses_streams=uses_streams, modules=modules, folder=tmp_path)
        return [remedy.name for remedy in found]

    assert names(uses_streams=False, modules={"asyncio"}) == []
    assert names(uses_streams=True, modules={"asyncio"}) == ["bytepool.streams"]
    assert names(uses_streams=False, modules={"uvicorn"}) == ["bytepool.uvicorn"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "name the program"),
        ("--rounds 5", "name the program"),
        ("-m", "name the program"),
        ("no-such-script.py", "no such file: no-such-script.py"),
        ("--rounds 2 script.py", "must be 3 or more, not 2"),
        ("--seconds 0 script.py", "must be more than 0, not 0"),
        ("--seconds nan script.py", "must be more than 0, not nan"),
        ("--json nowhere/file script.py", "no such folder: nowhere"),
        ("--unknown 1 script.py", "unrecognized arguments: --unknown"),
    ],
)
def test_wrong_option_ends_in_a_message(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").touch()
    with pytest.raises(SystemExit) as ended:
        parse(arguments.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_options_after_the_program_belong_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a script.py").touch()
    options = parse(["--rounds=7", "--load", "a b", "a script.py", "--rounds", "1", "-m"])
    assert (options.rounds, options.load) == (7, "a b")
    assert options.program == ["a script.py", "--rounds", "1", "-m"]
    assert parse(["-m", "module", "--json", "x"]).program == ["-m", "module", "--json", "x"]
