"""Receives orders, one line of JSON each, and answers each with an invoice."""

import asyncio
import json
import sys


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        invoice = json.loads(line)
        for item in invoice["items"]:
            item["sum"] = item["price"] * item["count"]
        invoice["items"].sort(key=lambda item: item["sum"])
        invoice["total"] = sum(item["sum"] for item in invoice["items"])
        writer.write(json.dumps(invoice).encode() + b"\n")
        await writer.drain()
    writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(handle, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
