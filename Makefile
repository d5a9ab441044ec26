# Every target does all its own set-up, in .venv and target/. Needs Rust and Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
# Progress bars on a terminal; a log gets warnings and errors only.
QUIET := $(if $(MAKE_TERMOUT),,--quiet)
# Only the core, so that no Python is needed to link.
CORE := cargo test --locked --no-default-features
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
	LOOM_MAX_PREEMPTIONS=3 $(LOOM)
	$(BIN)/pytest

.PHONY: lint
lint: build ## formatting, clippy, ruff, mypy, stubtest
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo clippy --locked --all-targets --no-default-features -- --deny warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/stubtest --mypy-config-file pyproject.toml bytepool

.PHONY: prove
prove: build ## the long proofs: random sequences by the ten thousand, all interleavings
	PROPTEST_CASES=20000 $(CORE) --release --test model --test ledger
	$(LOOM)
	$(BIN)/pytest --hypothesis-profile=long --timeout=3600 tests/test_model.py

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
	$(BIN)/python tests/soak.py --picture docs/memory/soak.svg

.PHONY: coverage
coverage: build ## which lines of the package and of the crate no test reaches
	bash tests/coverage.sh

.PHONY: wheel
wheel: build ## an abi3 wheel for CPython 3.11 and newer, in target/wheels
	rm -rf target/wheels
	$(BIN)/maturin build --release --locked --out target/wheels $(QUIET)

.PHONY: test-wheel
test-wheel: wheel ## the Python tests against the installed wheel on CPython 3.11, 3.12 and 3.13
	bash tests/wheel.sh 3.11 3.12 3.13

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
	rm -rf .venv target python/bytepool/*.so
