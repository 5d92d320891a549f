#!/usr/bin/env bash
# Runs every fuzz target (or those named after the time) for SECONDS each, starting from its seeds.
#   fuzz/run.sh 10              every target, ten seconds
#   fuzz/run.sh 600 log_record  one target, ten minutes
# libFuzzer with coverage on the stable toolchain; no sanitizer, since there is no unsafe code of
# ours to sanitize. A crash leaves its input under fuzz/artifacts/ and fails the run.
set -euo pipefail
cd "$(dirname "$0")"
seconds="${1:-10}"
shift || true
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
    mapfile -t targets < <(sed -nE '/^\[\[bin\]\]/,/^$/s/^name = "(.*)"/\1/p' Cargo.toml | sort)
fi
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../target}/fuzz"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions"
# --target keeps the flags away from build scripts.
cargo build --target "$host" --bins
mkdir -p artifacts corpus
failed=0
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "seeds/$target"
    echo "fuzz $target: ${seconds}s"
    if ! "$CARGO_TARGET_DIR/$host/debug/$target" "corpus/$target" "seeds/$target" \
        -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 \
        -artifact_prefix="artifacts/$target-" -print_final_stats=1 >"artifacts/$target.log" 2>&1; then
        failed=$((failed + 1))
        tail -40 "artifacts/$target.log"
        echo "FAILED: $target; replay with $CARGO_TARGET_DIR/$host/debug/$target fuzz/artifacts/$target-<input>"
    fi
    grep -E 'number_of_executed_units' "artifacts/$target.log" || true
done
echo "fuzz: $((${#targets[@]} - failed)) passed, $failed failed"
[[ $failed -eq 0 ]]
