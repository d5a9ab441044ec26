#!/usr/bin/env bash
# Runs a command in a Debian 13 that compiles for other systems: cross.sh COMMAND
#
# /venv there has maturin and zig. zig links against an old C library, so that a wheel runs on old systems too.
set -euo pipefail
exec bash scripts/debian.sh cross \
    "cargo python3-venv libstd-rust-dev:arm64 rust-src gcc-mingw-w64-x86-64-posix wine" "
    [ -e /venv ] || python3 -m venv /venv
    /venv/bin/pip install --quiet maturin ziglang
    # What every program for Windows begins and ends with. Debian has it only as sources.
    windows=/usr/lib/rustlib/x86_64-pc-windows-gnu/lib
    mkdir -p \$windows
    for object in rsbegin rsend; do
        [ -e \$windows/\$object.o ] || RUSTC_BOOTSTRAP=1 rustc --target x86_64-pc-windows-gnu --crate-type rlib \\
            --emit obj --out-dir \$windows /usr/lib/rustlib/src/rust/library/rtstartup/\$object.rs
    done
    export PATH=/venv/bin:\$PATH CARGO_TARGET_DIR=/target
    $1"
