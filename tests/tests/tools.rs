//! The verbs that work on an object store, run as an operator runs them: damage is named, a
//! catalogue that is lost is made anew with the same answers, and a stream whose log is lost is
//! given up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use scoria_tests::ledger::Ledger;
use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns, tool};
use serde_json::Value;

/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn tool_json(data: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, out, errors) = tool(data, arguments);
    let json = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out} {errors}"));
    (code, json)
}

/// A data directory whose server has flushed some profiles and stopped, and the ledger of them.
fn flushed(dir: &Path) -> (PathBuf, Ledger) {
    let data = dir.join("data");
    let ledger = Ledger::new("tools");
    for _ in 0..3 {
        let server = ServerProcess::start(&data, &[]);
        for _ in 0..10 {
            assert_eq!(ledger.push_one(&server), Some(200));
        }
        assert!(server.terminate().success());
    }
    (data, ledger)
}

/// Some file of the store whose name ends like that.
fn some_file(data: &Path, folder: &str, end: &str) -> PathBuf {
    let mut open = vec![data.join("store").join(folder)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder of the store") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                return path;
            }
        }
    }
    panic!("no {end} in {folder}");
}

fn flip(path: &Path) {
    let length = std::fs::metadata(path).expect("there").len();
    flip_at(path, length as usize / 2);
}

fn flip_at(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("readable");
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).expect("writable");
}

#[test]
fn fsck_finds_nothing_then_names_what_was_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, _) = flushed(dir.path());
    let (code, report) = tool_json(&data, &["fsck", "--json", "--quiet"]);
    assert_eq!(
        (code, &report["sound"]),
        (Some(0), &Value::Bool(true)),
        "{report}"
    );
    assert_eq!(report["profiles"], 30, "{report}");

    let table = some_file(&data, "blocks", "stacks.parquet");
    flip(&table);
    let (code, text, _) = tool(&data, &["fsck", "--quiet"]);
    assert_eq!(code, Some(5), "{text}");
    let block = table.parent().and_then(Path::file_name).expect("a block");
    let key = format!("blocks/{}/stacks.parquet", block.to_string_lossy());
    assert!(text.contains(&format!("damaged: {key}")), "{text}");
    flip(&table);
    std::fs::remove_file(&table).expect("removable");
    let (code, text, _) = tool(&data, &["fsck", "--quiet"]);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains(&format!("missing: {key}")), "{text}");

    let (code, _, said) = tool(&data, &["fsck", "--quiet", "--repair"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("10 profiles"),
        "what is no longer shown is said: {said}"
    );
    assert!(data.join("store/quarantine").is_dir());
    let (code, text, _) = tool(&data, &["fsck", "--quiet"]);
    assert_eq!(code, Some(0), "{text}");
    let server = ServerProcess::start(&data, &[]);
    // A block has ten profiles, or fewer where the hour turned between them.
    let left = server.self_by_function("tools").len();
    assert!(
        (20..30).contains(&left),
        "the others are still there: {left}"
    );
}

