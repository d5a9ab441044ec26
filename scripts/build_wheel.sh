#!/usr/bin/env bash
# Builds the abi3 wheel for one target with the maturin of the PATH: build_wheel.sh TARGET FOLDER
#
# The same sources, compiler and SOURCE_DATE_EPOCH give the same bytes, in whatever folder this runs.
set -euo pipefail
target=$1 folder=$2
case $target in
*-linux-gnu) options=(--zig --compatibility manylinux_2_17) ;;
*-linux-musl) options=(--zig --compatibility musllinux_1_2) ;;
*-apple-darwin) options=(--zig) ;;
*) options=() ;;
esac
# Panic messages name source files. They start with these words rather than with folders of this machine.
RUSTFLAGS="--remap-path-prefix=$PWD=bytepool --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
RUSTFLAGS+=" --remap-path-prefix=$(rustc --print sysroot)=rust"
case $target in
*-linux-gnu)
    # CPython can end a thread inside a call. libgcc_s then unwinds our frames, so they need its functions, and not the
    # ones of zig's own unwinder: the process would crash.
    RUSTFLAGS+=" -C link-arg=/usr/lib/${target%%-*}-linux-gnu/libgcc_s.so.1"
    ;;
esac
export RUSTFLAGS
if ! compgen -G "$(rustc --print target-libdir --target "$target")/libstd-*" >/dev/null; then
    # Cargo then compiles the standard library from its sources. The variable lets a stable compiler do that.
    export RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD="std panic_unwind"
fi
maturin build --quiet --release --locked --target "$target" "${options[@]}" --out "$folder"
for wheel in "$folder"/bytepool-*.whl; do
    python3 scripts/hide_folder.py "$PWD" "$wheel"
done
