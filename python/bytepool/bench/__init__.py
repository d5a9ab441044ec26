"""Measure the pool beside what it would replace, on this machine: ``python -m bytepool.bench``.

Needs the extra: ``pip install 'bytepool[bench]'``.
"""
