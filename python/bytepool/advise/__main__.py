"""``python -m bytepool.advise``: run the command."""

from __future__ import annotations

import sys

from bytepool.advise.command import main

if __name__ == "__main__":
    sys.exit(main())
