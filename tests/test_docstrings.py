"""Docstrings of the extension module: IDEs show those of the stub, ``help()`` those at runtime."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import (
    BuiltinFunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
)

import pytest

import bytepool
from bytepool import _bytepool

STUB = Path(bytepool.__file__).with_name("_bytepool.pyi")
PROPERTIES = (GetSetDescriptorType, MemberDescriptorType)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def stub_docstrings() -> dict[str, str | None]:
    """Return the docstrings of all public functions, classes and members in the stub."""
    found: dict[str, str | None] = {}
    for node in ast.parse(STUB.read_text()).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or is_private(node.name):
            continue
        found[node.name] = ast.get_docstring(node)
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if not isinstance(member, ast.FunctionDef) or is_private(member.name):
                continue
            if member.name != "__new__":  # the class describes it
                # A property's docstring stands at its getter, which comes before the setter.
                found.setdefault(f"{node.name}.{member.name}", ast.get_docstring(member))
    return found


def runtime_docstrings() -> dict[str, str | None]:
    """Return the same of the extension module, without methods that Python itself documents."""
    found: dict[str, str | None] = {}
    for name, value in vars(_bytepool).items():
        if not isinstance(value, (BuiltinFunctionType, type)) or is_private(name):
            continue
        found[name] = inspect.getdoc(value)
        for member, attribute in vars(value).items() if isinstance(value, type) else ():
            is_property = isinstance(attribute, PROPERTIES) and not member.endswith("__")
            is_method = isinstance(attribute, (MethodDescriptorType, staticmethod))
            if (is_property or is_method) and not is_private(member):
                found[f"{name}.{member}"] = inspect.getdoc(getattr(value, member))
    return found


def test_stub_and_runtime_document_the_same_names() -> None:
    assert stub_docstrings().keys() == runtime_docstrings().keys()
    assert {
        "live_pools",
        "Pool",
        "Pool.view",
        "Pool.track",
        "Pool.null",
    } <= stub_docstrings().keys()


@pytest.mark.parametrize("name", runtime_docstrings())
def test_stub_has_the_docstring_of_the_runtime(name: str) -> None:
    docstring = runtime_docstrings()[name]
    assert docstring
    assert stub_docstrings()[name] == docstring
