#!/usr/bin/env bash
# The embedded page in a real browser, against the built binary that profiles itself.
# A machine without Node or Chromium skips it, and says so loudly.
set -euo pipefail
cd "$(dirname "$0")"
target="${CARGO_TARGET_DIR:-../../target}"
for tool in node npm chromium; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "SKIPPED: the browser test needs $tool, which is not on this machine"
        echo "0 passed, 0 failed, 1 skipped"
        exit 0
    fi
done
modules="${SCORIA_CLIENTS_DIR:-$(cd ../.. && pwd)/target/clients}/ui"
mkdir -p "$modules"
cp package.json package-lock.json page.test.mjs "$modules/"
(cd "$modules" && npm ci --no-audit --no-fund --loglevel=error)
SCORIA_BIN="$(realpath "$target/debug/scoria")" node --test "$modules/page.test.mjs"
