"""Run uvicorn's own tests of its HTTP protocol against ours, from the installed version's sources.

uvicorn's tests call a protocol's ``data_received`` and look at its attributes. The class here
receives as a transport does, and shows the attributes of the connection.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

TARGET = Path("target/uvicorn").resolve()

# Tests that cannot pass, and why.
CANNOT_PASS: dict[str, str] = {}


def sources() -> Path:
    """Return the folder of the sources, which are fetched if they are missing."""
    name = f"uvicorn-{version('uvicorn')}"
    folder = TARGET / name
    if not folder.exists():
        TARGET.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary=uvicorn", f"--dest={TARGET}"]
        requirement = name.replace("-", "==")
        pip = [sys.executable, "-m", "pip", "download", *options, requirement]
        subprocess.run(pip, check=True)
        with tarfile.open(TARGET / f"{name}.tar.gz") as archive:
            archive.extractall(TARGET, filter="data")
    return folder


class ForUs:
    """A plugin of pytest: whatever asks for uvicorn's httptools protocol gets ours."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "httptools" in item.name]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def replace_protocol() -> None:
    from uvicorn.protocols.http import httptools_impl

    from bytepool.uvicorn import Protocol
    from bytepool.uvicorn._output import Output

    class HttpToolsProtocol(Protocol):  # uvicorn looks at its name
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            loop: Any = self._http.loop
            if not hasattr(loop, "call_soon"):  # a mock
                loop.call_soon = lambda *_: None

        def __getattr__(self, name: str) -> Any:
            found = getattr(self.__dict__["_http"], name)
            if isinstance(found, Output):
                # The tests look at what their transport has got, as if a step of the loop was over.
                found.flush()
                return found._transport
            return found

        def __setattr__(self, name: str, value: Any) -> None:
            if name.startswith("_") or name in Protocol.__dict__:
                super().__setattr__(name, value)
            else:
                setattr(self._http, name, value)

        def data_received(self, data: bytes) -> None:
            while data and not self._http.transport.is_closing():
                buffer = self.get_buffer(-1)
                n = min(len(buffer), len(data))
                buffer[:n] = data[:n]
                del buffer
                self.buffer_updated(n)
                data = data[n:]

    httptools_impl.HttpToolsProtocol = HttpToolsProtocol  # type: ignore[misc]


def main() -> int:
    folder = sources()
    replace_protocol()
    plugin = ForUs()
    tests = ["tests/protocols/test_http.py", "tests/protocols/test_websocket.py"]
    tests += ["tests/middleware/test_logging.py", "tests/middleware/test_proxy_headers.py"]
    options = [f"--rootdir={folder}", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]
    options += ["-o", "addopts=", "-o", "filterwarnings=default"]
    sys.path.insert(0, str(folder))
    pytest.main([*options, *(str(folder / test) for test in tests)], plugins=[plugin])
    names = {name.rpartition("::")[2] for name in plugin.failed}
    for name, reason in CANNOT_PASS.items():
        print(f"{'cannot pass' if name in names else 'PASSES NOW'}: {name}: {reason}")
    unexpected = names - CANNOT_PASS.keys()
    for name in sorted(unexpected):
        print(f"FAILED: {name}")
    return 1 if unexpected or CANNOT_PASS.keys() - names else 0


if __name__ == "__main__":
    sys.exit(main())
