#!/usr/bin/env bash
# Runs the Python tests on a CPython without a GIL: once as they are, and once with each in four threads.
#
# FREETHREADED names the interpreter. Without it, scripts/cpython.sh finds or builds one: 3.14, or else 3.13, which
# needs an older PyO3. Everything is in target/freethreaded and is made once.
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

if [ ! -e "$env/installed" ] || [ pyproject.toml -nt "$env/installed" ] || [ "$0" -nt "$env/installed" ]; then
    rm -rf "$env"
    "$python" -m venv "$env"
    "$bin/pip" install --quiet --upgrade pip
    "$bin/pip" install --quiet maturin pytest-run-parallel
    if [ "$version" = 3.13 ]; then
        # cffi, gevent and memray never supported it, and trustme needs cffi through cryptography. Of the other packages,
        # old releases have wheels for it.
        "$bin/python" - >"$root/requirements" <<'PY'
import tomllib
for requirement in tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["test"]:
    if requirement not in ("cffi", "gevent", "memray", "trustme"):
        print(requirement)
PY
        # pip takes the newest pydantic, unless it may not build the part that is written in Rust.
        "$bin/pip" install --quiet --prefer-binary --only-binary=pydantic-core --requirement "$root/requirements"
        .venv/bin/python -m trustme --quiet --dir "$env" --identities localhost
        cat >"$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/trustme.py" <<PY
from pathlib import Path


class CA:
    """What the tests use of the real class, with a certificate that the real one made."""

    def issue_cert(self, *names):
        return self

    @property
    def private_key_and_cert_chain_pem(self):
        return self

    def write_to_path(self, path):
        Path(path).write_bytes(Path("$env/server.key").read_bytes() + Path("$env/server.pem").read_bytes())

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
# Python warns and enables the GIL if an extension does not declare that it works without.
"$bin/python" -W error -c 'import sys, bytepool; assert not sys._is_gil_enabled()'
# Keep the GIL disabled, whatever other extensions declare.
export PYTHON_GIL=0
others=(
    # The older PyO3 aborts in this test, with a GIL too.
    tests/test_budget_threads.py::test_daemon_thread_may_wait_while_the_interpreter_shuts_down
    # The garbage collector runs at other times, and prints a message if it has no memory for itself.
    tests/test_decay.py::test_garbage_collector_runs_decay_without_calls_to_the_pool
    tests/test_args.py::test_no_memory_for_a_message_raises_memory_error
    # mimalloc has Python's objects, and not the C library's malloc that the recipe is about. It also keeps more memory.
    "tests/test_docs.py::test_code_blocks_run[recipes.md]"
    tests/test_memory.py::test_size_classes_waste_at_most_a_quarter
    tests/test_memory.py::test_low_idle_cap_keeps_resident_memory_near_live_memory
    # It reserves address space in advance.
    "tests/test_out_of_memory.py::test_memory_error_loses_no_buffer_and_the_pool_stays_usable[threads]"
    "tests/test_bench.py::test_fresh_memory_causes_page_faults_and_pooled_memory_does_not"
    # Without a GIL, threads never wait for it.
    tests/test_stalls.py::test_other_threads_run_while_much_memory_is_freed
    tests/test_stalls.py::test_few_bytes_are_freed_without_letting_other_threads_run
    # valgrind does not know mimalloc.
    tests/test_memcheck.py
)
if [ "$version" = 3.13 ]; then
    others+=(tests/test_advise.py tests/test_advise_programs.py) # they need memray
fi
"$bin/pytest" -p no:cacheprovider -p no:run-parallel "${others[@]/#/--deselect=}" "$@"
# Leave out the tests that only start processes, and long tests that have threads of their own.
others+=(tests/test_advise.py tests/test_advise_programs.py tests/test_bench.py tests/test_clients.py \
    tests/test_examples.py tests/test_leaks.py tests/test_soak.py tests/test_soak_http.py \
    tests/test_out_of_memory.py tests/test_stress.py tests/test_zero_leftovers.py)
"$bin/pytest" -p no:cacheprovider --parallel-threads=4 "${others[@]/#/--deselect=}" "$@"
