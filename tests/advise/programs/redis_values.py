"""Reads large values from Redis, and prints what they add up to."""

import asyncio
import sys
import zlib

import redis.asyncio


async def main(port: int, count: int) -> None:
    async with redis.asyncio.Redis(host="127.0.0.1", port=port) as client:
        total = 0
        for _ in range(count):
            total += zlib.crc32(await client.get("value:10000000"))
        print(total)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
