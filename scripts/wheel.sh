#!/usr/bin/env bash
# Runs the Python tests against the wheel in a folder, on each Python version named: wheel.sh FOLDER VERSION ...
# The wheel is installed in an environment of its own, which never sees the source package.
set -euo pipefail
wheels=$1
shift
failed=()

for version in "$@"; do
    python=$(bash scripts/cpython.sh "$version")
    env=target/wheel-env-$version
    if [ ! -e "$env/installed" ] || [ pyproject.toml -nt "$env/installed" ]; then
        rm -rf "$env"
        # Debian's own binaries come without pip.
        "$python" -m venv --without-pip "$env"
        .venv/bin/pip --python "$env/bin/python" install --quiet pip
        "$env/bin/pip" install --quiet --group test
        touch "$env/installed"
    fi
    "$env/bin/pip" install --quiet --force-reinstall --no-deps --no-index --find-links "$wheels" --only-binary bytepool bytepool
    echo "== $("$env/bin/python" -VV), $wheels"
    "$env/bin/pytest" -p no:cacheprovider || failed+=("$version")
done
[ ${#failed[@]} = 0 ] || {
    echo "failed on CPython ${failed[*]}" >&2
    exit 1
}
