"""Answers requests over a NATS server with values: ``python -m libraries.responder PORT``."""

from __future__ import annotations

import socket
import sys

from libraries.values import value

with (
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock,
    sock.makefile("rb") as lines,
):
    sock.sendall(b'CONNECT {"verbose": false}\r\nSUB value 1\r\n')
    while line := lines.readline():
        match line.split():
            case [b"PING"]:
                sock.sendall(b"PONG\r\n")
            case [b"MSG", b"value", _, reply, size]:
                content = value(int(lines.read(int(size) + 2)))
                sock.sendall(b"PUB %b %d\r\n%b\r\n" % (reply, len(content), content))
