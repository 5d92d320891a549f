//! Compaction by the built binary: compactors that are killed at any moment, two of them, under
//! load, and deletions that count at once.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};

const SERVICE: &str = "compacted";
/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Profiles of an hour that is over, so that what is flushed can be merged at once.
fn profile(n: u64) -> TestProfile {
    let stack = vec!["main".to_owned(), format!("request_{n}")];
    let time_ns = now_ns() - 90 * 60 * 1_000_000_000;
    TestProfile::cpu(time_ns, [(stack, value_of(n))])
}

fn value_of(n: u64) -> i64 {
    1000 + n as i64 % 977
}

fn start_compactor(data: &Path, store: &str) -> ServerProcess {
    ServerProcess::start(
        data,
        &[
            "--target",
            "compactor",
            "--store-url",
            store,
            "--set",
            "compactor.interval=50ms",
        ],
    )
}

/// The value of a sample line that begins so.
fn metric(server: &ServerProcess, begins: &str) -> f64 {
    let page = server.get("/metrics").map(|answer| answer.body);
    let page = page.unwrap_or_default();
    let line = page.lines().find(|line| line.starts_with(begins));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or(0.0)
}

/// Every profile that was answered 200 is shown once.
fn check(server: &ServerProcess, acknowledged: &Mutex<Vec<u64>>) {
    let acknowledged = acknowledged.lock().expect("no writer panicked").clone();
    let shown = server.self_by_function(SERVICE);
    for n in acknowledged {
        let found = shown.get(&format!("request_{n}")).copied();
        assert_eq!(found, Some(value_of(n)), "profile {n}");
    }
}

#[test]
fn compactors_are_killed_under_load_and_nothing_is_lost_or_doubled() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = format!("file://{}", dir.path().join("store").display());
    std::fs::create_dir_all(dir.path().join("store")).expect("a directory");
    let server = ServerProcess::start(
        &dir.path().join("data"),
        &[
            "--store-url",
            &store,
            "--set",
            "ingester.cut_age=200ms",
            "--set",
            "limits.reject_older_than_ms=0",
            "--set",
            "compactor.interval=50ms",
        ],
    );
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    let n = next.fetch_add(1, Ordering::AcqRel);
                    let reply = server.ingest(SERVICE, &profile(n));
                    if reply.is_some_and(|reply| reply.status == 200) {
                        acknowledged.lock().expect("no writer panicked").push(n);
                    }
                }
            });
        }
        for round in 0..5u64 {
            let second = start_compactor(&dir.path().join(format!("second-{round}")), &store);
            // The kill falls somewhere else each round; what it hits is the point, not the time.
            std::thread::sleep(Duration::from_millis(30 + round * 171));
            second.kill();
            check(&server, &acknowledged);
        }
        stop.store(true, Ordering::Release);
    });
    let merged = "scoria_compaction_jobs_total{level=\"1\",outcome=\"done\"}";
    let last = start_compactor(&dir.path().join("last"), &store);
    let idle = server.wait_for(PATIENCE, || {
        let done = metric(&server, merged) + metric(&last, merged);
        done > 0.0 && metric(&last, "scoria_compaction_backlog_slices ") == 0.0
    });
    assert!(idle, "{}", last.log_end());
    check(&server, &acknowledged);
    assert!(next.load(Ordering::Acquire) > 20);
    assert!(last.terminate().success());
    assert!(server.terminate().success());
}

#[test]
fn what_is_deleted_is_gone_at_once_and_stays_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let arguments = [
        "--set",
        "limits.reject_older_than_ms=0",
        "--set",
        "compactor.interval=100ms",
    ];
    let server = ServerProcess::start(&data, &arguments);
    for n in 0..5 {
        let reply = server.ingest(SERVICE, &profile(n)).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
        let reply = server.ingest("other", &profile(n)).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let delete = |server: &ServerProcess, verb: &[&str]| {
        let output = std::process::Command::new(scoria_tests::process::binary())
            .args(["delete", "--url", &server.url, "--before", "now"])
            .args(["--selector", &format!("{{service_name=\"{SERVICE}\"}}")])
            .args(verb)
            .output()
            .expect("the binary runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{error}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        answer
    };
    let answer = delete(&server, &["--dry-run"]);
    assert_eq!(answer["dryRun"], true, "{answer}");
    assert_eq!(server.self_by_function(SERVICE).len(), 5);
    // They are in heads only, and gone with the answer.
    let receipt = delete(&server, &[]);
    assert!(receipt["id"].is_string(), "{receipt}");
    assert!(server.self_by_function(SERVICE).is_empty());
    assert_eq!(server.self_by_function("other").len(), 5);
    assert!(server.terminate().success());
    // Flushed, merged, and after a restart still gone.
    let server = ServerProcess::start(&data, &arguments);
    assert!(server.self_by_function(SERVICE).is_empty());
    assert_eq!(server.self_by_function("other").len(), 5);
    let merged = server.wait_for(PATIENCE, || {
        let answer = server.get("/api/v1/deletions").expect("an answer");
        let answer: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let done = metric(
            &server,
            "scoria_compaction_jobs_total{level=\"1\",outcome=\"done\"}",
        );
        answer["deletions"][0]["pending"]["blocks"] == 0 && done > 0.0
    });
    assert!(merged, "{}", server.log_end());
    assert!(server.self_by_function(SERVICE).is_empty());
    assert_eq!(server.self_by_function("other").len(), 5);
    assert!(server.terminate().success());
}
