# Verbs only; each line says what it does. `make run` and `make test` are the two of the README.
SHELL := /bin/bash
CARGO ?= cargo
SEED  ?= 1
SECONDS_PER_TARGET ?= 10

.PHONY: run build test check fmt bench fuzz sim store-faults help

help:            ## list the verbs
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 18

run:             ## build, start a server on ./data and profile itself; open http://127.0.0.1:4040
	@deploy/run.sh

build:           ## build the binary
	$(CARGO) build -p scoria-server --bin scoria

# `cargo test` builds the binary too, beside the tests that start it as a process.
test:            ## every test of the workspace, then the real clients, a real S3 server, the browser, the chart
	$(CARGO) test --workspace
	tests/clients/run.sh
	tests/stores/run.sh
	tests/ui/run.sh
	tests/helm/run.sh

check:           ## formatting, lints, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	deploy/deny.sh

fmt:             ## format the workspace
	$(CARGO) fmt --all

sim:             ## one seed of the simulation, with its trace: make sim SEED=42
	SCORIA_SIM_SEED=$(SEED) $(CARGO) test -p scoria-tests --test simulation -- --nocapture replay

store-faults:    ## many rounds of spoiled requests to a real S3 server: make store-faults ROUNDS=100 SEED=7
	SCORIA_STORE_ROUNDS=$(or $(ROUNDS),100) SCORIA_STORE_SEED=$(SEED) tests/stores/run.sh

fuzz:            ## every fuzz target, SECONDS_PER_TARGET each, from its seed corpus
	fuzz/run.sh $(SECONDS_PER_TARGET)

bench:           ## the benchmarks of docs/BENCHMARKS.md; needs a release build
	deploy/bench.sh
