#!/usr/bin/env bash
# Builds the abi3 wheel for one target: build_wheel.sh TARGET MATURIN FOLDER
#
# The same sources, compiler and SOURCE_DATE_EPOCH give the same bytes, in whatever folder this runs.
set -euo pipefail
target=$1 maturin=$2 folder=$3
options=()
case $target in
*-linux-gnu) options=(--zig --compatibility manylinux_2_17) ;;
*-linux-musl) options=(--zig --compatibility musllinux_1_2) ;;
esac
# Panic messages name source files. They start with these words rather than with folders of this machine.
RUSTFLAGS="--remap-path-prefix=$PWD=bytepool --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
RUSTFLAGS+=" --remap-path-prefix=$(rustc --print sysroot)=rust"
export RUSTFLAGS
"$maturin" build --quiet --release --locked --target "$target" "${options[@]}" --out "$folder"
