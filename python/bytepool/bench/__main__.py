"""``python -m bytepool.bench``: check what it needs, and run the command."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command, or exit with a message that names what is missing."""
    if sys.platform != "linux":
        sys.exit(f"bytepool.bench needs Linux: it reads /proc (this system: {sys.platform})")
    missing = [name for name in ("matplotlib", "pyperf", "rich") if find_spec(name) is None]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; install them with: pip install 'bytepool[bench]'")
    from . import command

    command.main()


if __name__ == "__main__":
    main()
