#!/usr/bin/env bash
# Builds the server and runs it on ./data with self-profiling on, so that there is something to
# see within seconds. Arguments go to `scoria server`.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "Building scoria (some minutes the first time: it compiles its dependencies; later seconds)…"
cargo build -p scoria-server --bin scoria
target="${CARGO_TARGET_DIR:-target}"
listen=127.0.0.1:4040
for ((i = 1; i <= $#; i++)); do
    if [[ ${!i} == --listen ]]; then next=$((i + 1)); listen="${!next}"; fi
done
cat <<TEXT

  Starting. Open http://$listen in a browser: the server profiles itself, and the first
  flame graph of the service "scoria" is there within half a minute.
  Push a profile of your own:  $target/debug/scoria push cpu.pb.gz --label service_name=my-app
  Stop with Ctrl-C. Data lies in ./data.

TEXT
exec "$target/debug/scoria" server --set self_profiling.enabled=true "$@"
