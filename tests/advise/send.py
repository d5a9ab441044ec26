"""Sends messages to a server: ``python send.py tcp|orders|http PORT LEAST MOST COUNT``.

The sizes are spread evenly over the powers of two between the least and the most. Several messages
are sent before their answers are read.
"""

from __future__ import annotations

import functools
import http.client
import json
import random
import socket
import sys
import zlib

AHEAD = 8  # messages without an answer
CONNECTIONS = 4


def sizes(least: int, most: int, count: int) -> list[int]:
    choose = random.Random(1)
    return [int(least * (most / least) ** choose.random()) for _ in range(count)]


@functools.cache
def order(number: int, size: int) -> tuple[bytes, int]:
    """Return an order as a line of about that many bytes, and its total."""
    items = [{"price": price, "count": 1 + price % 7} for price in range(1000, 1000 + size // 28)]
    line = json.dumps({"number": number, "items": items}).encode() + b"\n"
    return line, sum(item["price"] * item["count"] for item in items)


def tcp(port: int, content: memoryview, all_sizes: list[int]) -> None:
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for at, sock in enumerate(sockets):
        with sock, sock.makefile("rb") as answers:
            own = all_sizes[at::CONNECTIONS]
            for begin in range(0, len(own), AHEAD):
                batch = own[begin : begin + AHEAD]
                sock.sendall(
                    b"".join(part for n in batch for part in (n.to_bytes(4, "big"), content[:n]))
                )
                for size in batch:
                    assert int.from_bytes(answers.read(4), "big") == zlib.crc32(content[:size])


def orders(port: int, _content: memoryview, all_sizes: list[int]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as answers:
        for begin in range(0, len(all_sizes), AHEAD):
            batch = [order(*one) for one in enumerate(all_sizes[begin : begin + AHEAD])]
            sock.sendall(b"".join(line for line, _ in batch))
            for number, (_, total) in enumerate(batch):
                invoice = json.loads(answers.readline())
                assert (invoice["number"], invoice["total"]) == (number, total)


def upload(port: int, content: memoryview, all_sizes: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for size in all_sizes:
        connection.request("POST", "/", bytes(content[:size]))
        answer = connection.getresponse().read()
        assert answer == f"{zlib.crc32(content[:size]):08x}".encode()


if __name__ == "__main__":
    port, least, most, count = map(int, sys.argv[2:])
    content = memoryview(random.Random(2).randbytes(most))
    {"tcp": tcp, "orders": orders, "http": upload}[sys.argv[1]](
        port, content, sizes(least, most, count)
    )
