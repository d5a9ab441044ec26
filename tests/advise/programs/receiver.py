"""Receives messages in threads, one for each connection, and answers with their checksums."""

import socket
import sys
import threading
import zlib


def receive(connection: socket.socket, size: int) -> bytearray:
    message = bytearray(size)
    filled = 0
    with memoryview(message) as view:
        while filled < size:
            got = connection.recv_into(view[filled:])
            if not got:
                raise EOFError
            filled += got
    return message


def serve(connection: socket.socket) -> None:
    with connection:
        try:
            while True:
                size = int.from_bytes(receive(connection, 4), "big")
                connection.sendall(zlib.crc32(receive(connection, size)).to_bytes(4, "big"))
        except EOFError:
            pass


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
