#!/usr/bin/env bash
# Runs a command in a Debian 13 that compiles for other systems: cross.sh COMMAND
#
# /venv there has maturin and zig. zig links against an old C library, so that a wheel runs on old systems too.
set -euo pipefail
exec bash scripts/debian.sh cross \
    "cargo python3-venv libstd-rust-dev:arm64 rust-src gcc-mingw-w64-x86-64-posix wine" "
    [ -e /venv ] || python3 -m venv /venv
    /venv/bin/pip install --quiet maturin ziglang
    export PATH=/venv/bin:\$PATH CARGO_TARGET_DIR=/target
    $1"
