"""The files of the core and of the extension use each other in one direction, and stay short."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
Module = tuple[str, ...]


def module_of(path: Path) -> Module:
    *folders, name = path.relative_to(SRC).with_suffix("").parts
    return (*folders,) if name in ("mod", "lib") else (*folders, name)


FILES = {module_of(path): path for path in SRC.rglob("*.rs") if path.name != "tests.rs"}


def leaves(tree: str) -> Iterator[str]:
    """Yield the paths of a `use` declaration: `a::{b, c::d}` has `a::b` and `a::c::d`."""
    before, brace, inside = tree.partition("{")
    if not brace:
        yield before
        return
    depth, item = 0, ""
    for char in inside.strip()[:-1] + ",":
        if char == "," and depth == 0:
            yield from (before + leaf for leaf in leaves(item.strip()))
            item = ""
        else:
            depth += (char == "{") - (char == "}")
            item += char


def resolve(path: str, module: Module) -> Module | None:
    """Return the file that `path` refers to in the code of `module`, if it is a file of ours."""
    names = re.split(r"\s*::\s*", path.strip())
    at = module
    if names[0] == "crate":
        at, names = (), names[1:]
    elif names[0] == "self":
        names = names[1:]
    elif names[0] == "super":
        while names and names[0] == "super":
            at, names = at[:-1], names[1:]
    elif (*module, names[0]) not in FILES:
        return None
    for name in names:
        if (*at, name.split(" ")[0]) not in FILES:
            break
        at = (*at, name)
    return at


def used_by(module: Module) -> set[Module]:
    """Return the other files that a file uses, outside of its unit tests."""
    code = re.sub(r"//.*|\bpub\([^)]*\)", "", FILES[module].read_text())
    code = re.split(r"#\[cfg\((?:all\()?test\b[^\n]*\]\s*mod \w+ \{", code)[0]
    # Inside of an inline module, `super` is the file itself.
    inline = re.search(r"^ *(?:#\[[^\n]*\]\n)*mod \w+ \{", code, re.MULTILINE)
    if inline:
        code = code[: inline.start()] + re.sub(r"\bsuper::", "self::", code[inline.start() :])
    declared = re.findall(r"\buse\s+([^;]+);", code)
    paths = {leaf for tree in declared for leaf in leaves(tree)}
    paths |= set(re.findall(r"\b\w+(?:::\w+)+", re.sub(r"\buse\s+[^;]+;", "", code)))
    return {used for path in paths if (used := resolve(path, module)) is not None} - {module}


def test_files_of_the_crate_use_each_other_in_one_direction() -> None:
    graph = {module: used_by(module) for module in FILES}
    assert sum(map(len, graph.values())) > 150, "the uses were not found"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = ["::".join(module) or "lib" for module in error.args[1]]
        pytest.fail(f"circle: {' <- '.join(circle)}")


@pytest.mark.parametrize("folder", ["src/python", "src/python/reader"])
def test_files_use_only_those_above_them_in_the_list_of_their_folder(folder: str) -> None:
    text = (ROOT / folder / "mod.rs").read_text()
    entries = re.findall(r"^//! ([\w:]+(?:, [\w:]+)*)  ", text, re.MULTILINE)
    listed = [tuple(name.split("::")) for entry in entries for name in entry.split(", ")]
    top = module_of(ROOT / folder / "mod.rs")
    files = {file[len(top) :] for file in FILES if file[: len(top)] == top and file != top}
    assert {name[:1] for name in listed} == {file[:1] for file in files}
    position = {name: index for index, name in enumerate(listed)}

    def place(file: Module) -> int:
        return position[file] if file in position else position[file[:1]]

    for file in files:
        for used in used_by((*top, *file)):
            if used[: len(top)] == top and used != top and used[len(top)] != file[0]:
                inner = used[len(top) :]
                assert place(inner) < place(file), f"{'::'.join(file)} uses {'::'.join(inner)}"


def test_no_file_is_longer_than_350_lines() -> None:
    """Stubs are excepted: an extension module has one."""
    for folder in ("src", "python", "tests", "scripts", "benches", "examples", "fuzz"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".rs", ".py", ".sh") and "target" not in path.parts:
                assert len(path.read_text().splitlines()) <= 350, path
