# Superstep: what you can do. `make run` and `make test` set up whatever is missing.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

RUN ?= runs/fashion-mnist.toml
LISTEN ?= 127.0.0.1:8000
# Where `make run` keeps its run, as its results in a folder that git ignores.
STATE ?= out/state

# One toolchain builds everything: Debian's `rustc-web`, or elsewhere a rustup nightly; build/toolchain.sh finds it.
TOOLCHAIN = eval "$$(build/toolchain.sh)"
CARGO = $(TOOLCHAIN) && cargo
BINARY = target/release/superstep
PAGES = target/web/wasm/client_wasm_bg.wasm
WASM = --target wasm32-unknown-unknown -Z build-std=std,panic_abort
# For those who work on it, so private items too.
DOC = $(TOOLCHAIN) && RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
  cargo doc --release --no-deps --document-private-items --quiet
DENY = cargo deny --offline --log-level error check bans licenses sources

.PHONY: help
help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 21

.PHONY: setup
setup: ## Install what is missing, by package name (Debian, as root), or say what to install
	@build/setup.sh run

.PHONY: setup-test
setup-test:
	@build/setup.sh test

.PHONY: setup-bench
setup-bench:
	@build/setup.sh bench

.PHONY: build
build: setup ## Build the wasm package, the pages and the server
	@$(MAKE) --no-print-directory $(BINARY)

RUST = Cargo.toml Cargo.lock .cargo/config.toml \
  $(shell find bsp nn volunteer -name '*.rs' -o -name Cargo.toml)
WEB = $(wildcard web/*.html web/*.css web/*.js web/*.svg) web/package-lock.json
CLIENT = $(shell find client-wasm simulator-wasm simulator/src simulator/Cargo.toml state/src state/Cargo.toml xtask \
  -name '*.rs' -o -name Cargo.toml)
SERVER = $(shell find server lab run state/src state/Cargo.toml native simulator runs -type f -not -path 'runs/state/*')
ENGINE = target/engine/index.html
PEERS = $(wildcard bench/peers/*.html bench/peers/*.js) \
  $(shell find bench/engine-wasm bench/peers/rust xtask -name '*.rs' -o -name Cargo.toml)

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

$(PAGES): $(RUST) $(CLIENT) $(WEB) web/node_modules/.package-lock.json
	$(CARGO) xtask web

bench/peers/node_modules/.package-lock.json: bench/peers/package.json bench/peers/package-lock.json
	cd bench/peers && npm ci --no-audit --no-fund
	@touch $@

# What gradient engines are measured with: only `make bench` needs it.
$(ENGINE): $(RUST) $(PEERS) bench/peers/rust/Cargo.lock bench/peers/node_modules/.package-lock.json
	$(CARGO) xtask engine
	cd bench/peers && npm run --silent build
	@touch $@

$(BINARY): $(RUST) $(SERVER) $(PAGES)
	$(CARGO) build --release --package server
	@touch $@

.PHONY: run
run: build ## Train Fashion-MNIST: open the printed address in a browser (RUN=file, LISTEN=addr:port, STATE=folder)
	$(BINARY) serve $(RUN) --listen $(LISTEN) --state $(STATE)

.PHONY: test
test: setup-test ## All checks: lint, unit, property, loom and simulation tests, real browsers against the real binary
	@$(MAKE) --no-print-directory lint test-page test-rust test-loom test-browser sizes

.PHONY: sizes
sizes: $(BINARY) ## How large wasm and binary are, and whether that is within their limits
	@build/sizes.sh

.PHONY: test-page
test-page: ## Unit tests of the page's modules, on node
	cd web && npm test --silent

.PHONY: test-rust
test-rust: $(BINARY) ## Unit, property and simulation tests
	$(CARGO) test --release --workspace --exclude tests --exclude bench

.PHONY: test-loom
test-loom: ## Model-check the shared memory protocol
	$(CARGO) test --release --package bsp --lib --features loom loom

.PHONY: test-browser
test-browser: $(BINARY) ## Headless browsers and faults against the built binary
	$(CARGO) test --release --package tests -- --test-threads=1

SEEDS ?= 100000
FIRST ?= 1000

.PHONY: soak
soak: ## Simulate crashes, faulty disks and links through many seeds, on all cores (SEEDS=n, FIRST=seed)
	$(TOOLCHAIN) && SEEDS=$(SEEDS) FIRST=$(FIRST) \
	  cargo test --release --quiet --package simulator --test faults -- --ignored --nocapture soak

.PHONY: engine
engine: setup-bench $(ENGINE)

.PHONY: bench
bench: setup-bench $(BINARY) $(ENGINE) ## Measure in real tabs, on an idle machine, and keep the tables
	$(CARGO) run --release --package bench

SCENARIOS = $(wildcard scenarios/*.toml)

.PHONY: simulations
simulations: build ## Simulate every scenario and write docs/simulations (an hour on two cores)
	@for scenario in $(SCENARIOS); do $(BINARY) simulate $$scenario --out docs/simulations; done

.PHONY: miri
miri: ## The shared memory tests under miri, where a toolchain has it
	@build/miri.sh

.PHONY: lint
lint: $(PAGES) ## Formatting, clippy and documentation (native and wasm), types of the pages, dependencies
	build/line-lengths.sh
	$(CARGO) fmt --check
	# cargo fmt does not see modules that a macro declares
	$(TOOLCHAIN) && rustfmt --check --edition 2024 nn/src/layer/*.rs
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	$(CARGO) clippy --release --package client-wasm --package simulator-wasm --package engine-wasm $(WASM) -- -D warnings
	$(DOC) --workspace --exclude client-wasm --exclude simulator-wasm --exclude engine-wasm
	$(DOC) --package client-wasm --package simulator-wasm --package engine-wasm $(WASM)
	cd web && npm run --silent lint
	@$(TOOLCHAIN) && if cargo deny --version >/dev/null 2>&1; then $(DENY); else \
	  echo "licences and versions are not checked here: make deny says how"; fi

.PHONY: deny
deny: ## Licences, versions and sources of all dependencies, without the network
	@$(TOOLCHAIN) && cargo deny --version >/dev/null 2>&1 || { \
	  echo "cargo-deny is not installed: cargo install --locked cargo-deny (some minutes)" >&2; exit 1; }
	@$(TOOLCHAIN) && $(DENY)

.PHONY: clean
clean: ## Remove what was built
	rm -rf target web/node_modules bench/peers/node_modules out
