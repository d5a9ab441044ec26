"""Measure your own program, and learn whether a pool helps it: ``python -m bytepool.advise``.

The command runs the program several times, as it is and with each remedy, and ends with a verdict.
Tracing allocations needs ``pip install 'bytepool[advise]'``; without it the command says what it
left out. ``review(stats)`` judges a pool of a live server by its counters.
"""

from bytepool.advise.rules import review

__all__ = ["review"]
