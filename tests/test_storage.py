"""The memory of buffers: where it begins, and that freeing it leaves the process able to work."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import tempfile
from pathlib import Path

import pytest
from helpers import KIB, MIB, run_python

from bytepool import Pool


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@pytest.mark.parametrize("source", ["pooled", "transient", "null"])
@pytest.mark.parametrize(
    "n", [100, 4095, 4 * KIB, 5000, 8 * KIB, 20_000, 32 * KIB, 64 * KIB, MIB, 20 * MIB]
)
def test_views_begin_at_a_page_from_4_kib_on(source: str, n: int) -> None:
    align = 64 if n < 4 * KIB else 4096
    pool = {
        "pooled": Pool(64, 32 * MIB),
        "transient": Pool(16, 16),
        "null": Pool.null(),
    }[source]
    views = [pool.view(n) for _ in range(5)]
    assert [address(view) % align for view in views] == [0] * 5
    assert {bytes(view[-100:]) for view in views} == {bytes(100)}


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no direct file access")
@pytest.mark.parametrize("n", [4 * KIB, 8 * KIB, 32 * KIB, MIB])
def test_views_serve_direct_file_access(n: int) -> None:
    with tempfile.NamedTemporaryFile(dir=Path(__file__).parent) as file:
        file.write(b"x" * n)
        file.flush()
        try:
            direct = os.open(file.name, os.O_RDONLY | os.O_DIRECT)
        except OSError:
            pytest.skip("the file system has no direct access")
        try:
            for pool in (Pool(), Pool(16, 16), Pool.null()):
                views = [pool.view(n) for _ in range(3)]
                for view in views:
                    assert os.preadv(direct, [view], 0) == n
                    assert view == b"x" * n
        finally:
            os.close(direct)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("size", [64 << 10, 256 << 10])
def test_pools_of_a_process_leave_mappings_for_the_rest_of_it(size: int) -> None:
    """The system allows 65,530 mappings, and merges neighbours until one between them is freed.

    So the first 30,000 large buffers are mappings, and further ones come from the allocator, which
    would map those of 128 KiB and more at first.
    """
    code = """
        size = SIZE
        import ctypes, threading
        from bytepool import Pool

        def mappings():
            with open("/proc/self/maps") as maps:
                return list(maps)

        def on_the_heap(view):
            address = ctypes.addressof(ctypes.c_char.from_buffer(view))
            for line in mappings():
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                if begin <= address < end:
                    return "[heap]" in line

        pools = [Pool(max_idle_bytes=0) for _ in range(2)]
        for _ in range(2):
            views = [pools[i % 2].view(size) for i in range(31_000)]
            assert not on_the_heap(views[0])
            assert not on_the_heap(views[29_990])
            assert on_the_heap(views[30_000])
            assert on_the_heap(views[-1])
            del views[::2]
            assert len(mappings()) < 16_000
            thread = threading.Thread(target=pools[0].view, args=(size,))
            thread.start()
            thread.join()
            assert not on_the_heap(pools[0].view(size))  # as there are few again
            views.clear()
            assert len(mappings()) < 1000
        print("end")
    """
    assert run_python(code.replace("SIZE", str(size))) == "end\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc for its memory back")
def test_memory_beyond_the_mappings_returns_to_the_system_when_it_is_freed() -> None:
    """The allocator alone keeps all that is below a small block in use."""
    code = """
        from pathlib import Path
        from bytepool import Pool

        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        def further():
            views = [pool.view(64 << 10) for _ in range(5_000)]
            for view in views:
                view[::4096] = bytes(16)
            small.extend(bytes(600) for _ in range(1000))
            assert resident() - before > 300 << 20
            return views

        def fail():
            raise KeyError("kept")

        pool = Pool(max_idle_bytes=0)
        mapped = [pool.view(64 << 10) for _ in range(30_000)]
        small = []
        before = resident()
        views = further()
        del views[::2]
        views.clear()
        assert resident() - before < 80 << 20
        try:
            [further(), fail()]  # the list is freed while the exception is on its way
        except KeyError as error:
            assert error.args == ("kept",)
        assert resident() - before < 80 << 20
    """
    assert run_python(code) == ""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="counts the calls of glibc")
# Half of it, or 64 MiB. Each buffer has a page more than its 64 KiB.
@pytest.mark.parametrize(("in_use", "freed"), [(4000, 2000), (1500, 964)])
def test_memory_beyond_the_mappings_returns_when_as_much_was_freed_as_is_in_use(
    in_use: int, freed: int
) -> None:
    """To return memory takes long, so it happens rarely."""
    code = """
        import ctypes
        from bytepool import Pool

        calls = []

        class CDLL:
            def __init__(self, name):
                pass

            def malloc_trim(self, pad):
                calls.append(pad)

        ctypes.CDLL = CDLL
        pool = Pool(max_idle_bytes=0)
        mapped = [pool.view(64 << 10) for _ in range(30_000)]
        views = [pool.view(64 << 10) for _ in range(IN_USE)]
        while not calls:
            views.pop()
        print(IN_USE - len(views))
    """
    assert run_python(code.replace("IN_USE", str(in_use))) == f"{freed}\n"


def huge_pages_are_asked_for(position: int) -> bool:
    """Whether the kernel was asked for huge pages at this address."""
    here = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, flags = line.partition(" ")
        if not first.endswith(":"):
            begin, end = (int(bound, 16) for bound in first.split("-"))
            here = begin <= position < end
        elif here and first == "VmFlags:":
            return "hg" in flags.split()
    raise AssertionError(f"no mapping at {position:#x}")


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this system has no huge pages"
)
def test_huge_pages_are_asked_for_where_a_request_fills_half_of_them() -> None:
    pool = Pool(6 * MIB, 8 * MIB)
    others = [Pool(3 * MIB, 3 * MIB).view(3 * MIB) for _ in range(8)]
    for start in map(address, others):
        assert start % (2 * MIB) == 0
        asked = [huge_pages_are_asked_for(start + offset * MIB - 1) for offset in (1, 2, 3)]
        assert asked == [True, True, False]
    for n, expected in [
        (1, [False, False, False]),
        (MIB - 1, [False, False, False]),
        (MIB, [True, False, False]),
        (5 * MIB - 1, [True, True, False]),
        (8 * MIB, [True, True, True]),
    ]:
        start = address(pool.view(n))
        assert not any(expected) or start % (2 * MIB) == 0, "or there would be no huge page"
        asked = [huge_pages_are_asked_for(start + offset * MIB) for offset in (0, 2, 4)]
        assert asked == expected, n
        pool.trim()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="fills the heap of glibc")
def test_free_memory_of_the_heap_is_lent_when_other_code_has_used_up_the_mappings() -> None:
    code = """
        import mmap
        from pathlib import Path
        from bytepool import Pool

        LIMIT = int(Path("/proc/sys/vm/max_map_count").read_text())
        pool, null = Pool(), Pool.null()
        heap = [null.view(100_000) for _ in range(40)]
        others = [None] * (LIMIT if LIMIT < 200_000 else 0)
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        try:
            for i in range(len(others)):
                # Neighbours with the same access would be one mapping.
                access = mmap.PROT_READ | (i % 2 and mmap.PROT_WRITE)
                others[i] = mmap.mmap(-1, 4096, flags=private, prot=access)
        except OSError:
            pass
        else:
            assert not others
        del heap[:20]  # what is free below a block in use stays in the process
        views = [pool.view(64 << 10) for _ in range(10)]
        for view in views:
            view[:] = b"x" * (64 << 10)
        print("end")
    """
    assert run_python(code) == "end\n"
