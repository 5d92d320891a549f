//! Open data: the recipe of the docs, run with the real DuckDB on a block where it lies in the
//! store, computes the same top functions as the API.
//!
//! `tests/stores/run.sh` installs DuckDB and runs this.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, binary, now_ns, self_values};
use serde_json::{Value, json};

const SERVICES: [&str; 3] = ["checkout", "search", "zebra"];
const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

/// Stacks of several depths with leaves that other stacks have inside.
fn profile((service, n): (usize, u64), time_ns: i64) -> TestProfile {
    let stacks = (0..40u64).map(|i| {
        let depth = 1 + (i * 7 + n) % 9;
        let mut stack: Vec<String> = (0..depth)
            .map(|level| format!("f{}_{}", level, (i / (level + 1) + n) % 5))
            .collect();
        stack.insert(0, format!("main_{service}"));
        (stack, 1000 + (i * 13 + n * 7) as i64 % 101)
    });
    TestProfile::cpu(time_ns, stacks)
}

/// Sums of self and of total by function, out of a flame graph without recursion.
fn from_api(server: &ServerProcess, service: &str) -> BTreeMap<String, (i64, i64)> {
    let end = now_ns() / 1_000_000 + 60_000;
    let request = json!({
        "profileTypeID": CPU,
        "labelSelector": format!("{{service_name=\"{service}\"}}"),
        "start": end - 7_200_000,
        "end": end,
        "maxNodes": 1_000_000,
    });
    let (status, reply) = server.call("SelectMergeStacktraces", &request);
    assert_eq!(status, 200, "{reply}");
    let graph = &reply["flamegraph"];
    let names: Vec<&str> = graph["names"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for level in graph["levels"].as_array().into_iter().flatten().skip(1) {
        let values: Vec<i64> = level["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().and_then(|s| s.parse().ok()))
            .collect();
        for bar in values.chunks_exact(4) {
            sums.entry(names[bar[3] as usize].to_owned()).or_default().1 += bar[1];
        }
    }
    for (name, own) in self_values(graph) {
        sums.entry(name).or_default().0 = own;
    }
    sums
}

fn from_duckdb(block: &Path, service: &str) -> BTreeMap<String, (i64, i64)> {
    let python = std::env::var_os("SCORIA_DUCKDB_PYTHON")
        .expect("SCORIA_DUCKDB_PYTHON is not set: run tests/stores/run.sh");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipes/top_functions.py");
    let output = Command::new(python)
        .arg(recipe)
        .arg(block)
        .args([service, "--json"])
        .output()
        .expect("python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let number = |row: &Value, key: &str| row[key].as_i64().unwrap_or_default();
    rows.iter()
        .map(|row| {
            let name = row["function"].as_str().unwrap_or_default().to_owned();
            (name, (number(row, "self"), number(row, "total")))
        })
        .collect()
}

/// The only block of a store, as the tool shows it.
fn only_block(data: &Path) -> String {
    let output = Command::new(binary())
        .args(["catalog", "show", "--json", "--data-dir"])
        .arg(data)
        .output()
        .expect("the binary runs");
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let blocks = shown["blocks"].as_array().expect("a list of blocks");
    assert_eq!(blocks.len(), 1, "{shown}");
    blocks[0]["block"].as_str().expect("an id").to_owned()
}

#[test]
#[ignore = "needs DuckDB; tests/stores/run.sh runs it"]
fn duckdb_finds_the_same_top_functions_as_the_api() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let server = ServerProcess::start(&data, &[]);
    // All in one hour, and so in one block.
    let time_ns = now_ns();
    for n in 0..5 {
        for (at, service) in SERVICES.iter().enumerate() {
            let answer = server.ingest(service, &profile((at, n), time_ns));
            assert_eq!(answer.map(|a| a.status), Some(200));
        }
    }
    assert!(server.terminate().success());
    let block = only_block(&data);
    let in_place = data.join("store/blocks").join(&block);
    let exported = dir.path().join("exported");
    let export = Command::new(binary())
        .args(["block", "export", &block, "--data-dir"])
        .arg(&data)
        .arg("--to")
        .arg(&exported)
        .status();
    assert!(export.expect("the binary runs").success());

    let server = ServerProcess::start(&data, &[]);
    for service in SERVICES {
        let expected = from_api(&server, service);
        assert!(expected.len() > 20, "{expected:?}");
        assert_eq!(from_duckdb(&in_place, service), expected, "{service}");
        assert_eq!(from_duckdb(&exported, service), expected, "{service}");
    }
}
