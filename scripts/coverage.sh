#!/usr/bin/env bash
# Line coverage of the crate (by its own tests and through Python) and of the Python package.
# The instrumented extension is installed on the side; .venv keeps the normal one.
set -euo pipefail
bin=.venv/bin
site=target/coverage/site

llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
rustup_tools=$(rustc --print target-libdir)/../bin
for tool in llvm-cov llvm-profdata; do
    found=$(command -v "$rustup_tools/$tool" "$tool-$llvm" "/usr/lib/llvm-$llvm/bin/$tool" | head -n 1 || true)
    if [ -z "$found" ]; then
        echo "missing: $tool $llvm (rustup component add llvm-tools, or Debian's llvm-$llvm)" >&2
        exit 1
    fi
    case $tool in llvm-cov) export LLVM_COV=$found ;; *) export LLVM_PROFDATA=$found ;; esac
done
[ -x target/tools/bin/cargo-llvm-cov ] || cargo install --locked --root target/tools cargo-llvm-cov
export PATH=$PWD/target/tools/bin:$PATH

export CARGO_TARGET_DIR=$PWD/target/coverage
variables=$(cargo llvm-cov show-env --sh)
eval "$variables"
cargo llvm-cov clean --workspace
cargo test --locked

rm -rf "$site"
"$bin/maturin" build --locked --quiet --out "$site"
"$bin/pip" install --quiet --no-deps --target "$site" "$site"/*.whl
export PYTHONPATH=$PWD/$site
"$bin/coverage" run -m pytest

cargo llvm-cov report --show-missing-lines
"$bin/coverage" report --show-missing
