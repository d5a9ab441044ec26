"""A message object that holds its allocator. The last user of the message releases the bytes.

Use this if bytes pass through several functions or threads. Put the allocator and all facts about
the bytes into one object, and pass that object on.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

import bytepool


@dataclass
class Message:
    """A received message and the handle of its bytes."""

    sender: str
    alloc: bytepool.Allocator

    def finish(self) -> None:
        """Release the bytes. The last user of the message calls this."""
        self.alloc.release()


def receive(pool: bytepool.Pool, inbox: queue.Queue[Message | None], count: int) -> None:
    """Put ``count`` messages into the inbox, as a network server would."""
    for i in range(count):
        alloc = pool.allocate(100_000)
        alloc.bytes()[:] = bytes([i % 256]) * 100_000
        inbox.put(Message(f"client {i}", alloc))
    inbox.put(None)


def total(message: Message) -> int:
    """Use the bytes. No view leaves this function, so the release is never deferred."""
    return sum(message.alloc.bytes()[::1000])


def work(inbox: queue.Queue[Message | None]) -> int:
    """Handle messages until the end, and return the sum of their totals."""
    result = 0
    while (message := inbox.get()) is not None:
        result += total(message)
        message.finish()
    return result


pool = bytepool.Pool(max_buffers=8)
inbox: queue.Queue[Message | None] = queue.Queue(maxsize=4)
receiver = threading.Thread(target=receive, args=(pool, inbox, 500))
receiver.start()
print("total:", work(inbox))
receiver.join()
stats = pool.stats()
print(f"hit rate {stats.hit_rate:.0%}, in use {stats.outstanding}, deferred {stats.deferred}")
