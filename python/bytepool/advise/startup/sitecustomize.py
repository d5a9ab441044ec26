"""Python imports this file when it starts, if ``bytepool.advise`` put its folder on PYTHONPATH.

It does one thing to the program, which ``BYTEPOOL_ADVISE`` names, and then steps aside. A child
process that runs Python does the same.
"""

import json
import os
import sys


def step_aside() -> None:
    """Import the ``sitecustomize`` that this one hides, from a path without this folder."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib is not loaded)
    sys.path[:] = [path for path in sys.path if path != here]
    own = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize as _  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = own


def apply(task: str, folder: str, packages: list[str]) -> None:
    """Do what the command asked for. ``packages`` are folders with bytepool and memray."""
    before = list(sys.path)
    sys.path += packages
    from bytepool.advise import inside

    getattr(inside, task)(folder)
    sys.path[:] = before


step_aside()
request: str | None = os.environ.get("BYTEPOOL_ADVISE")
if request:
    apply(**json.loads(request))
