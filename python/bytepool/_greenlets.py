"""An event that a greenlet of gevent waits for, while other greenlets of its thread run.

The extension uses this only in threads that have a hub of gevent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Event:
    """An event that any thread can send to a greenlet."""

    def __init__(self, hub: Any) -> None:
        from gevent.event import Event

        self._event = Event()
        # While it is active the hub does not take the wait for a deadlock.
        self._watcher = hub.loop.async_()
        self._watcher.start(self._event.set)
        self.send: Callable[[], object] = self._watcher.send

    def wait(self, seconds: float | None) -> None:
        """Wait for the event, at most so long. Raises what ends the greenlet."""
        self._event.clear()
        self._event.wait(seconds)

    def stop(self) -> None:
        """Wait no more."""
        self._watcher.stop()
