"""Answers requests over a NATS server with values: ``python -m libraries.responder PORT [tls]``."""

from __future__ import annotations

import socket
import ssl
import sys

from libraries.values import value

sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if sys.argv[2:] == ["tls"]:
    while sock.recv(1) != b"\n":  # what the server says of itself comes before TLS
        pass
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = context.wrap_socket(sock)
with sock, sock.makefile("rb") as lines:
    sock.sendall(b'CONNECT {"verbose": false}\r\nSUB value 1\r\n')
    while line := lines.readline():
        match line.split():
            case [b"PING"]:
                sock.sendall(b"PONG\r\n")
            case [b"MSG", b"value", _, reply, size]:
                content = value(int(lines.read(int(size) + 2)))
                sock.sendall(b"PUB %b %d\r\n%b\r\n" % (reply, len(content), content))
