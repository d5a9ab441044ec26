#!/usr/bin/env bash
# Runs the Python tests against the wheel in a folder, on each Python version named: wheel.sh FOLDER VERSION ...
# The wheel is installed in an environment of its own, which never sees the source package. As many versions as there
# are cores are tested at a time, and each line begins with the version.
set -euo pipefail
wheels=$1
shift

prepare() {
    python=$(bash scripts/cpython.sh "$1")
    env=target/wheel-env-$1
    if [ ! -e "$env/installed" ] || [ pyproject.toml -nt "$env/installed" ]; then
        rm -rf "$env"
        # Debian's own binaries come without pip.
        "$python" -m venv --without-pip "$env"
        .venv/bin/pip --python "$env/bin/python" install --quiet pip
        "$env/bin/pip" install --quiet --group test
        touch "$env/installed"
    fi
    "$env/bin/pip" install --quiet --force-reinstall --no-deps --no-index --find-links "$wheels" --only-binary bytepool bytepool
    rm -f "$env/passed"
}

run_tests() {
    env=target/wheel-env-$1
    {
        echo "$("$env/bin/python" -VV), $wheels"
        if "$env/bin/pytest" -p no:cacheprovider; then touch "$env/passed"; fi
    } 2>&1 | sed --unbuffered "s/^/$1  /"
}

for version in "$@"; do
    prepare "$version"
done
for version in "$@"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    run_tests "$version" &
done
wait
for version in "$@"; do
    [ -e "target/wheel-env-$version/passed" ] || failed="${failed:-} $version"
done
[ -z "${failed:-}" ] || {
    echo "failed on CPython$failed" >&2
    exit 1
}
