#!/usr/bin/env bash
# Runs the Python tests on a CPython without a GIL: as they are, and each in four threads at a time.
#
# FREETHREADED names the interpreter. Without it, it is one that is found, or one that is built, from Debian's
# sources: of 3.14, or where those are not to be had of 3.13, for which an older PyO3 has to do.
# Everything is in target/freethreaded, and what is there is not made again.
set -euo pipefail
root=$PWD/target/freethreaded
mkdir -p "$root"

missing() {
    echo "missing: $1" >&2
    exit 1
}

is_freethreaded() {
    "$1" -c 'import sys, sysconfig
sys.exit(not (sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info >= (3, 13)))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in python3.14t "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.14*t/bin/python \
        "$root"/python/bin/python3.14t "$root"/python/bin/python3.13t; do
        if command -v "$candidate" >/dev/null && is_freethreaded "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

# A suite of Debian that is not this machine's, without a change to this machine's apt.
fetch_source() { # package suite
    local mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg apt=$root/apt
    command -v apt-get >/dev/null || return 1
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$') || return 1
    [ -e "$keys" ] || return 1
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,parts}
    touch "$apt/status"
    echo "deb-src [signed-by=$keys] $mirror $2 main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<CONF
Dir::State "$apt/state";
Dir::State::Status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "$apt/parts";
Dir::Etc::PreferencesParts "$apt/parts";
APT::Sandbox::User "$(id -un)";
CONF
    APT_CONFIG=$apt/apt.conf apt-get -qq update &&
        (cd "$apt" && APT_CONFIG=$apt/apt.conf apt-get -qq source --download-only --tar-only "$1" >&2)
}

build_python() {
    local header headers=() source
    for header in openssl/ssl.h zlib.h ffi.h lzma.h bzlib.h; do
        echo "#include <$header>" | cc -E - >/dev/null 2>&1 || headers+=("$header")
    done
    [ ${#headers[@]} = 0 ] || missing "${headers[*]}, to build a CPython with (Debian: apt install \
libssl-dev zlib1g-dev libffi-dev liblzma-dev libbz2-dev)"
    if ! ls "$root"/apt/python3.*.orig.tar.xz >/dev/null 2>&1; then
        fetch_source python3.14 testing || fetch_source python3.13 trixie ||
            missing "a free-threaded CPython 3.14, or the means to build one, which are a Debian and its keyring. \
Name one: make test-freethreaded FREETHREADED=python3.14t"
    fi
    source=$root/source
    rm -rf "$source"
    mkdir "$source"
    tar -xf "$(ls "$root"/apt/python3.*.orig.tar.xz | sort -V | tail -n 1)" -C "$source" --strip-components 1
    echo "building a free-threaded CPython, which takes ten minutes on two cores; see $root/build.log" >&2
    (
        cd "$source"
        ./configure --quiet --disable-gil --disable-test-modules --prefix="$root/python"
        make --silent --jobs "$(nproc)"
        make --silent install
    ) >"$root/build.log" 2>&1
}

python=${FREETHREADED:-$(find_python)}
if [ -z "$python" ]; then
    build_python
    python=$(find_python)
fi
is_freethreaded "$python" || missing "a free-threaded CPython 3.14 or 3.13: $python is none"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
env=$root/env-$version
bin=$env/bin

if [ ! -e "$env/installed" ] || [ pyproject.toml -nt "$env/installed" ]; then
    rm -rf "$env"
    "$python" -m venv "$env"
    "$bin/pip" install --quiet --upgrade pip
    "$bin/pip" install --quiet maturin pytest-run-parallel
    if [ "$version" = 3.13 ]; then
        # cffi, and with it cryptography, which trustme needs, have never been there for it. Who has no
        # wheel any more had one.
        "$bin/python" - >"$root/requirements" <<'PY'
import tomllib
for requirement in tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["test"]:
    if requirement not in ("cffi", "trustme"):
        print(requirement)
PY
        "$bin/pip" install --quiet --prefer-binary --requirement "$root/requirements"
        .venv/bin/python -m trustme --quiet --dir "$env" --identities localhost
        cat >"$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/trustme.py" <<PY
class CA:
    """What the tests use of the real one, with a certificate that it made."""

    def issue_cert(self, *names):
        return self

    def configure_cert(self, context):
        context.load_cert_chain("$env/server.pem", "$env/server.key")

    def configure_trust(self, context):
        context.load_verify_locations("$env/client.pem")
PY
    else
        "$bin/pip" install --quiet --group test
    fi
    touch "$env/installed"
fi

crate=$PWD
if [ "$version" = 3.13 ]; then
    crate=$root/crate
    rm -rf "$crate"
    mkdir "$crate"
    tar -c --exclude=./target --exclude='./.*' --exclude='*.so' . | tar -x -C "$crate"
    sed -i 's/^\(pyo3[a-z-]* = { version = \)"[^"]*"/\1"0.28"/' "$crate/Cargo.toml"
    export CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS=fallback
fi
rm -rf "$root/wheels"
(cd "$crate" && CARGO_TARGET_DIR=$root/target "$bin/maturin" build --quiet --release --interpreter "$bin/python" \
    --out "$root/wheels")
"$bin/pip" install --quiet --force-reinstall --no-deps "$root"/wheels/*.whl

echo "== $("$bin/python" -VV), $(ls "$root/wheels")"
# Python says so with a warning, and switches the GIL on, if an extension does not promise to do without.
"$bin/python" -W error -c 'import sys, bytepool; assert not sys._is_gil_enabled()'
# Whatever the others promise.
export PYTHON_GIL=0
others=(
    # An older PyO3 than ours aborts there, on a CPython with a GIL as well.
    tests/test_budget_threads.py::test_daemon_thread_may_wait_while_the_interpreter_shuts_down
    # Its garbage collector runs at other times, and says aloud when it has no memory itself.
    tests/test_decay.py::test_garbage_collector_runs_decay_without_calls_to_the_pool
    tests/test_args.py::test_no_memory_for_a_message_raises_memory_error
    # Its allocator takes address space in advance.
    "tests/test_out_of_memory.py::test_memory_error_loses_no_buffer_and_the_pool_stays_usable[threads]"
    "tests/test_bench.py::test_fresh_memory_causes_page_faults_and_pooled_memory_does_not"
    # valgrind knows nothing of it.
    tests/test_memcheck.py
)
"$bin/pytest" -p no:cacheprovider -p no:run-parallel "${others[@]/#/--deselect=}" "$@"
# Without those that only start processes, or are busy with threads of their own for long.
others+=(tests/test_bench.py tests/test_examples.py tests/test_leaks.py tests/test_soak.py tests/test_out_of_memory.py \
    tests/test_stress.py)
"$bin/pytest" -p no:cacheprovider --parallel-threads=4 "${others[@]/#/--deselect=}" "$@"
