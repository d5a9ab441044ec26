#!/usr/bin/env bash
# Builds a wheel from the source distribution without a network, and runs the tests that the distribution brings.
# The crates that it needs are fetched before, with `cargo vendor`.
set -euo pipefail
bin=$PWD/.venv/bin
work=$PWD/target/sdist
rm -rf "$work/source" "$work/wheels" "$work/env"
mkdir -p "$work/source"
tar --extract --file target/dist/bytepool-*.tar.gz --directory "$work/source" --strip-components 1
cd "$work/source"

mkdir .cargo
cargo vendor --locked >.cargo/config.toml
# An empty CARGO_HOME: nothing comes from crates that were fetched for other builds.
export CARGO_TARGET_DIR=$work/target CARGO_HOME=$work/cargo CARGO_NET_OFFLINE=true
# A process in a network namespace of its own has no network at all.
unshare --map-root-user --net env PATH="$bin:$PATH" "$bin/pip" wheel --quiet --no-index --no-deps --no-build-isolation \
    --wheel-dir "$work/wheels" .

cargo test --locked
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --upgrade pip # some versions of Python bring one that knows no --group
"$work/env/bin/pip" install --quiet --group test "$work"/wheels/*.whl
"$work/env/bin/pytest" -p no:cacheprovider "$@"
