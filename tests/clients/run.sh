#!/usr/bin/env bash
# Builds the server, then lets the real SDKs push to it: Python, Node, Rust, Go and Java, each at its
# newest version and at an older one, OpenTelemetry's for Python and Go, and its Collector.
#
# SCORIA_CLIENTS_DIR      where their packages are installed (default: target/clients)
# SCORIA_CLIENTS_REQUIRED names of clients that must not be skipped, e.g. "python node rust go java"
set -euo pipefail
cd "$(dirname "$0")/../.."

# The whole workspace is named, so that nothing is compiled again after `cargo test --workspace`;
# the first line builds the binary, the others run one test each: on a JVM's own recordings, and
# on all clients.
"${CARGO:-cargo}" test --quiet --workspace --no-run
"${CARGO:-cargo}" test --quiet --workspace --test suite -- --ignored --nocapture recordings_of_this_machine
exec "${CARGO:-cargo}" test --quiet --workspace --test clients -- --ignored --nocapture
