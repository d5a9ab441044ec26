#!/usr/bin/env bash
# Runs the Python tests on a CPython without a GIL: as they are, and each in four threads at a time.
#
# FREETHREADED names the interpreter. Without it the script takes what scripts/cpython.sh finds or builds: 3.14, or
# else 3.13, which needs an older PyO3. Everything is in target/freethreaded and is made once.
set -euo pipefail
root=$PWD/target/freethreaded
mkdir -p "$root"

missing() {
    echo "missing: $1" >&2
    exit 1
}

python=${FREETHREADED:-$(bash scripts/cpython.sh 3.14t || bash scripts/cpython.sh 3.13t)}
"$python" -c 'import sys, sysconfig
sys.exit(not (sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info >= (3, 13)))' ||
    missing "a free-threaded CPython 3.13 or newer: $python is none"
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
