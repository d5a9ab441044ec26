"""Pooled memory is writable, so nothing that shows it has a hash, as with ``bytearray``."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Hashable
from typing import TYPE_CHECKING

import pytest
from conftest import KINDS, new_pool

from bytepool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

VIEWS: dict[str, Callable[[Pool], memoryview]] = {
    "view": lambda pool: pool.view(4),
    "bytes of a handle": lambda pool: pool.allocate(4).bytes(),
    "slice": lambda pool: pool.view(8)[2:6],
    "cast": lambda pool: pool.view(4).cast("b"),
    "view of a view": lambda pool: memoryview(pool.view(4)),
    "transient": lambda pool: pool.view(1 << 16),
    "no bytes": lambda pool: pool.view(0),
}


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_read_only_view_has_no_hash(kind: str, view: Callable[[Pool], memoryview]) -> None:
    pool = new_pool(kind)
    for _ in range(2):  # a reused buffer as well
        read_only = view(pool).toreadonly()
        with pytest.raises(TypeError, match=r"unhashable type: 'bytepool\._bytepool\.Lease'"):
            hash(read_only)
        with pytest.raises(TypeError, match="unhashable"):
            {read_only: 1}  # noqa: B018
        del read_only
    assert pool.stats().outstanding == 0


def test_the_exporter_says_that_it_has_no_hash() -> None:
    lease = Pool().view(4).obj
    assert not isinstance(lease, Hashable)
    with pytest.raises(TypeError, match="unhashable type"):
        hash(lease)
    assert isinstance(bytes(4), Hashable)  # the same as for a type of Python
    assert not isinstance(bytearray(4), Hashable)


def test_views_work_where_objects_are_compared_by_identity() -> None:
    pool = Pool(track="all")
    view = pool.view(4)
    gone = weakref.ref(view)
    (record,) = pool.tracked()
    assert {record: 1}[record] == 1
    assert record.holders()
    cycle = [view]
    cycle.append(cycle)  # type: ignore[arg-type]
    del view, cycle
    gc.collect()
    assert gone() is None
    assert pool.stats().outstanding == 0
