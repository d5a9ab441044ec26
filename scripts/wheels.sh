#!/usr/bin/env bash
# Builds the wheels of the named targets in target/dist, and checks them: wheels.sh TARGET ...
#
# A target that this machine's compiler has no standard library for is built by the one of scripts/cross.sh.
set -euo pipefail
bin=$PWD/.venv/bin
out=$PWD/target/dist
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
mkdir -p "$out"
rm -f "$out"/*.whl

for target in "$@"; do
    echo "== $target"
    if compgen -G "$(rustc --print target-libdir --target "$target")/libstd-*" >/dev/null; then
        PATH=$bin:$PATH CARGO_TARGET_DIR=$PWD/target/dist-build bash scripts/build_wheel.sh "$target" "$out"
    else
        bash scripts/cross.sh "bash scripts/build_wheel.sh $target wheels"
        cp target/debian13/cross/bytepool/wheels/*.whl "$out/"
    fi
done

for wheel in "$out"/*.whl; do
    echo "== $(basename "$wheel")"
    case $wheel in
    *manylinux*)
        "$bin/auditwheel" show "$wheel" | tee "$out/audit"
        grep -q libgcc_s.so.1 "$out/audit" || {
            echo "an unwinder of its own in $wheel, see scripts/build_wheel.sh" >&2
            exit 1
        }
        rm "$out/audit"
        ;;
    *linux_*) "$bin/auditwheel" show "$wheel" ;;
    esac
    "$bin/abi3audit" --strict --summary "$wheel"
    "$bin/python" -m zipfile --list "$wheel" | grep '\.dist-info/sboms/.*\.cyclonedx\.json' || {
        echo "no bill of materials in $wheel" >&2
        exit 1
    }
done
"$bin/check-wheel-contents" "$out"/*.whl
"$bin/twine" check --strict "$out"/*.whl
(cd "$out" && sha256sum -- *.whl)
