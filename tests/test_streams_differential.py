"""Any chunking and any reads give what asyncio's own reader gives."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from streams_helpers import receive

from bytepool import Pool, streams

READS = st.one_of(
    st.tuples(st.just("readexactly"), st.integers(0, 200)),
    st.tuples(st.just("readview"), st.integers(0, 200)),
    st.tuples(st.just("readinto"), st.integers(0, 200)),
    st.tuples(st.just("read"), st.integers(0, 50)),
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("readuntil"), st.sampled_from([b"ab", b"b", b"aab"])),
)


@given(
    data=st.lists(st.sampled_from(b"ab\n"), max_size=600).map(bytes),
    cuts=st.lists(st.integers(1, 150), max_size=30),
    reads=st.lists(READS, max_size=30),
    ahead=st.sampled_from([1, 3, 64]),
)
def test_any_chunking_and_any_reads_give_what_asyncio_gives(
    data: bytes, cuts: list[int], reads: list[tuple[str, Any]], ahead: int
) -> None:
    pool = Pool(64, 4096, 2)

    async def transcript(reader: asyncio.StreamReader, put: Any) -> list[object]:
        async def deliver() -> None:
            rest = data
            for cut in cuts:
                put(reader, rest[:cut])
                rest = rest[cut:]
                await asyncio.sleep(0)
            put(reader, rest)
            reader.feed_eof()

        delivery = asyncio.ensure_future(deliver())
        results: list[object] = []
        for name, argument in reads:
            try:
                results.append(await read(reader, name, argument))
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                results.append((type(error), str(error), getattr(error, "partial", None)))
        await delivery
        results.append(await reader.read())
        return results

    async def read(reader: asyncio.StreamReader, name: str, argument: Any) -> bytes:
        if name == "readline":
            return await reader.readline()
        if isinstance(reader, streams.StreamReader) and name == "readview":
            return bytes(await reader.readview(argument))
        if isinstance(reader, streams.StreamReader) and name == "readinto":
            target = bytearray(argument)
            await reader.readinto(target)
            return bytes(target)
        if name.startswith("read") and name not in ("read", "readuntil"):
            name = "readexactly"
        return bytes(await getattr(reader, name)(argument))

    async def main() -> None:
        ours, theirs = streams.StreamReader(100, pool=pool), asyncio.StreamReader(100)
        ours._ahead = ahead
        expected = await transcript(theirs, asyncio.StreamReader.feed_data)
        assert await transcript(ours, receive) == expected

    asyncio.run(main())
    assert pool.stats().outstanding == 0
