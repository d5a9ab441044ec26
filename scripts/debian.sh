#!/usr/bin/env bash
# Runs a command in a Debian 13: debian.sh FOLDER "PACKAGE ..." COMMAND
#
# The Debian is in target/debian13/FOLDER. It has the packages that were named so far, what they depend on, and no
# other. The command runs in /bytepool, a copy of the checkout without build results. A package of another
# architecture is named like libc6:arm64.
set -euo pipefail
folder=$1 packages=$2 command=$3
root=$PWD/target/debian13/$folder
log=$root.log
certificates=/etc/ssl/certs/ca-certificates.crt

missing() {
    echo "missing: $1" >&2
    exit 1
}

# Mounts are seen only by the started processes, and end with them. So do processes that were left running.
enter() {
    unshare --mount --pid --fork --kill-child sh -ec '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --rbind /sys "$root/sys"
        exec chroot "$root" "$@"' sh "$root" /usr/bin/env --ignore-environment "${variables[@]}" "$@"
}

[ "$(id -u)" = 0 ] || missing "the rights of root, which chroot needs"
command -v debootstrap >/dev/null || missing "debootstrap (Debian: apt install debootstrap)"
mirror=$(bash scripts/debian_mirror.sh) || missing "a Debian, with its keyring"

# pip and cargo reach their registries as they do here.
variables=(HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin DEBIAN_FRONTEND=noninteractive
    "SSL_CERT_FILE=$certificates" "PIP_CERT=$certificates" "CARGO_HTTP_CAINFO=$certificates")
for name in $(compgen -e | grep -E '^(CI|PYTEST_ADDOPTS|SOURCE_DATE_EPOCH|CARGO_BUILD_JOBS)$|_proxy$' || true) \
    $(compgen -e | grep -E '^(PIP_|CARGO_(HTTP|NET|REGISTRIES|REGISTRY|SOURCE)_)' || true); do
    case $name in PIP_CERT | PIP_FIND_LINKS | CARGO_HTTP_CAINFO) ;; *) variables+=("$name=${!name}") ;; esac
done

if [ ! -e "$root/made" ]; then
    echo "making a Debian 13 in $root, see $log" >&2
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase trixie "$root" "$mirror" >"$log" || missing "debootstrap failed, see $log"
    touch "$root/made"
fi
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"

for architecture in $(echo "$packages" | grep -o ':[a-z0-9]*' | tr -d : | sort -u || true); do
    enter dpkg --add-architecture "$architecture"
done
if ! grep -qxF "$packages" "$root/installed" 2>/dev/null; then
    {
        enter apt-get update
        # shellcheck disable=SC2086 # one argument for each package
        enter apt-get install --yes --no-install-recommends $packages
    } >>"$log" 2>&1 || missing "apt-get failed, see $log"
    echo "$packages" >>"$root/installed"
fi

# After the packages, because one of them writes this file anew.
mkdir -p "$root/etc/ssl/certs"
cp -L "$certificates" "$root$certificates"

bash scripts/copy_checkout.sh "$root/bytepool"
enter sh -ec "cd /bytepool; $command"
