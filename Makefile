# Each target does all its own set-up, in .venv and target/. It needs Rust and Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
# Tools show progress on a terminal, and only warnings and errors in a log.
QUIET := $(if $(MAKE_TERMOUT),,--quiet)
# Tests of the core, without the extension, so that linking needs no Python.
CORE := cargo test --locked
# Tests that repeat their steps up to 10^8 times.
LONG_TESTS := BYTEPOOL_TEST_LONG=1 $(BIN)/pytest -p no:cacheprovider
# loom replaces every lock and atomic, so it needs a separate build. Without link-time optimisation it builds faster.
LOOM := RUSTFLAGS="--cfg loom" $(CORE) --release --config profile.release.lto=false \
	--target-dir target/loom --test loom

.PHONY: help
help: ## list all targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 19

.PHONY: demo
demo: build ## send real files to a server, with asyncio's streams and with ours, and check every byte
	$(BIN)/python examples/demo

.PHONY: demo-http
demo-http: build ## upload real files to uvicorn, as it is and with our protocol, and check every byte
	$(BIN)/python examples/demo_http.py

.PHONY: test
test: build ## run all tests, and short versions of the long checks
	$(CORE)
	$(LOOM) -- --nocapture
	$(BIN)/pytest

.PHONY: lint
lint: build needs-c++ ## check formatting, run clippy, ruff, mypy and stubtest, and build the docs site
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo clippy --locked --all-targets --features python -- --deny warnings
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- --deny warnings
	cargo fmt --check --manifest-path benches/allocators/Cargo.toml
	cargo clippy --locked --benches --manifest-path benches/allocators/Cargo.toml --target-dir target/allocators \
		-- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps $(QUIET)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/stubtest --mypy-config-file pyproject.toml --allowlist scripts/stubtest_allowlist bytepool
	$(BIN)/zensical build --clean --strict
	$(BIN)/zizmor --offline --quiet .github

.PHONY: docs
docs: .venv/installed ## build the docs site in target/docs; a warning or a broken link is an error
	$(BIN)/zensical build --clean --strict

.PHONY: prove
prove: build ## try every interleaving of two threads, and tens of thousands of random sequences
	PROPTEST_CASES=20000 $(CORE) --release --test model --test ledger
	LOOM_EXHAUSTIVE=1 $(LOOM) -- --nocapture
	$(BIN)/pytest --hypothesis-profile=long --timeout=3600 tests/test_model.py

# Random plans that make prove-streams runs.
PLANS ?= 1000000

.PHONY: prove-streams
prove-streams: build ## compare the stream reader with asyncio's own, in a million random plans
	$(BIN)/python -m fuzz streams --random $(PLANS)

.PHONY: stress
stress: build ## run 10^8 operations on all cores in Rust, and 10^8 calls from Python threads
	STRESS_OPERATIONS=100000000 $(CORE) --release --test stress -- --nocapture
	$(LONG_TESTS) tests/test_stress.py

.PHONY: leaks
leaks: build ## make a million of each public call, and check that no memory is lost
	$(LONG_TESTS) tests/test_leaks.py

.PHONY: forks
forks: build ## fork a thousand times during other threads' calls, and test exits, signals and subprocesses
	$(LONG_TESTS) tests/test_process.py

.PHONY: memcheck
memcheck: build ## run the Rust tests and many Python tests under valgrind
	$(BIN)/python scripts/memcheck.py

.PHONY: test-freethreaded
test-freethreaded: build ## run the Python tests on a CPython without a GIL, which is built if missing
	FREETHREADED=$(FREETHREADED) bash scripts/freethreaded.sh

.PHONY: test-clients
test-clients: build ## run client libraries against a real Redis, NATS, MariaDB and RabbitMQ
	BYTEPOOL_TEST_SERVERS=real $(BIN)/pytest -p no:cacheprovider tests/test_clients.py

.PHONY: test-advise
test-advise: build ## ask python -m bytepool.advise about real programs, and measure what its advice saves
	$(BIN)/pip install $(QUIET) --group advise
	PYTHONPATH=tests $(BIN)/python -m advise

.PHONY: test-uvicorn
test-uvicorn: build ## run uvicorn's own tests of its HTTP protocol against ours
	$(BIN)/pip install $(QUIET) --group uvicorn
	$(BIN)/python scripts/test_uvicorn.py

.PHONY: test-pytest
test-pytest: build ## test the pytest plugin with pytest 7.0, 8.0 and 9.0
	bash scripts/pytest_versions.sh

.PHONY: test-debug
test-debug: build ## run the Python tests with CPython's memory checks and development mode
	PYTHONMALLOC=debug $(BIN)/python -X dev -W error -m pytest -p no:cacheprovider

