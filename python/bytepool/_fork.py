"""Clean-up in a forked child, in one hook: the threads of its parent are gone."""

from __future__ import annotations

import os

from bytepool import decay
from bytepool._bytepool import settle_after_fork


def _settle() -> None:
    settle_after_fork()
    decay._restart_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_settle)
