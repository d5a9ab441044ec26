"""What ``import bytepool`` shows."""

from __future__ import annotations

import inspect
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers import run_python

import bytepool

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def test_public_names_belong_to_the_package() -> None:
    for name in set(bytepool.__all__) - {
        "__version__",
        "decay",
        "default_pool",
        "Stats",
        "BucketStats",
    }:
        thing = getattr(bytepool, name)
        assert (thing.__module__, thing.__qualname__) == ("bytepool", name)


def test_everything_public_is_documented() -> None:
    for name in set(bytepool.__all__) - {"__version__"}:
        thing = getattr(bytepool, name)
        assert thing.__doc__, name
        for attribute, member in getattr(thing, "__dict__", {}).items():
            if not attribute.startswith("_") and (
                callable(member) or inspect.isdatadescriptor(member)
            ):
                assert member.__doc__, f"{name}.{attribute}"


def test_misuse_errors_are_runtime_errors() -> None:
    assert issubclass(bytepool.MisuseError, RuntimeError)
    for error in (bytepool.BytesAlreadyAllocatedError, bytepool.BytesAlreadyReturnedError):
        assert error.__bases__ == (bytepool.MisuseError,)


def test_package_has_no_dependencies() -> None:
    code = """
        import sys
        before = set(sys.modules)
        import bytepool
        bytepool.Pool().stats()
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(*sorted(new - sys.stdlib_module_names))
    """
    assert run_python(code).split() == ["bytepool"]


def test_version_is_the_version_of_the_crate() -> None:
    assert bytepool.__version__ == version("bytepool")
    assert sys.modules["bytepool._bytepool"].__version__ == bytepool.__version__


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("fastapi", ["fastapi"]),
        ("prometheus", ["prometheus-client"]),
        ("starlette", ["starlette", "python-multipart"]),
        ("uvicorn", ["uvicorn", "httptools"]),
    ],
)
def test_module_without_its_packages_names_the_extra(module: str, packages: list[str]) -> None:
    for package in packages:
        code = f"""
            import sys
            sys.modules["{package.replace("-", "_")}"] = None
            try:
                import bytepool.{module}
            except ImportError as error:
                print(error)
        """
        message = f"needs {' and '.join(packages)}: pip install 'bytepool[{module}]'"
        assert run_python(code) == f"bytepool.{module} {message}\n"
        assert package in str(EXTRAS[module])


def test_extra_fastapi_has_what_its_forms_need() -> None:
    assert "python-multipart" in str(EXTRAS["fastapi"])