# Seconds that each of the three fuzzers runs.
SECONDS_EACH ?= 300
# Options of libFuzzer: start with short inputs, grow them quickly, and report an input that takes 20 seconds.
FUZZ := -max_total_time=$(SECONDS_EACH) -len_control=20 -max_len=800 -timeout=20 -print_final_stats=1
# cargo-fuzz uses flags of the nightly compiler. RUSTC_BOOTSTRAP makes the stable compiler accept them.
CARGO_FUZZ := RUSTC_BOOTSTRAP=1 PATH=$(CURDIR)/target/tools/bin:$$PATH cargo fuzz
FOLDERS = fuzz/found/$(1) fuzz/corpus/$(1)

.PHONY: fuzz
fuzz: needs-fuzz ## fuzz the core, the Python API and the streams, five minutes each
	$(CARGO_FUZZ) run core $(call FOLDERS,core) -- $(FUZZ)
	$(BIN)/python -m fuzz surface $(call FOLDERS,surface) $(FUZZ)
	$(BIN)/python -m fuzz streams $(call FOLDERS,streams) $(FUZZ)

.PHONY: fuzz-corpus
fuzz-corpus: needs-fuzz ## reduce the corpora and new findings to the inputs that add coverage
	rm -rf fuzz/merged
	mkdir -p fuzz/merged/core fuzz/merged/surface fuzz/merged/streams
	$(CARGO_FUZZ) run core fuzz/merged/core $(call FOLDERS,core) -- -set_cover_merge=1
	$(BIN)/python -m fuzz surface fuzz/merged/surface $(call FOLDERS,surface) -set_cover_merge=1
	$(BIN)/python -m fuzz streams fuzz/merged/streams $(call FOLDERS,streams) -set_cover_merge=1
	rm -rf fuzz/corpus fuzz/found
	mv fuzz/merged fuzz/corpus

.PHONY: needs-fuzz
needs-fuzz: build needs-c++ target/tools/bin/cargo-fuzz
	$(BIN)/pip install $(QUIET) --group fuzz
	mkdir -p fuzz/found/core fuzz/found/surface fuzz/found/streams

.PHONY: needs-c++
needs-c++:
	@command -v c++ >/dev/null || { echo "missing: a C++ compiler for libFuzzer (Debian: apt install g++)" >&2; exit 1; }

target/tools/bin/cargo-fuzz: | needs
	cargo install --locked --root target/tools cargo-fuzz

.PHONY: bench
bench: needs ## measure the core with criterion
	cargo bench --locked

.PHONY: compare
compare: build ## measure the core and other crates in turns, and show tables
	$(BIN)/python benches/compare.py

.PHONY: compare-record
compare-record: build ## measure the documented tables of the core, and write them into docs/performance.md
	$(BIN)/python benches/compare.py --record --rounds 9
	$(BIN)/python benches/compare_docs.py

.PHONY: bench-python
bench-python: build ## measure the package and its alternatives; writes charts to bytepool-bench/
	$(BIN)/python -m bytepool.bench

.PHONY: instructions
instructions: build ## count the instructions of the hot paths, and compare them with the lowest so far
	$(BIN)/python benches/instructions.py

.PHONY: bench-streams
bench-streams: build ## measure the CPU time of a receiving server: asyncio's streams, ours, and alternatives
	$(BIN)/python benches/streams.py
	$(BIN)/python benches/idle_connections.py

.PHONY: record-streams
record-streams: build ## measure all that docs/streams.md and the README's picture show, and write it (15 minutes)
	$(BIN)/python benches/streams.py --json benches/recorded/streams.json
	$(BIN)/python benches/tables.py
	$(BIN)/python benches/picture.py

.PHONY: record-http
record-http: build ## the same for docs/http.md (15 minutes)
	$(BIN)/python benches/http_uploads.py --json benches/recorded/http_uploads.json
	$(BIN)/python benches/tables.py
	$(BIN)/python benches/picture.py

.PHONY: bench-clients
bench-clients: build ## measure what streams.install() saves client libraries of real servers
	PYTHONPATH=tests $(BIN)/python benches/clients.py

.PHONY: bench-recipes
bench-recipes: build ## measure the recipes of docs/recipes.md
	$(BIN)/pip install $(QUIET) --group recipes
	PYTHONPATH=tests $(BIN)/python benches/recipes.py

.PHONY: instructions-http
instructions-http: build ## count the instructions of uvicorn for small requests, as it is and with our protocol
	$(BIN)/python benches/http_instructions.py

.PHONY: bench-http
bench-http: build ## measure the CPU time of a server that receives uploads: uvicorn, with our protocol, and others
	$(BIN)/python benches/http_uploads.py

.PHONY: bench-memory
bench-memory: build ## measure the memory of a process after a burst and under a mixed load
	$(BIN)/python benches/memory.py

.PHONY: soak
soak: build ## check all memory limits during ten minutes of bursts and quiet times; draws a picture
	$(BIN)/python scripts/soak.py --picture docs/memory/soak.svg

# Minutes that soak-http runs.
MINUTES ?= 10

