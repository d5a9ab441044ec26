"""The pool that is used wherever no ``pool=`` is given."""

from __future__ import annotations

from bytepool._bytepool import Pool

_pools: dict[str, Pool] = {}


def default_pool() -> Pool:
    """Return the process's own pool, which is used wherever ``pool=`` is not given.

    The first call creates it as ``Pool(name="default")``. Every caller and every thread gets the
    same pool. Its ``stats()``, ``trim()``, ``track`` and ``tracked()`` work as for any pool.
    Closing it closes it for all its users. If you need other parameters, create a pool of your own
    and pass it as ``pool=``.
    """
    try:
        return _pools["default"]
    except KeyError:
        # If threads race, the first to store its pool wins.
        return _pools.setdefault("default", Pool(name="default"))
