#!/usr/bin/env bash
# Runs the Python tests against the built wheel, on each Python version named.
# The wheel is installed in an environment of its own, which never sees the source package.
set -euo pipefail

find_python() {
    local python="python$1"
    if ! "$python" -c '' 2>/dev/null; then
        # pyenv keeps versions that are not switched on: the newest of this series.
        python=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null | sort -V | tail -n 1)
    fi
    if [ -z "$python" ]; then
        echo "missing: python$1, on the PATH or under pyenv" >&2
        return 1
    fi
    echo "$python"
}

for version in "$@"; do
    python=$(find_python "$version")
    env=target/wheel-env-$version
    if [ ! -e "$env/installed" ] || [ pyproject.toml -nt "$env/installed" ]; then
        "$python" -m venv "$env"
        "$env/bin/pip" install --quiet --upgrade pip
        "$env/bin/pip" install --quiet --group test
        touch "$env/installed"
    fi
    "$env/bin/pip" install --quiet --force-reinstall --no-deps target/wheels/bytepool-*-abi3-*.whl
    echo "== $("$env/bin/python" -VV), $(ls target/wheels)"
    "$env/bin/pytest" -p no:cacheprovider
done
