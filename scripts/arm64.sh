#!/usr/bin/env bash
# Runs Python tests against the aarch64 wheel in the named folder, with Debian 13's arm64 Python under qemu: the named
# tests, or those of the pool and of the streams.
#
# The other tests start many processes, and qemu translates all of Python's code anew in each. Debian's packages are
# only unpacked. qemu is registered for the processes in here alone.
set -euo pipefail
wheels=$1
shift
if [ $# = 0 ]; then
    for name in allocator blocking budget budget_async evict hashing lease poison pool registry starlette stats \
        streams_bytes streams_frames streams_reader views zero; do
        set -- "$@" "tests/test_$name.py"
    done
fi
root=$PWD/target/debian13/arm64
site=/opt/site

missing() {
    echo "missing: $1" >&2
    exit 1
}

for tool in debootstrap qemu-aarch64-static; do
    command -v "$tool" >/dev/null || missing "$tool (Debian: apt install debootstrap qemu-user-static)"
done
mirror=$(bash scripts/debian_mirror.sh) || missing "a Debian, with its keyring"

if [ ! -e "$root/installed" ] || [ pyproject.toml -nt "$root/installed" ]; then
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,libpython3.13-testsuite trixie "$root" "$mirror" \
        >"$root.log" || missing "debootstrap failed, see $root.log"
    for package in "$root"/var/cache/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$root"
    done
    platforms=()
    for minor in 17 24 26 27 28 31 34; do
        platforms+=(--platform "manylinux_2_${minor}_aarch64")
    done
    .venv/bin/pip install --quiet --target "$root$site" --only-binary :all: --python-version 3.13 "${platforms[@]}" \
        --platform manylinux2014_aarch64 --group test
    touch "$root/installed"
fi
.venv/bin/pip install --quiet --target "$root$site" --upgrade --no-deps --no-index --find-links "$wheels" \
    --only-binary :all: --python-version 3.13 --platform manylinux_2_17_aarch64 bytepool

bash scripts/copy_checkout.sh "$root/bytepool"
mkdir -p "$root/mnt"

# The first bytes of an ELF file for aarch64, and which of them count.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
# Wherever qemu is, F makes the kernel open it now, outside of the new root.
rule=":qemu-aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):F"
unshare --user --map-root-user --mount --pid --fork --kill-child sh -ec '
    root=$1 rule=$2 site=$3
    shift 3
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t binfmt_misc binfmt_misc "$root/mnt"
    printf %s "$rule" >"$root/mnt/register"
    exec chroot "$root" /usr/bin/env --ignore-environment --chdir=/bytepool PATH=/usr/bin HOME=/root LANG=C.UTF-8 \
        PYTHONPATH="$site" PYTEST_ADDOPTS="${PYTEST_ADDOPTS-}" \
        python3 -m pytest -p no:cacheprovider --timeout 900 "$@"' sh "$root" "$rule" "$site" "$@"
