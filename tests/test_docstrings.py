"""Docstrings of the extension module: IDEs show those of the stub, ``help()`` those at runtime."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType

import pytest

import bytepool
from bytepool import _bytepool

STUB = Path(bytepool.__file__).with_name("_bytepool.pyi")
PROPERTIES = (GetSetDescriptorType, MemberDescriptorType)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def stub_docstrings() -> dict[str, str | None]:
    """Return the docstrings of all public classes, methods and properties of the stub."""
    found: dict[str, str | None] = {}
    for cls in ast.parse(STUB.read_text()).body:
        if not isinstance(cls, ast.ClassDef) or is_private(cls.name):
            continue
        found[cls.name] = ast.get_docstring(cls)
        for member in cls.body:
            if not isinstance(member, ast.FunctionDef) or is_private(member.name):
                continue
            if member.name != "__new__":  # the class describes it
                # A property's docstring stands at its getter, which comes before the setter.
                found.setdefault(f"{cls.name}.{member.name}", ast.get_docstring(member))
    return found


def runtime_docstrings() -> dict[str, str | None]:
    """Return the same of the extension module, without methods that Python itself documents."""
    found: dict[str, str | None] = {}
    for name, cls in vars(_bytepool).items():
        if not isinstance(cls, type) or is_private(name):
            continue
        found[name] = inspect.getdoc(cls)
        for member, value in vars(cls).items():
            is_property = isinstance(value, PROPERTIES) and not member.endswith("__")
            is_method = isinstance(value, (MethodDescriptorType, staticmethod))
            if (is_property or is_method) and not is_private(member):
                found[f"{name}.{member}"] = inspect.getdoc(getattr(cls, member))
    return found


def test_stub_and_runtime_document_the_same_names() -> None:
    assert stub_docstrings().keys() == runtime_docstrings().keys()
    assert {"Pool", "Pool.view", "Pool.track", "Pool.null"} <= stub_docstrings().keys()


@pytest.mark.parametrize("name", runtime_docstrings())
def test_stub_has_the_docstring_of_the_runtime(name: str) -> None:
    docstring = runtime_docstrings()[name]
    assert docstring
    assert stub_docstrings()[name] == docstring
