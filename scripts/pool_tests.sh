#!/bin/sh
# Runs the tests of the pool on any system: pool_tests.sh FOLDER
#
# The wheel in the folder, and the packages that the tests need, are installed into the environment of `python`. The
# tests need nothing of Linux.
set -eu
python -m pip install --quiet hypothesis pytest pytest-timeout
python -m pip install --quiet --force-reinstall --no-deps --no-index --find-links "$1" bytepool
exec python -m pytest -p no:cacheprovider tests/test_pool.py tests/test_allocator.py tests/test_budget.py \
    tests/test_views.py
