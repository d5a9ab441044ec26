"""The pool that is used wherever no ``pool=`` is given."""

from __future__ import annotations

from bytepool._bytepool import Pool

_pools: dict[str, Pool] = {}


def default_pool() -> Pool:
    """Return the process's own pool, which is used wherever ``pool=`` is not given.

    It is created by the first call, as ``Pool(name="default")``, and is the same pool for every
    caller and thread. Its ``stats()``, ``trim()``, ``track`` and ``tracked()`` work as for any pool.
    Closing it closes it for all its users. For other parameters create a pool of your own, and pass
    it as ``pool=``.
    """
    try:
        return _pools["default"]
    except KeyError:
        # If threads race, the first to store its pool wins.
        return _pools.setdefault("default", Pool(name="default"))
