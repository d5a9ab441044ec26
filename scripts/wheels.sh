#!/usr/bin/env bash
# Builds the wheels of the named targets in target/dist, and checks them: wheels.sh TARGET ...
#
# A target whose standard library this machine's compiler does not have is built in a Debian 13, which has more of them.
set -euo pipefail
bin=.venv/bin
out=$PWD/target/dist
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -f "$out"/*.whl
mkdir -p "$out"

# Debian's packages for a target, besides the compiler.
debian_packages() {
    case $1 in
    aarch64-unknown-linux-gnu) echo libstd-rust-dev:arm64 ;;
    x86_64-pc-windows-gnu) echo libstd-rust-dev-windows gcc-mingw-w64-x86-64-posix ;;
    *)
        echo "missing: the standard library for $1 (rustup target add $1); Debian has none" >&2
        return 1
        ;;
    esac
}

for target in "$@"; do
    echo "== $target"
    if [ -e "$(rustc --print target-libdir --target "$target")" ]; then
        PATH=$PWD/$bin:$PATH CARGO_TARGET_DIR=$PWD/target/dist-build bash scripts/build_wheel.sh "$target" maturin "$out"
    else
        packages=$(debian_packages "$target")
        bash scripts/debian.sh cross "cargo python3-venv $packages" "
            [ -e /venv ] || python3 -m venv /venv
            /venv/bin/pip install --quiet maturin ziglang
            PATH=/venv/bin:\$PATH CARGO_TARGET_DIR=/target bash scripts/build_wheel.sh $target maturin wheels"
        cp "target/debian13/cross/bytepool/wheels"/*.whl "$out/"
    fi
done

for wheel in "$out"/*.whl; do
    case $wheel in *linux_*) "$bin/auditwheel" show "$wheel" ;; esac
    "$bin/abi3audit" --strict --summary "$wheel"
    "$bin/python" -m zipfile --list "$wheel" | grep -q '\.dist-info/sboms/.*\.cyclonedx\.json' || {
        echo "no bill of materials in $wheel" >&2
        exit 1
    }
done
"$bin/twine" check --strict "$out"/*.whl
"$bin/check-wheel-contents" "$out"/*.whl
(cd "$out" && sha256sum -- *.whl)
