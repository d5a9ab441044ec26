"""How a view differs from a bytearray: the lists in docs/views.md are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import KINDS, new_pool

DOCUMENT = (Path(__file__).parents[1] / "docs" / "views.md").read_text()


@pytest.fixture(params=KINDS[:2])
def view(request: pytest.FixtureRequest) -> memoryview:
    view = new_pool(request.param).view(11)
    view[:] = b"hello world"
    return view


def test_every_method_that_a_view_lacks_is_named() -> None:
    missing = {name for name in vars(bytearray) if name[0] != "_"} - set(dir(memoryview))
    named = set(re.findall(r"`(\w+)`", DOCUMENT.partition("## Methods")[2].partition("\n## ")[0]))
    assert missing <= named, missing - named


def test_every_operator_that_a_view_lacks_is_named() -> None:
    special = {name for name in vars(bytearray) if name.startswith("__")} - set(dir(memoryview))
    # The others are Python's machinery, and not called by these names.
    machinery = {"__alloc__", "__reduce__", "__reduce_ex__", "__repr__", "__str__", "__init__"}
    operators = {
        "__add__": "`+`",
        "__iadd__": "`+=`",
        "__mul__": "`*`",
        "__imul__": "`*`",
        "__rmul__": "`*`",
        "__mod__": "`%`",
        "__rmod__": "`%`",
        "__contains__": "`in`",
    }
    assert special - machinery <= operators.keys(), special - machinery - operators.keys()
    for name in special & operators.keys():
        assert operators[name] in DOCUMENT, name


def test_in_is_never_true_for_bytes(view: memoryview) -> None:
    """The trap of the list: a bytearray searches, and a view compares the bytes one by one."""
    assert b"world" in bytes(view)
    assert b"world" not in view  # type: ignore[comparison-overlap]
    assert re.search(b"world", view)


def test_a_view_equals_bytes_and_bytearrays_of_its_content(view: memoryview) -> None:
    content: object = b"hello world"  # mypy does not know that they can be equal
    assert view == content
    assert bytearray(b"hello world") == view
    assert view[:5] != content
