"""Compare the pool with its alternatives on this machine: ``python -m bytepool.bench``.

The benchmarks need ``pip install 'bytepool[bench]'``.
"""