#[test]
fn a_catalogue_made_anew_gives_the_same_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, ledger) = flushed(dir.path());
    std::fs::remove_dir_all(data.join("store/catalogue")).expect("removable");
    let (code, planned) = tool_json(&data, &["catalog", "rebuild", "--json"]);
    assert_eq!((code, &planned["done"]), (Some(0), &Value::Bool(false)));
    let (code, done) = tool_json(&data, &["catalog", "rebuild", "--json", "--yes"]);
    assert_eq!((code, &done["done"]), (Some(0), &Value::Bool(true)));
    assert_eq!(done["blocks"], planned["blocks"]);
    // Every stream was flushed to its end, and their logs are gone with them.
    let (code, text, _) = tool(&data, &["catalog", "close-stream", "--all", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    let server = ServerProcess::start(&data, &[]);
    ledger.check(&server);
    assert_eq!(ledger.push_one(&server), Some(200));
    ledger.check(&server);
    assert!(server.terminate().success());
    let (code, text, _) = tool(&data, &["fsck", "--quiet"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_block_that_cannot_be_merged_is_named_until_it_is_released() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let args = ["--set", "limits.reject_older_than_ms=0"];
    let server = ServerProcess::start(&data, &args);
    // Of an hour that is over, so that it is merged at once.
    let stack = vec!["main".to_owned(), "late".to_owned()];
    let before = now_ns() - 90 * 60 * 1_000_000_000;
    let reply = server.ingest("merged", &TestProfile::cpu(before, [(stack, 7)]));
    assert_eq!(reply.map(|reply| reply.status), Some(200));
    assert!(server.terminate().success());
    let table = some_file(&data, "blocks", "strings.parquet");
    // In the first page, which a merge reads; footers it has from the catalogue.
    let flip = || flip_at(&table, 10);
    flip();

    let store = format!("file://{}", data.join("store").display());
    let compact = |name: &str| {
        let alone = ["--target", "compactor", "--store-url", &store];
        let args = [&alone[..], &["--set", "compactor.interval=50ms"]].concat();
        ServerProcess::start(&dir.path().join(name), &args)
    };
    let show = || tool_json(&data, &["catalog", "show", "--json"]).1;
    let waits = |shown: &Value| shown["quarantine"].as_array().map_or(0, Vec::len);
    let compactor = compact("first");
    assert!(
        compactor.wait_for(PATIENCE, || waits(&show()) == 1),
        "{}",
        compactor.log_end()
    );
    assert!(compactor.terminate().success());
    let block = table.parent().and_then(Path::file_name).expect("a block");
    let block = block.to_string_lossy().into_owned();
    let (_, text, _) = tool(&data, &["catalog", "show"]);
    assert!(
        text.contains("QUARANTINED") && text.contains(&block),
        "{text}"
    );
    let (_, text, _) = tool(&data, &["fsck", "--quiet"]);
    assert!(
        text.contains(&format!("damaged: blocks/{block}/strings.parquet")),
        "{text}"
    );
    assert!(
        text.contains(&format!("quarantined: blocks/{block}")),
        "{text}"
    );
    assert!(text.contains("scoria catalog release"), "{text}");

    // The cause is gone, and yet it is left alone until somebody says so.
    flip();
    let (_, text, _) = tool(&data, &["fsck", "--quiet"]);
    assert!(
        text.contains(&format!("quarantined: blocks/{block}")),
        "{text}"
    );
    assert!(!text.contains("damaged: blocks"), "{text}");
    assert!(
        text.ends_with("\nsound, apart from what is quarantined\n"),
        "{text}"
    );
    let (code, text, _) = tool(&data, &["catalog", "release", &block]);
    assert_eq!(
        (code, &*text),
        (Some(0), &*format!("released block {block}\n"))
    );
    let (code, _, said) = tool(&data, &["catalog", "release", &block]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing of block"), "{said}");

    let compactor = compact("second");
    let merged = |shown: &Value| {
        let blocks = shown["blocks"].as_array().cloned().unwrap_or_default();
        blocks.iter().any(|block| block["level"] != 0)
    };
    assert!(
        compactor.wait_for(PATIENCE, || merged(&show())),
        "{}",
        compactor.log_end()
    );
    assert!(compactor.terminate().success());
    let (code, text, _) = tool(&data, &["fsck", "--quiet"]);
    assert_eq!(code, Some(0), "{text}");
    let server = ServerProcess::start(&data, &args);
    assert_eq!(server.self_by_function("merged").get("late"), Some(&7));
}

#[test]
fn a_stream_whose_log_is_lost_is_named_and_can_be_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, ledger) = flushed(dir.path());
    let server = ServerProcess::start(&data, &[]);
    assert_eq!(
        server
            .ingest(
                "lost",
                &scoria_tests::ledger::profile(1, scoria_tests::process::now_ns())
            )
            .map(|a| a.status),
        Some(200)
    );
    server.kill();
    std::fs::remove_dir_all(data.join("ingester")).expect("removable");

    let (code, shown) = tool_json(&data, &["catalog", "show", "--json"]);
    assert_eq!(code, Some(0));
    let open: Vec<&str> = shown["streams"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|stream| stream["open"] == true)
        .filter_map(|stream| stream["stream"].as_str())
        .collect();
    let [stream] = open.as_slice() else {
        panic!("{shown}");
    };
    let (code, _, warned) = tool(&data, &["catalog", "close-stream", "--stream", stream]);
    assert_eq!(code, Some(0));
    assert!(warned.contains("WARNING"), "{warned}");
    let (code, text, _) = tool(
        &data,
        &["catalog", "close-stream", "--stream", stream, "--yes"],
    );
    assert_eq!(code, Some(0), "{text}");
    let (code, _, error) = tool(
        &data,
        &["catalog", "close-stream", "--stream", "no.0.0", "--yes"],
    );
    assert_eq!(code, Some(1));
    assert!(error.contains("no.0.0"), "{error}");
    let server = ServerProcess::start(&data, &[]);
    ledger.check(&server);
}

#[test]
fn usage_is_told_by_service_and_priced() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, _) = flushed(dir.path());
    let arguments = [
        "usage",
        "--json",
        "--by-type",
        "--set",
        "usage.price_gb_month=1000000",
    ];
    let (code, report) = tool_json(&data, &arguments);
    assert_eq!(code, Some(0), "{report}");
    let service = &report["services"][0];
    assert_eq!(service["service"], "tools", "{report}");
    assert_eq!(service["profiles"], 30, "{report}");
    assert!(service["month"]["storage"].as_f64() > Some(0.0), "{report}");
    let kind = &report["profile_types"][0];
    assert_eq!(kind["profiles"], 30, "{report}");
    assert_eq!(
        kind["bytes"], service["bytes"],
        "one type has all of it: {report}"
    );
    let server = ServerProcess::start(&data, &[]);
    let answer = server.get("/api/v1/usage").expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    let online: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(online["services"][0]["bytes"], service["bytes"], "{online}");
    assert!(online["requests"]["puts"].as_f64() > Some(0.0), "{online}");
}

#[test]
fn what_is_copied_opens_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let (wanted, other) = (Ledger::new("wanted"), Ledger::new("other"));
    let server = ServerProcess::start(&data, &[]);
    for _ in 0..10 {
        assert_eq!(wanted.push_one(&server), Some(200));
        assert_eq!(other.push_one(&server), Some(200));
    }
    assert!(server.terminate().success());
    let copy = dir.path().join("copy");
    let url = format!("file://{}/store", copy.display());
    let arguments = [
        "copy",
        "--json",
        "--selector",
        "{service_name=\"wanted\"}",
        "--to",
        &url,
    ];
    let (code, copied) = tool_json(&data, &arguments);
    assert_eq!(
        (code, &copied["profiles"]),
        (Some(0), &Value::from(10)),
        "{copied}"
    );
    // A second time it would overwrite a catalogue.
    let (code, _, error) = tool(&data, &arguments);
    assert_eq!(code, Some(1));
    assert!(error.contains("has a catalogue already"), "{error}");

    let (code, text, _) = tool(&copy, &["fsck", "--quiet"]);
    assert_eq!(code, Some(0), "{text}");
    let server = ServerProcess::start(&copy, &[]);
    wanted.check(&server);
    assert!(server.self_by_function("other").is_empty());
}
