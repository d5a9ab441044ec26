"""What ``import bytepool`` shows."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import version

from helpers import run_python

import bytepool


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
