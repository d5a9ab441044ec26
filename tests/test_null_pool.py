"""A program that runs with a pool runs with the null pool: each program here runs on all of them.

A new option or a new member of ``Pool`` fails a test here until a program uses it.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import KIB, pattern, run_python

from bytepool import Pool, decay, default_pool, streams, tracking
from bytepool.blocking import read_file

if TYPE_CHECKING:
    from collections.abc import Callable

Make = type[Pool] | Any  # makes a pool from the arguments of Pool()

# A value for each option of the constructor that is not its default.
OPTIONS: dict[str, Any] = {
    "min_size": 512,
    "max_size": 64 * KIB,
    "max_buffers": 3,
    "name": "uploads",
    "track": "all",
    "max_idle_bytes": 100 * KIB,
    "max_bytes": 300 * KIB,
    "idle_timeout": 5.0,
    "zero": "allocate",
    "poison": True,
}
PROPERTIES = {name for name, member in vars(Pool).items() if inspect.isdatadescriptor(member)}
ARGUMENTS = [{name: value} for name, value in OPTIONS.items()]
ARGUMENTS += [{}, OPTIONS, {"zero": "release"}, {"track": "sampled"}, {"idle_timeout": None}]


@pytest.fixture(params=["Pool", "Pool.null", "BYTEPOOL=null"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    if request.param == "BYTEPOOL=null":
        monkeypatch.setenv("BYTEPOOL", "null")
    return Pool.null if request.param == "Pool.null" else Pool


def properties(pool: Pool) -> dict[str, Any]:
    return {name: getattr(pool, name) for name in PROPERTIES}


def test_every_option_is_covered() -> None:
    assert set(inspect.signature(Pool).parameters) == set(OPTIONS)
    assert inspect.signature(Pool.null) == inspect.signature(Pool)
    assert set(OPTIONS) | {"closed"} == PROPERTIES


def test_every_method_is_covered() -> None:
    methods = {name for name in vars(Pool) if name[0] != "_"} - PROPERTIES
    assert methods == {
        *("allocate", "allocate_async", "allocator", "view"),
        *("close", "decay", "null", "stats", "tracked", "trim"),
    }


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_properties_are_those_of_the_pool(make: Make, arguments: dict[str, Any]) -> None:
    expected = properties(Pool(**arguments)) | arguments
    assert properties(make(**arguments)) == expected
    with make(**arguments) as pool:
        pass
    assert properties(pool) == expected | {"closed": True}


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_repr_is_a_call_that_makes_such_a_pool(make: Make, arguments: dict[str, Any]) -> None:
    pool = make(**arguments)
    again = eval(repr(pool), {"Pool": Pool, "inf": float("inf")})
    assert repr(again) == repr(pool)
    # `repr` leaves tracking out.
    assert properties(again) | {"track": pool.track} == properties(pool)


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_size": 2, "max_size": 1},
        {"max_size": 2**40},
        {"max_buffers": -1},
        {"zero": "sometimes"},
        {"track": "some"},
        {"idle_timeout": -1.0},
        {"max_bytes": "many"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_wrong_arguments_raise_the_same_error(make: Make, arguments: dict[str, Any]) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011  (compared with another error)
        Pool(**arguments)
    with pytest.raises(expected.type) as raised:
        make(**arguments)
    assert str(raised.value) == str(expected.value)


# Programs: what they return must not depend on the kind of pool.


def requests(make: Make) -> object:
    pool = make(**OPTIONS)
    alloc = pool.allocator()
    sizes = [alloc.allocate(1000).nbytes, alloc.size, alloc.bytes().nbytes]
    alloc.release()
    with pool.allocate(pool.max_size) as alloc:
        sizes.append(alloc.size)
    sizes += [pool.view(n, timeout=1).nbytes for n in (0, 1, pool.min_size, pool.max_size + 1)]
    return sizes, pool.stats().outstanding, pool.stats().waits


def errors(make: Make) -> object:
    pool = make(max_size=4 * KIB, max_bytes=8 * KIB)
    held = [pool.view(4 * KIB) for _ in range(2)]
    alloc = pool.allocator()
    closed = make()
    closed.close()
    steps: list[Callable[[], object]] = [
        alloc.bytes,
        alloc.release,
        lambda: pool.view(4 * KIB),
        lambda: pool.view(4 * KIB, timeout=0.01),
        lambda: pool.view(1 << 30, timeout=None),
        lambda: pool.view(-1),
        lambda: pool.view(1 << 70),
        lambda: pool.view("1"),  # type: ignore[arg-type]
        lambda: closed.view(1),
        lambda: pool.trim(-1),
    ]
    raised = []
    for step in steps:
        with pytest.raises(Exception) as error:  # noqa: PT011  (compared with another error)
            step()
        raised.append((error.type, str(error.value)))
    return raised, len(held)


def frees_idle_memory(make: Make) -> object:
    pool = make(idle_timeout=0.02)
    pool.view(100)
    with decay.in_thread(pool):
        pass

    async def serve() -> None:
        with decay.in_loop(pool):
            await asyncio.sleep(0)

    asyncio.run(serve())
    pool.trim()
    pool.decay()
    stats = pool.stats()
    pool.close()
    return stats.idle_bytes, pool.closed


def waits_in_a_task(make: Make) -> object:
    async def serve() -> object:
        pool = make(max_size=4 * KIB, max_bytes=4 * KIB)
        held = pool.allocate(4 * KIB)
        task = asyncio.create_task(pool.allocate_async(4 * KIB))
        await asyncio.sleep(0)
        held.release()
        async with asyncio.timeout(10):
            alloc = await task
        return alloc.size, pool.stats().waits

    return asyncio.run(serve())


def waits_in_a_thread(make: Make) -> object:
    pool = make(max_size=4 * KIB, max_bytes=4 * KIB)
    held = pool.allocate(4 * KIB)
    sizes: list[int] = []
    thread = threading.Thread(target=lambda: sizes.append(len(pool.view(4 * KIB, timeout=10))))
    thread.start()
    held.release()
    thread.join()
    return sizes, pool.stats().outstanding


def tracks(make: Make) -> object:
    pool = make(track="all", name="tracked")
    view = pool.view(100)
    (record,) = pool.tracked()
    everywhere = record in tracking.tracked()
    pool.track = "off"
    del view
    return record.size, everywhere, pool.tracked(), pool.track


def refuses_messages_above_max_size(make: Make) -> object:
    """A server's own check, and the one that an argument of ``readview`` may state."""
    pool = make(max_size=64 * KIB)

    async def serve() -> list[int]:
        served: list[int] = []

        async def handle(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
            n = int.from_bytes(await reader.readexactly(4), "big")
            if n <= pool.max_size:
                view = await reader.readview(n)
                served.append(len(view))
            writer.close()

        server = await streams.start_server(handle, "127.0.0.1", 0, pool=pool)
        async with server:
            for n in (10, 64 * KIB, 64 * KIB + 1):
                address = server.sockets[0].getsockname()
                reader, writer = await streams.open_connection(*address, pool=pool)
                writer.write(n.to_bytes(4, "big"))
                writer.write(pattern(n) if n <= 64 * KIB else b"")
                assert await reader.read() == b""
                writer.close()
        return served

    return asyncio.run(serve())


def reads_files(make: Make) -> object:
    pool = make(max_size=4 * KIB)
    return bytes(read_file(__file__, pool)) == Path(__file__).read_bytes()


def keeps_secrets(make: Make) -> object:
    pool = make(zero="release")
    view = pool.view(100)
    view[:] = b"s" * 100
    del view
    return bytes(pool.view(100))


PROGRAMS = [
    requests,
    errors,
    frees_idle_memory,
    waits_in_a_task,
    waits_in_a_thread,
    tracks,
    refuses_messages_above_max_size,
    reads_files,
    keeps_secrets,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program_has_the_same_result_with_the_null_pool(
    program: Callable[[Make], object], make: Make
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BYTEPOOL", raising=False)
        expected = program(Pool)
    assert program(make) == expected


def test_default_pool_of_the_environment_reports_the_sizes() -> None:
    code = """
        import os
        os.environ["BYTEPOOL"] = "null"
        from bytepool import default_pool
        print(default_pool().max_size, default_pool().idle_timeout)
    """
    pool = default_pool()
    assert run_python(code) == f"{pool.max_size} {pool.idle_timeout}\n"


def test_prometheus_exports_the_null_pool(make: Make) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from bytepool import prometheus

    registry = CollectorRegistry()
    pool = make(name="uploads", max_bytes=1 << 20)
    prometheus.register(pool, registry=registry)
    pool.view(5000)
    text = generate_latest(registry).decode()
    assert 'bytepool_limit_bytes{limit="max_idle_bytes",pool="uploads"} 6.7108864e+07' in text
    assert 'bytepool_limit_bytes{limit="max_bytes",pool="uploads"} 1.048576e+06' in text
