//! `go tool pprof` reads what the server answers, and finds the values that were sent.
//!
//! Skipped, and said so, where Go is not on the machine; `SCORIA_CLIENTS_REQUIRED` with `go` in it
//! makes that a failure.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use buffa::Message;
use scoria_proto::public::querier::v1 as querier;
use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};

const STACKS: [(&[&str], i64); 4] = [
    (&["main.main", "shop.serve", "shop.checkout"], 70_000_000),
    (&["main.main", "shop.serve"], 20_000_000),
    (&["main.main", "runtime.gc"], 9_000_000),
    (&["main.main", "shop.serve", "other"], 1_000_000),
];

fn has_go() -> bool {
    let found = Command::new("go").arg("version").output().is_ok();
    let required = std::env::var("SCORIA_CLIENTS_REQUIRED").unwrap_or_default();
    assert!(
        found || !required.split_whitespace().any(|name| name == "go"),
        "go is required and not on the machine"
    );
    if !found {
        eprintln!("skipped: go is not on the machine");
    }
    found
}

/// Flat and cumulative values by function, in the unit of the profile.
fn top(file: &Path, home: &Path) -> BTreeMap<String, (i64, i64)> {
    let output = Command::new("go")
        .args([
            "tool",
            "pprof",
            "-top",
            "-nodefraction=0",
            "-edgefraction=0",
        ])
        .args(["-nodecount=1000", "-unit=ns"])
        .arg(file)
        .env("PPROF_TMPDIR", home)
        .output()
        .expect("go runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let number = |word: &str| word.trim_end_matches("ns").parse::<i64>().ok();
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[flat, _, _, cumulative, _, name, ..] = words.as_slice() else {
                return None;
            };
            Some((name.to_owned(), (number(flat)?, number(cumulative)?)))
        })
        .collect()
}

#[test]
fn the_profile_that_go_reads_is_the_one_that_was_sent() {
    if !has_go() {
        return;
    }
    let data = tempfile::tempdir().expect("a directory");
    let server = ServerProcess::start(&data.path().join("data"), &[]);
    let now = now_ns();
    let stacks = STACKS.map(|(frames, value)| {
        (
            frames.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>(),
            value,
        )
    });
    for n in 0..3 {
        let profile = TestProfile::cpu(now - n * 1_000_000_000, stacks.clone());
        let answer = server.ingest("shop", &profile).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let request = querier::SelectMergeProfileRequest {
        profile_typeID: "process_cpu:cpu:nanoseconds:cpu:nanoseconds".to_owned(),
        label_selector: "{service_name=\"shop\"}".to_owned(),
        start: now / 1_000_000 - 60_000,
        end: now / 1_000_000 + 60_000,
        ..querier::SelectMergeProfileRequest::default()
    };
    let path = "/querier.v1.QuerierService/SelectMergeProfile";
    let headers = [("content-type", "application/proto")];
    let reply = server.post(path, &headers, request.encode_to_vec());
    assert_eq!(reply.status, 200);
    let file = data.path().join("shop.pb");
    std::fs::write(&file, &reply.body).expect("a file");

    let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (frames, value) in STACKS {
        for (at, name) in frames.iter().enumerate() {
            let row = expected.entry((*name).to_owned()).or_default();
            row.1 += 3 * value;
            if at + 1 == frames.len() {
                row.0 += 3 * value;
            }
        }
    }
    assert_eq!(top(&file, data.path()), expected);
}
