#!/usr/bin/env bash
# Licences, banned crates and sources by deny.toml; installs cargo-deny once if it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="${SCORIA_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/scoria-tools}"
version=0.20.2
export PATH="$tools/bin:$PATH"
if ! cargo-deny --version 2>/dev/null | grep -qx "cargo-deny $version"; then
    echo "installing cargo-deny $version into $tools (about a minute)"
    cargo install cargo-deny --version "$version" --locked --debug --root "$tools" --target-dir "$tools/target"
fi
# Advisories are left out: their database lies behind a host that build machines need not reach.
cargo deny --all-features check bans licenses sources
