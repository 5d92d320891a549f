#!/usr/bin/env bash
# The figures of docs/BENCHMARKS.md, on this machine: micro benchmarks of the hot loops, then a
# release server under `scoria bench`. PROFILES names a folder of pprofs; without one (and without
# the corpus) a fleet is generated.
set -euo pipefail
cd "$(dirname "$0")/.."
corpus="${SCORIA_CORPUS:-../shared/corpus}"
profiles="${PROFILES:-$([[ -d $corpus/go ]] && echo "$corpus/go" || true)}"
listen="${LISTEN:-127.0.0.1:4141}"
url="http://$listen"
target="${CARGO_TARGET_DIR:-target}"
cargo build --release -p scoria-server --bin scoria
scoria="$target/release/scoria"
data=$(mktemp -d)
server=0
stop() { if [[ $server != 0 ]]; then kill -TERM "$server" 2>/dev/null || true; wait "$server" || true; server=0; fi; }
trap 'stop; rm -rf "$data"' EXIT
start() {
    "$scoria" server --listen "$listen" --data-dir "$data" \
        --set limits.ingestion_rate_bytes=10GiB --set limits.ingestion_burst_bytes=10GiB \
        --set limits.reject_older_than_ms=12h >"$data.log" 2>&1 &
    server=$!
    for _ in $(seq 200); do
        if [[ $(curl -s -o /dev/null -w '%{http_code}' "$url/ready") == 200 ]]; then return; fi
        sleep 0.05
    done
    tail -20 "$data.log"; exit 1
}
bench_ingest() { "$scoria" bench ingest --url "$url" ${profiles:+--profiles "$profiles"} "$@"; }

echo "== idle server"; start
sleep 2; curl -s "$url/metrics" | grep '^process_resident_memory_bytes'

echo "== ingest, one profile a request";  bench_ingest --only prometheus-0.cpu --service single --pods 60 --rounds 60
echo "== ingest, 100 profiles a request"; bench_ingest --only prometheus-0.cpu --service batch --pods 60 --rounds 60 --batch 100
echo "== ingest, heap snapshots";         bench_ingest --only prometheus-0.heap --service heap --pods 20 --rounds 30

echo "== queries on heads";  "$scoria" bench query --url "$url" --service single
stop
echo "== bytes at rest, by table"
find "$data/store" -name '*.parquet' -printf '%f %s\n' | awk '{n[$1]+=$2; all+=$2} END {for (t in n) print t, n[t]; print "all", all}'
start
echo "== queries on blocks"; "$scoria" bench query --url "$url" --service single
stop

echo "== questions beside ingest"; rm -rf "$data"; mkdir "$data"; start
bench_ingest --only prometheus-0.cpu --service single --pods 60 --rounds 10 >/dev/null
"$scoria" bench mixed --url "$url" --service single --queries 50 --rate 100
stop

echo "== hot loops, merging, first pages, and a week from a slow store (some minutes)"
mapfile -t benches < <(printf '%s\n' crates/*/benches/*.rs | xargs -n1 basename -s .rs | sort -u)
cargo bench --quiet --workspace "${benches[@]/#/--bench=}"
