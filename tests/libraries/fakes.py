"""Servers in threads that speak just enough of a protocol to hand out ``value(size)``."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import struct
import threading
from typing import TYPE_CHECKING, BinaryIO

import pamqp.frame
from pamqp import base, body, commands, header

from libraries.values import server_context, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def serve(server: str) -> Iterator[int]:
    """Serve each connection in a thread, and yield the port."""
    handle = FAKES[server]
    upgrade = server_context() if server == "nats-tls" else None
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def run(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if upgrade:
                connection.sendall(info(tls_required=True))
                connection = upgrade.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as lines:
                handle(lines, connection.sendall)

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                connection = listener.accept()[0]
                connections.append(connection)
                threads.append(threading.Thread(target=run, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def redis(lines: BinaryIO, send: Callable[[bytes], object]) -> None:
    while count := lines.readline():
        command = []
        for _ in range(int(count[1:])):
            size = int(lines.readline()[1:])
            command.append(lines.read(size + 2)[:-2])
        if command[0] == b"GET":
            content = value(int(command[1].removeprefix(b"value:")))
            send(b"$%d\r\n%b\r\n" % (len(content), content))
        elif command[0] == b"HELLO":
            send(b"%1\r\n$5\r\nproto\r\n:3\r\n")
        else:
            send(b"+OK\r\n")


def info(**more: bool) -> bytes:
    return b"INFO %b\r\n" % json.dumps({"max_payload": 64 << 20, "headers": True, **more}).encode()


def nats(lines: BinaryIO, send: Callable[[bytes], object]) -> None:
    send(info())
    nats_after_info(lines, send)


def nats_after_info(lines: BinaryIO, send: Callable[[bytes], object]) -> None:
    subscription = b""
    while line := lines.readline():
        match line.split():
            case [b"PING"]:
                send(b"PONG\r\n")
            case [b"SUB", _, sid]:
                subscription = sid
            case [b"PUB", b"value", reply, size]:
                content = value(int(lines.read(int(size) + 2)))
                send(b"MSG %b %b %d\r\n" % (reply, subscription, len(content)))
                send(content + b"\r\n")


def mysql(lines: BinaryIO, send: Callable[[bytes], object]) -> None:
    number = itertools.count()

    def packet(content: bytes) -> bytes:
        return struct.pack("<I", len(content) | (next(number) % 256) << 24) + content

    def text(content: bytes) -> bytes:
        return b"\xfe%b%b" % (struct.pack("<Q", len(content)), content)

    def receive() -> bytes:
        nonlocal number
        head = lines.read(4)
        if len(head) < 4:
            return b""
        number = itertools.count(head[3] + 1)
        return lines.read(int.from_bytes(head[:3], "little"))

    # Long passwords, protocol 4.1, transactions, authentication by plugin.
    capabilities = 0x000B_A20F
    greeting = b"\x0a8.0.0\0" + struct.pack("<I8sx", 1, b"s" * 8)
    greeting += struct.pack("<HBHHB10x", capabilities & 0xFFFF, 45, 2, capabilities >> 16, 21)
    send(packet(greeting + b"s" * 12 + b"\0mysql_native_password\0"))
    receive()
    ok, end = bytes((0, 0, 0, 2, 0, 0, 0)), bytes((0xFE, 0, 0, 2, 0))
    send(packet(ok))
    while command := receive():
        if command[0] == 1:  # quit
            return
        found = re.search(rb"FROM bytes.stored WHERE size = (\d+)", command)
        if not found:
            send(packet(ok))
            continue
        column = b"".join(text(name) for name in (b"def", b"", b"", b"", b"value", b"value"))
        column += b"\x0c" + struct.pack("<HIBHB2x", 63, 1 << 24, 0xFC, 0x90, 0)
        row = text(value(int(found[1])))
        send(b"".join(map(packet, (b"\x01", column, end, row, end))))


def amqp(lines: BinaryIO, send: Callable[[bytes], object]) -> None:
    lines.read(8)  # the protocol's own header

    def reply(frame: base.Frame | header.ContentHeader | body.ContentBody, channel: int) -> None:
        send(pamqp.frame.marshal(frame, channel))

    reply(
        commands.Connection.Start(server_properties={"capabilities": {"publisher_confirms": True}}),
        0,
    )
    frame_max = 128 << 10
    while head := lines.read(7):
        rest = lines.read(int.from_bytes(head[3:], "big") + 1)
        _, channel, frame = pamqp.frame.unmarshal(head + rest)
        match frame:
            case commands.Connection.StartOk():
                reply(commands.Connection.Tune(16, frame_max, 0), 0)
            case commands.Connection.Open():
                reply(commands.Connection.OpenOk(), 0)
            case commands.Connection.Close():
                reply(commands.Connection.CloseOk(), 0)
            case commands.Channel.Open():
                reply(commands.Channel.OpenOk(), channel)
            case commands.Channel.Close():
                reply(commands.Channel.CloseOk(), channel)
            case commands.Confirm.Select():
                reply(commands.Confirm.SelectOk(), channel)
            case commands.Queue.Declare():
                reply(commands.Queue.DeclareOk(frame.queue, 1, 0), channel)
            case commands.Basic.Get():
                content = value(int(frame.queue))
                reply(commands.Basic.GetOk(1, False, "", frame.queue, 0), channel)
                properties = commands.Basic.Properties()
                reply(header.ContentHeader(0, len(content), properties), channel)
                for start in range(0, len(content), frame_max - 8):
                    part = content[start : start + frame_max - 8]
                    reply(body.ContentBody(part), channel)
            case _:
                pass


FAKES = {
    "redis": redis,
    "nats": nats,
    "nats-tls": nats_after_info,
    "mysql": mysql,
    "amqp": amqp,
}
