"""A file object over a memoryview reads as files do."""

from __future__ import annotations

import csv
import io
import shutil
from typing import Any

import pytest
from helpers import pattern

from bytepool._view_file import ViewFile


def test_a_file_reads_as_files_do() -> None:
    data = b"first,1\r\nsecond,2\n" + pattern(30_000) + b"\nend"
    ours: Any = ViewFile(memoryview(data))
    theirs = io.BytesIO(data)
    for file in (ours, theirs):
        file.seek(3)
    for call in (
        lambda file: file.read(5),
        lambda file: file.readline(),
        lambda file: file.readline(),
        lambda file: file.tell(),
        lambda file: file.seek(-30_000, io.SEEK_CUR) if file.tell() > 30_000 else file.seek(9),
        lambda file: file.readlines(),
        lambda file: file.seek(-3, io.SEEK_END),
        lambda file: file.read1(),
        lambda file: file.read(),
        lambda file: file.seek(10**6),
        lambda file: file.read(1),
        lambda file: file.seek(0),
        lambda file: (file.readinto(buffer := bytearray(10)), buffer),
        lambda file: file.read(None),
        lambda file: (file.readable(), file.seekable()),
    ):
        assert call(ours) == call(theirs)
    with pytest.raises(ValueError, match="negative"):
        ours.seek(-1)
    with pytest.raises(io.UnsupportedOperation):
        ours.write(b"x")
    ours.seek(0)
    copy = io.BytesIO()
    shutil.copyfileobj(ours, copy)
    assert copy.getvalue() == data
    lines = ViewFile(memoryview(b"a,1\r\nb,2\r\n"))
    assert [*csv.reader(io.TextIOWrapper(lines))] == [["a", "1"], ["b", "2"]]  # type: ignore[type-var]
    assert lines.closed
    with pytest.raises(ValueError, match="closed"):
        lines.read()
