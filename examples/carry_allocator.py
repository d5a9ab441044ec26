"""A message that carries its allocator along: whoever is last with it releases the bytes.

Bytes that pass through several hands need one thing that says to whom they belong. Bind them to
what they mean, in an object of your own, and pass that around.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

import bytepool


@dataclass
class Message:
    """What was received, with the handle on its bytes."""

    sender: str
    alloc: bytepool.Allocator

    def finish(self) -> None:
        """For the last one who has it."""
        self.alloc.release()


def receive(pool: bytepool.Pool, inbox: queue.Queue[Message | None], count: int) -> None:
    """Stand in for a network: fill pooled memory, and hand it on."""
    for i in range(count):
        alloc = pool.allocate(100_000)
        alloc.bytes()[:] = bytes([i % 256]) * 100_000
        inbox.put(Message(f"client {i}", alloc))
    inbox.put(None)


def total(message: Message) -> int:
    """Use the bytes. The view lives in this function only, so the release is never deferred."""
    return sum(message.alloc.bytes()[::1000])


def work(inbox: queue.Queue[Message | None]) -> int:
    """Take messages until there are no more."""
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
print(f"hit rate {stats.hit_rate:.0%}, out now {stats.outstanding}, deferred {stats.deferred}")