.PHONY: soak-http
soak-http: build ## upload over connections that break, stall and lie, and check that the server keeps nothing
	$(BIN)/python scripts/soak_http/soak_http.py --minutes $(MINUTES)

.PHONY: coverage
coverage: build ## list the lines of the package and the crate that no test reaches
	bash scripts/coverage.sh

.PHONY: wheel
wheel: build ## build an abi3 wheel for this machine and CPython 3.11 and newer, in target/wheels
	rm -rf target/wheels
	$(BIN)/maturin build --release --locked --out target/wheels $(QUIET)

# t: without a GIL, with a wheel of its own.
VERSIONS ?= 3.11 3.12 3.13 3.14 3.15 3.14t
# target/dist takes what `make wheels` built.
WHEELS ?= target/wheels

.PHONY: test-versions
test-versions: $(if $(filter target/wheels,$(WHEELS)),wheel,build) ## run the Python tests on each CPython, from Debian testing if missing, with the abi3 wheel
	@# valgrind is too old for the C library that Debian testing's Python brings along.
	PYTEST_ADDOPTS="$(PYTEST_ADDOPTS) --ignore=tests/test_memcheck.py" \
		bash scripts/wheel.sh $(WHEELS) $(filter-out %t,$(VERSIONS))
	$(if $(filter %t,$(VERSIONS)),FREETHREADED=$(FREETHREADED) bash scripts/freethreaded.sh)

TARGETS ?= x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu

.PHONY: wheels
wheels: needs-release ## build and check the wheels for a package index, in target/dist; others: make wheels TARGETS=...
	bash scripts/wheels.sh $(TARGETS)

.PHONY: test-reproducible
test-reproducible: wheels ## build this machine's wheel again in another folder, and compare the bytes
	bash scripts/reproducible.sh

.PHONY: test-arm64
test-arm64: wheels ## run the Python tests on Debian's arm64 Python under qemu, with the wheel for it
	bash scripts/arm64.sh target/dist

.PHONY: sdist
sdist: needs-release ## build the source distribution in target/dist
	rm -f target/dist/*.tar.gz
	$(BIN)/maturin sdist --out target/dist
	$(BIN)/twine check --strict target/dist/*.tar.gz

.PHONY: test-sdist
test-sdist: sdist ## build the source distribution without a network, and run its tests
	bash scripts/sdist.sh

# A Debian 13 with nothing but the packages that the README names.
NEWCOMER := bash scripts/debian.sh newcomer "$$(sed -n 's/^apt install //p' README.md)"

.PHONY: test-debian
test-debian: ## follow the README in a new Debian 13, with nothing but the packages that the README names
	rm -rf target/debian13/newcomer
	$(NEWCOMER) "make demo; make test"

.PHONY: test-msrv
test-msrv: ## compile everything with the oldest supported Rust, which is Debian 13's
	$(NEWCOMER) "cargo --version; CARGO_TARGET_DIR=/target make check"

.PHONY: check
check: needs ## compile the core, its tests and benchmarks, and the extension, without a result
	cargo check --locked --all-targets
	cargo check --locked --features python

.PHONY: test-windows
test-windows: ## run the tests of the core, and the wheel's, on Windows: under wine in a Debian 13
	bash scripts/cross.sh "bash scripts/windows.sh"

.PHONY: audit
audit: needs-release target/tools/bin/cargo-deny ## look for known vulnerabilities, and check licences and sources; needs the internet
	PATH=$(CURDIR)/target/tools/bin:$$PATH cargo deny --locked check
	$(BIN)/pip-audit --strict --local --skip-editable --progress-spinner off

target/tools/bin/cargo-deny: | needs
	cargo install --locked --root target/tools cargo-deny

.PHONY: needs-release
needs-release: .venv/installed
	$(BIN)/pip install $(QUIET) --group release

.PHONY: build
build: .venv/installed ## build the extension, and install it in .venv
	@# maturin also calls pip, to see that all dependencies are installed.
	env -u CONDA_PREFIX PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --locked $(QUIET)

.venv/installed: pyproject.toml | needs
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(QUIET) --upgrade pip
	$(BIN)/pip install $(QUIET) --group dev
	touch $@

.PHONY: needs
needs:
	@need=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
		have=$$(rustc --version 2>/dev/null | cut -d' ' -f2); \
		[ "$$(printf '%s\n' "$$need" "$${have:-0}" | sort -V | head -n 1)" = "$$need" ] || { \
		echo "missing: Rust $$need or newer (here: $${have:-none}), see https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "missing: a C linker (Debian: apt install gcc)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "missing: Python 3.11 or newer as '$(PYTHON)'; name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "missing: the venv module of $(PYTHON) (Debian: apt install python3-venv)" >&2; exit 1; }

.PHONY: clean
clean: ## remove all build results
	rm -rf .venv target fuzz/target python/bytepool/*.so
