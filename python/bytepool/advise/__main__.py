"""``python -m bytepool.advise``: check what it needs, and run the command."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command, or exit with a message that names what is missing."""
    if sys.platform != "linux":
        sys.exit(f"bytepool.advise needs Linux: it reads /proc (this system: {sys.platform})")
    # Not above: other systems lack modules that it imports.
    from bytepool.advise import command

    return command.main()


if __name__ == "__main__":
    sys.exit(main())
