"""Real servers from Debian's packages. Each runs on a free port and in a temporary folder."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from libraries.values import SIZES, value, write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "127.0.0.1"
LARGEST = 64 << 20  # of a message, in bytes; some servers allow 1 MiB unless told otherwise
# server: (program, Debian's package)
PACKAGES = {
    "redis": ("redis-server", "redis-server"),
    "nats": ("nats-server", "nats-server"),
    "nats-tls": ("nats-server", "nats-server"),
    "mysql": ("mariadbd", "mariadb-server"),
    "amqp": ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"),
}


def program(server: str) -> str:
    """Return the path of the program, or raise FileNotFoundError that names the package."""
    name, package = PACKAGES[server]
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise FileNotFoundError(f"missing: {name} (Debian: apt install {package})")
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block, and show what it printed if that fails."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **environment}
        )
        try:
            yield child
        except BaseException:
            output.seek(0)
            print(output.read().decode(errors="replace")[-3000:], file=sys.stderr)
            raise
        finally:
            child.terminate()
            child.wait(60)


def wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    """Block until the server accepts connections."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"{child.args!r} does not listen on port {port}")


@contextlib.contextmanager
def redis(folder: str) -> Iterator[int]:
    port = free_port()
    options = f"--port {port} --bind {HOST} --save --appendonly no --dir".split()
    with process(program("redis"), *options, folder) as child:
        wait_for(port, child)
        with socket.create_connection((HOST, port)) as sock, sock.makefile("rb") as answers:
            for size in SIZES:
                key = b"value:%d" % size
                sock.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key, size))
                sock.sendall(value(size) + b"\r\n")
                assert answers.readline() == b"+OK\r\n"
        yield port


@contextlib.contextmanager
def nats(folder: str, *, with_tls: bool = False) -> Iterator[int]:
    port = free_port()
    config = Path(folder, "nats.conf")
    text = f"listen: {HOST}:{port}\nmax_payload: {LARGEST}\n"
    if with_tls:
        certificate = write_certificate(folder)
        text += f"tls {{cert_file: '{certificate}', key_file: '{certificate}'}}\n"
    config.write_text(text)
    with process(program("nats"), "-c", str(config)) as child:
        wait_for(port, child)
        responder = [sys.executable, "-m", "libraries.responder", str(port)]
        responder += ["tls"] if with_tls else []
        with process(*responder, PYTHONPATH=str(Path(__file__).parents[1])):
            yield port


@contextlib.contextmanager
def mysql(folder: str) -> Iterator[int]:
    import pymysql

    port = free_port()
    user = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [
            *("mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal"),
            *(f"--datadir={folder}", *user),
        ],
        check=True,
        capture_output=True,
    )
    options = [f"--port={port}", f"--bind-address={HOST}", f"--datadir={folder}", *user]
    options += [f"--socket={folder}/socket", f"--max-allowed-packet={LARGEST}"]
    with process(program("mysql"), "--no-defaults", *options) as child:
        wait_for(port, child)
        with pymysql.connect(host=HOST, port=port, user="root") as connection:
            cursor = connection.cursor()
            cursor.execute("CREATE DATABASE bytes")
            cursor.execute("CREATE TABLE bytes.stored (size INT PRIMARY KEY, value LONGBLOB)")
            for size in SIZES:
                cursor.execute(
                    "INSERT INTO bytes.stored VALUES (%s, _binary %s)", (size, value(size))
                )
            connection.commit()
        yield port


@contextlib.contextmanager
def amqp(folder: str) -> Iterator[int]:
    port, epmd, node = free_port(), free_port(), free_port()
    config = Path(folder, "rabbitmq.conf")
    config.write_text(
        f"listeners.tcp.1 = {HOST}:{port}\nmax_message_size = {LARGEST}\n"
        "vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 1MB\n"
    )
    environment = {
        "HOME": folder,
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_EPMD_PORT": str(epmd),
        "ERL_MAX_PORTS": "4096",
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_DIST_PORT": str(node),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(Path(folder, "plugins")),
        "RABBITMQ_LOG_BASE": folder,
        "RABBITMQ_MNESIA_BASE": folder,
        "RABBITMQ_NODENAME": "bytepool@localhost",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    with (
        process("epmd", "-address", HOST, "-port", str(epmd)),
        process(program("amqp"), **environment) as child,
    ):
        wait_for(port, child)
        asyncio.run(_publish(port))
        yield port


async def _publish(port: int) -> None:
    import aio_pika

    async with (
        await aio_pika.connect(host=HOST, port=port) as connection,
        connection.channel() as channel,
    ):
        for size in SIZES:
            await channel.declare_queue(str(size))
            message = aio_pika.Message(value(size))
            await channel.default_exchange.publish(message, routing_key=str(size))


SERVERS: dict[str, Callable[[str], contextlib.AbstractContextManager[int]]] = {
    "redis": redis,
    "nats": nats,
    "nats-tls": functools.partial(nats, with_tls=True),
    "mysql": mysql,
    "amqp": amqp,
}


@contextlib.contextmanager
def serve(server: str) -> Iterator[int]:
    """Run a server that has the values, and yield its port.

    Raises FileNotFoundError, which names the package, if the server is not installed.
    """
    program(server)
    with tempfile.TemporaryDirectory() as folder, SERVERS[server](folder) as port:
        yield port
