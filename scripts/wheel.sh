#!/usr/bin/env bash
# Runs the Python tests against the built wheel, on each Python version named.
# The wheel is installed in an environment of its own, which never sees the source package.
set -euo pipefail
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
    "$env/bin/pip" install --quiet --force-reinstall --no-deps target/wheels/bytepool-*-abi3-*.whl
    echo "== $("$env/bin/python" -VV), $(ls target/wheels)"
    "$env/bin/pytest" -p no:cacheprovider || failed+=("$version")
done
[ ${#failed[@]} = 0 ] || {
    echo "failed on CPython ${failed[*]}" >&2
    exit 1
}
