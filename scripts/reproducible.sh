#!/usr/bin/env bash
# Builds the wheel of this machine's architecture again, from a copy of the checkout elsewhere, and compares the bytes.
set -euo pipefail
target=$(rustc -vV | sed -n 's/^host: //p')
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
bash scripts/copy_checkout.sh "$copy"
bin=$PWD/.venv/bin dist=$PWD/target/dist
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
(cd "$copy" && PATH=$bin:$PATH CARGO_TARGET_DIR=$copy/target bash scripts/build_wheel.sh "$target" again)
for wheel in "$copy"/again/*.whl; do
    cmp "$wheel" "$dist/$(basename "$wheel")"
    echo "equal: $(basename "$wheel")"
done
