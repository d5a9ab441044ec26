# Every target does all its own set-up, in .venv and target/. Needs Rust and Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
# Progress bars on a terminal; a log gets warnings and errors only.
QUIET := $(if $(MAKE_TERMOUT),,--quiet)
# Only the core, so that no Python is needed to link.
CORE := cargo test --locked --no-default-features
# Tests that repeat their steps up to 10^8 times.
LONG_TESTS := BYTEPOOL_TEST_LONG=1 $(BIN)/pytest -p no:cacheprovider
# loom swaps every lock and atomic, so it gets a build of its own; link-time optimisation would only cost time.
LOOM := RUSTFLAGS="--cfg loom" $(CORE) --release --config profile.release.lto=false \
	--target-dir target/loom --test loom

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: demo
demo: build ## a server receives real files, on asyncio's streams and on pooled ones, and checks every byte
	$(BIN)/python examples/demo

.PHONY: test
test: build ## every test, the long proofs in a short version
	$(CORE)
	$(LOOM) -- --nocapture
	$(BIN)/pytest

.PHONY: lint
lint: build needs-c++ ## formatting, clippy, ruff, mypy, stubtest
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo clippy --locked --all-targets --no-default-features -- --deny warnings
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- --deny warnings
	cargo fmt --check --manifest-path benches/allocators/Cargo.toml
	cargo clippy --locked --benches --manifest-path benches/allocators/Cargo.toml --target-dir target/allocators \
		-- --deny warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/stubtest --mypy-config-file pyproject.toml bytepool

.PHONY: prove
prove: build ## the long proofs: random sequences by the ten thousand
	PROPTEST_CASES=20000 $(CORE) --release --test model --test ledger
	$(BIN)/pytest --hypothesis-profile=long --timeout=3600 tests/test_model.py

.PHONY: stress
stress: build ## 10^8 operations on all cores without Python, and 10^8 calls of Python threads
	STRESS_OPERATIONS=100000000 $(CORE) --release --test stress -- --nocapture
	$(LONG_TESTS) tests/test_stress.py

.PHONY: leaks
leaks: build ## a million of each public call, and nothing left behind
	$(LONG_TESTS) tests/test_leaks.py

.PHONY: forks
forks: build ## a thousand forks in the middle of what other threads do, and all else in a process's life
	$(LONG_TESTS) tests/test_process.py

.PHONY: memcheck
memcheck: build ## valgrind over the Rust tests and a broad part of the Python ones
	$(BIN)/python scripts/memcheck.py

.PHONY: test-freethreaded
test-freethreaded: build ## the Python tests on a CPython without a GIL, which is built if there is none
	FREETHREADED=$(FREETHREADED) bash scripts/freethreaded.sh

.PHONY: test-debug
test-debug: build ## the Python tests with CPython's own checks of memory and of usage
	PYTHONMALLOC=debug $(BIN)/python -X dev -W error -m pytest -p no:cacheprovider

# How long each of the three fuzzers runs.
SECONDS_EACH ?= 300
# libFuzzer's options: short inputs first, but not for long; one that takes 20 seconds hangs.
FUZZ := -max_total_time=$(SECONDS_EACH) -len_control=20 -max_len=800 -timeout=20 -print_final_stats=1
# Its flags are for nightly compilers; this has the stable one take them.
CARGO_FUZZ := RUSTC_BOOTSTRAP=1 PATH=$(CURDIR)/target/tools/bin:$$PATH cargo fuzz
FOLDERS = fuzz/found/$(1) fuzz/corpus/$(1)

.PHONY: fuzz
fuzz: needs-fuzz ## five minutes each of whatever may happen: to the core, from Python, on a stream
	$(CARGO_FUZZ) run core $(call FOLDERS,core) -- $(FUZZ)
	$(BIN)/python -m fuzz surface $(call FOLDERS,surface) $(FUZZ)
	$(BIN)/python -m fuzz streams $(call FOLDERS,streams) $(FUZZ)

.PHONY: fuzz-corpus
fuzz-corpus: needs-fuzz ## the corpus anew: of it and of what the fuzzers have found, what adds something
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
bench: needs ## time the core (criterion)
	cargo bench --locked --no-default-features

.PHONY: compare
compare: build ## time the core beside its peers, in turns, and show a table
	$(BIN)/python benches/compare.py

.PHONY: bench-python
bench-python: build ## time the package beside what it would replace; a page with charts in bytepool-bench/
	$(BIN)/python -m bytepool.bench

.PHONY: instructions
instructions: build ## count the hot paths' instructions and compare them with the baseline
	$(BIN)/python benches/instructions.py

.PHONY: bench-streams
bench-streams: build ## what receiving costs a server: asyncio's streams, ours, and the rivals
	$(BIN)/python benches/streams.py
	$(BIN)/python benches/idle_connections.py

.PHONY: bench-memory
bench-memory: build ## what a process keeps: after a burst, and under a mixed load
	$(BIN)/python benches/memory.py

.PHONY: soak
soak: build ## ten minutes of bursts and quiet times, all memory held against its bounds, and a picture
	$(BIN)/python scripts/soak.py --picture docs/memory/soak.svg

.PHONY: coverage
coverage: build ## which lines of the package and of the crate no test reaches
	bash scripts/coverage.sh

.PHONY: wheel
wheel: build ## an abi3 wheel for CPython 3.11 and newer, in target/wheels
	rm -rf target/wheels
	$(BIN)/maturin build --release --locked --out target/wheels $(QUIET)

VERSIONS ?= 3.11 3.12 3.13

.PHONY: test-wheel
test-wheel: wheel ## the Python tests against the installed wheel on CPython 3.11, 3.12 and 3.13
	bash scripts/wheel.sh $(VERSIONS)

.PHONY: build
build: .venv/installed ## the extension, into .venv
	env -u CONDA_PREFIX VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --locked $(QUIET)

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
clean: ## remove everything that was built
	rm -rf .venv target fuzz/target python/bytepool/*.so
