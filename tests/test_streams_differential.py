"""Any chunking and any reads give what asyncio's own reader gives.

``make prove-streams`` runs a million random plans of ``fuzz/streams.py``, which has cancellations,
errors and budgets too.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from streams_helpers import receive

from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import Callable

SEPARATORS: list[Any] = [b"ab", b"b", b"aab", b""]
if sys.version_info >= (3, 13):
    SEPARATORS += [(b"aab", b"b"), (b"\n", b"ab")]
READS = st.one_of(
    st.tuples(st.sampled_from(["readexactly", "readview", "readinto"]), st.integers(0, 200)),
    st.tuples(st.just("readexactly"), st.just(-1)),
    st.tuples(st.just("read"), st.integers(-1, 50)),
    st.tuples(st.sampled_from(["readline", "__anext__", "frame", "frame as bytes"]), st.none()),
    st.tuples(st.just("readuntil"), st.sampled_from(SEPARATORS)),
)
LIMIT = 100


async def transcript(
    reader: Any,
    put: Callable[[Any, bytes], None],
    chunks: list[bytes],
    reads: list[tuple[str, Any]],
) -> list[object]:
    """Return what each read gives or raises while the chunks arrive."""

    async def deliver() -> None:
        for chunk in chunks:
            put(reader, chunk)
            await asyncio.sleep(0)
        reader.feed_eof()

    delivery = asyncio.ensure_future(deliver())
    results: list[object] = []
    for name, argument in reads:
        try:
            results.append(await read(reader, name, argument))
        except (EOFError, asyncio.LimitOverrunError, ValueError, StopAsyncIteration) as error:
            partial = getattr(error, "partial", None)
            if partial and name in ("readview", "readinto", "frame"):
                partial = partial[: reader._limit]  # a rule of ours
            details = [getattr(error, detail, None) for detail in ("expected", "consumed")]
            results.append((type(error), str(error), partial, details))
    await delivery
    results += [await reader.read(), reader.at_eof(), reader.exception()]
    return results


async def read(reader: Any, name: str, argument: Any) -> Any:
    is_ours = isinstance(reader, streams.StreamReader)
    if name.startswith("frame"):
        if is_ours:
            frames = reader.frames(length_size=1, as_bytes=name == "frame as bytes")
            return bytes(await frames.__anext__())
        head = await reader.read(1)
        if not head:
            raise StopAsyncIteration
        try:
            return await reader.readexactly(head[0])
        except asyncio.IncompleteReadError as error:
            raise asyncio.IncompleteReadError(head + error.partial, 1 + head[0]) from None
    if name in ("readview", "readinto") and not is_ours:
        name = "readexactly"
    if name == "readinto":
        target = bytearray(argument)
        assert await reader.readinto(target) == argument
        return bytes(target)
    result = await getattr(reader, name)(*([] if argument is None else [argument]))
    return bytes(result)


def compare(
    chunks: list[bytes],
    reads: list[tuple[str, Any]],
    limit: int,
    put: Callable[[Any, bytes], None],
    **thresholds: int,
) -> None:
    pool = Pool(64, 4096, 2)

    async def main() -> None:
        ours, theirs = streams.StreamReader(limit, pool=pool), asyncio.StreamReader(limit)
        for name, value in thresholds.items():
            setattr(ours, name, value)
        expected = await transcript(theirs, asyncio.StreamReader.feed_data, chunks, reads)
        assert await transcript(ours, put, chunks, reads) == expected

    asyncio.run(main())
    assert pool.stats().outstanding == 0


@given(
    data=st.lists(st.sampled_from(b"ab\n"), max_size=600).map(bytes),
    cuts=st.lists(st.integers(1, 150), max_size=30),
    reads=st.lists(READS, max_size=30),
    ahead=st.sampled_from([1, 3, 64]),
    in_place=st.sampled_from([1, 20, 1 << 16]),
    put=st.sampled_from([receive, streams.StreamReader.feed_data]),
)
def test_any_chunking_and_any_reads_give_what_asyncio_gives(
    data: bytes,
    cuts: list[int],
    reads: list[tuple[str, Any]],
    ahead: int,
    in_place: int,
    put: Callable[[Any, bytes], None],
) -> None:
    chunks = []
    for cut in cuts:
        chunks.append(data[:cut])
        data = data[cut:]
    compare([*chunks, data], reads, LIMIT, put, _ahead=ahead, _in_place=in_place)


@given(
    sizes=st.lists(st.integers(0, 300_000), max_size=6),
    cuts=st.lists(st.integers(1, 400_000), max_size=6),
    name=st.sampled_from(["readexactly", "readview", "readinto", "read"]),
)
def test_large_messages_in_any_chunks_are_what_asyncio_gives(
    sizes: list[int], cuts: list[int], name: str
) -> None:
    """With the sizes at which the reader receives in place and changes its read-ahead."""
    chunks = [bytes([number]) * size for number, size in enumerate(cuts)]
    compare(chunks, [(name, size) for size in sizes], 1 << 16, receive)


def test_random_plans_show_no_difference_to_asyncio() -> None:
    """The short form of ``make prove-streams``, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "streams", "--random", "2000", "--processes", "1"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("streams: 2000 random inputs"), done.stdout
