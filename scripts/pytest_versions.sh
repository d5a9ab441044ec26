#!/usr/bin/env bash
# Runs the tests of the pytest plugin with the oldest pytest that it supports, and with each later major version.
set -euo pipefail
python=$PWD/.venv/bin/python
for version in 7.0.1 8.0.2 9.0.0; do
    site=target/pytest/$version
    if [ ! -e "$site/installed" ]; then
        rm -rf "$site"
        # The oldest pytest gets the oldest pluggy that it accepts.
        old=$([ "$version" = 7.0.1 ] && echo pluggy==1.0.0 || true)
        "$python" -m pip install --quiet --target "$site" "pytest==$version" $old
        touch "$site/installed"
    fi
    echo "== pytest $(PYTHONPATH=$site "$python" -c 'import pytest; print(pytest.__version__)')"
    PYTHONPATH=$site "$python" -m pytest -p no:cacheprovider tests/test_pytest_plugin.py
done
