#!/usr/bin/env bash
# Builds the server, then lets the real SDKs push to it: Python, Node, Rust and Go.
#
# SCORIA_CLIENTS_DIR      where their packages are installed (default: target/clients)
# SCORIA_CLIENTS_REQUIRED names of clients that must not be skipped, e.g. "python node rust go"
set -euo pipefail
cd "$(dirname "$0")/../.."

"${CARGO:-cargo}" build --quiet --package scoria-server
exec "${CARGO:-cargo}" test --package scoria-tests --test clients -- --ignored --nocapture
