#!/bin/sh
# Runs the tests of the pool on any system: pool_tests.sh FOLDER, which has the wheel. They are installed into the
# environment of `python`. They need nothing of Linux, and only packages that every system has.
set -eu
python -m pip install --quiet hypothesis pytest pytest-timeout
python -m pip install --quiet --force-reinstall --no-deps --no-index --find-links "$1" bytepool
exec python -m pytest -p no:cacheprovider tests/test_pool.py tests/test_allocator.py tests/test_budget.py \
    tests/test_views.py
