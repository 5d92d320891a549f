//! The verbs that work on an object store, on what compactors leave there: blocks of levels 1 and 2,
//! a deletion that merges went through, and what tenants keep beside profiles.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, binary, now_ns, self_values, tool};
use serde_json::{Value, json};

/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const MINUTE_NS: i64 = 60 * 1_000_000_000;
/// An hour that is over, of this day as a rule.
const RECENT_MINUTES: i64 = 90;
const SERVICES: [&str; 3] = ["kept", "other", "gone"];

/// What a verb printed as JSON, if it was asked to.
fn done(data: &Path, arguments: &[&str]) -> Value {
    let (code, out, errors) = tool(data, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {out} {errors}");
    match arguments.contains(&"--json") {
        true => serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out} {errors}")),
        false => Value::Null,
    }
}

/// Self values of a service's functions over four days.
fn asked(server: &ServerProcess, service: &str) -> BTreeMap<String, i64> {
    let end = now_ns() / 1_000_000;
    let request = json!({
        "profileTypeID": "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        "labelSelector": format!("{{service_name=\"{service}\"}}"),
        "start": end - 4 * 24 * 3_600_000,
        "end": end,
        "maxNodes": 1_000_000,
    });
    let (status, reply) = server.call("SelectMergeStacktraces", &request);
    assert_eq!(status, 200, "{reply}");
    self_values(&reply["flamegraph"])
}

fn answers(server: &ServerProcess) -> Vec<BTreeMap<String, i64>> {
    SERVICES
        .iter()
        .map(|service| asked(server, service))
        .collect()
}

fn push(server: &ServerProcess, n: i64, minutes_ago: i64) {
    for service in SERVICES {
        let stack = vec!["main".to_owned(), format!("request_{n}")];
        let profile = TestProfile::cpu(now_ns() - minutes_ago * MINUTE_NS, [(stack, 1000 + n)]);
        let reply = server.ingest(service, &profile).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
}

/// Whether a metric's line says more than that.
fn above(server: &ServerProcess, begins: &str, than: f64) -> bool {
    let page = server.get("/metrics").map(|answer| answer.body);
    let page = page.unwrap_or_default();
    let line = page.lines().find(|line| line.starts_with(begins));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    value.is_some_and(|value| value > than)
}

/// Leaves blocks of both merged levels, a deletion of one service, and a tenant's settings; gives
/// what the server answered.
fn merged(data: &Path) -> Vec<BTreeMap<String, i64>> {
    let arguments = [
        "limits.reject_older_than_ms=0",
        "ingester.cut_age=200ms",
        "compactor.interval=50ms",
    ];
    let arguments: Vec<&str> = arguments.iter().flat_map(|s| ["--set", s]).collect();
    let server = ServerProcess::start(data, &arguments);
    for n in 0..4 {
        push(&server, n, 2 * 24 * 60 + n);
        push(&server, 10 + n, RECENT_MINUTES);
    }
    let setting = json!({"setting": {"name": "pyroscope.colour", "value": "ochre"}});
    let body = setting.to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let reply = server.post("/settings.v1.SettingsService/Set", &headers, body);
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    let deleted = Command::new(binary())
        .args(["delete", "--url", &server.url, "--before", "now"])
        .args(["--selector", "{service_name=\"gone\"}"])
        .output()
        .expect("the binary runs");
    assert!(deleted.status.success(), "{deleted:?}");
    let levels =
        [1, 2].map(|n| format!("scoria_compaction_jobs_total{{level=\"{n}\",outcome=\"done\"}}"));
    let settled = server.wait_for(PATIENCE, || {
        levels.iter().all(|level| above(&server, level, 0.0))
            && !above(&server, "scoria_compaction_backlog_slices ", 0.0)
    });
    assert!(settled, "{}", server.log_end());
    let answers = answers(&server);
    assert!(server.terminate().success());
    assert_eq!((answers[0].len(), answers[1].len()), (8, 8));
    assert!(answers[2].is_empty());
    answers
}

fn blocks_of(data: &Path, level: u64) -> Vec<String> {
    let shown = done(data, &["catalog", "show", "--json"]);
    let blocks = shown["blocks"].as_array().into_iter().flatten();
    let of_level = blocks.filter(|block| block["level"] == level);
    of_level
        .filter_map(|block| Some(block["block"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn every_verb_works_on_what_merges_leave() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let expected = merged(&data);
    let (first, second) = (blocks_of(&data, 1), blocks_of(&data, 2));
    // Soon after midnight the day of all profiles is over.
    let day = |minutes_ago: i64| (now_ns() - minutes_ago * MINUTE_NS) / (24 * 60 * MINUTE_NS);
    assert!(!first.is_empty() || day(RECENT_MINUTES) != day(0));
    assert!(!second.is_empty());
    let report = done(&data, &["fsck", "--json", "--quiet"]);
    assert_eq!(report["sound"], true, "{report}");

    for block in first.iter().chain(&second) {
        let shown = done(&data, &["block", "show", block, "--json"]);
        assert_eq!(shown["block"], block.as_str(), "{shown}");
        let to = dir.path().join("export").join(block);
        let to = to.to_string_lossy();
        let (code, _, said) = tool(&data, &["block", "export", block, "--to", &to]);
        assert_eq!(code, Some(0), "{said}");
        assert!(Path::new(to.as_ref()).join("manifest.json").is_file());
    }

    let copy = dir.path().join("copy");
    let url = format!("file://{}/store", copy.display());
    let copied = done(&data, &["copy", "--json", "--quiet", "--to", &url]);
    assert_eq!(copied["files"], 1, "the tenant's settings: {copied}");
    let report = done(&copy, &["fsck", "--json", "--quiet"]);
    assert_eq!(report["sound"], true, "{report}");
    let server = ServerProcess::start(&copy, &[]);
    assert_eq!(answers(&server), expected);
    let headers = [("content-type", "application/json")];
    let reply = server.post("/settings.v1.SettingsService/Get", &headers, b"{}".to_vec());
    let settings = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(settings.contains("ochre"), "{settings}");
    assert!(server.terminate().success());

    // The tombstone stays: a catalogue that forgot it would show what heads and late blocks bring.
    for lost in ["log", "snapshot"] {
        let folder = data.join("store/catalogue").join(lost);
        if folder.is_dir() {
            std::fs::remove_dir_all(folder).expect("removable");
        }
    }
    let rebuilt = done(&data, &["catalog", "rebuild", "--json", "--yes"]);
    assert_eq!(rebuilt["done"], true, "{rebuilt}");
    done(&data, &["catalog", "close-stream", "--all", "--yes"]);
    let report = done(&data, &["fsck", "--json", "--quiet"]);
    assert_eq!(report["sound"], true, "{report}");
    let server = ServerProcess::start(&data, &["--set", "limits.reject_older_than_ms=0"]);
    assert_eq!(answers(&server), expected);
    push(&server, 20, RECENT_MINUTES);
    assert_eq!(asked(&server, "kept").len(), 9);
    assert!(asked(&server, "gone").is_empty());
    assert!(server.terminate().success());
}
