//! D1-D4 on the built binary: what was answered 200 is there once, whatever was killed when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use scoria_tests::ledger::{Ledger, profile, value_of};
use scoria_tests::process::{ServerProcess, now_ns};

const SERVICE: &str = "durable";

#[test]
fn everything_acknowledged_survives_kill_9_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let ledger = Ledger::new(SERVICE);
    // A cut every 300 ms, so that kills also fall into flushes, commits and truncations.
    let arguments = ["--set", "ingester.cut_age=300ms"];
    for round in 0..8u64 {
        let server = ServerProcess::start(&data, &arguments);
        ledger.check(&server);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| ledger.write_until(&server, &stop));
            // The kill falls somewhere else each round; what it hits is the point, not the time.
            std::thread::sleep(std::time::Duration::from_millis(150 + round * 137));
            let pid = rustix::process::Pid::from_raw(server.pid() as i32).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
            stop.store(true, Ordering::Release);
        });
        server.kill();
    }
    let server = ServerProcess::start(&data, &arguments);
    assert!(
        ledger.acknowledged() > 50,
        "the test wrote something: {}",
        ledger.acknowledged()
    );
    ledger.check(&server);
    assert!(server.terminate().success());
}

#[test]
fn a_resend_counts_once_also_across_kill_9_and_flush() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let sent = profile(7, now_ns());
    let expected = BTreeMap::from([("request_7".to_owned(), value_of(7))]);

    let server = ServerProcess::start(&data, &[]);
    for _ in 0..2 {
        assert_eq!(server.ingest(SERVICE, &sent).map(|a| a.status), Some(200));
    }
    assert_eq!(
        server.self_by_function(SERVICE),
        expected,
        "within one process"
    );
    server.kill();

    let server = ServerProcess::start(&data, &[]);
    assert_eq!(server.ingest(SERVICE, &sent).map(|a| a.status), Some(200));
    assert_eq!(server.self_by_function(SERVICE), expected, "across kill -9");
    // SIGTERM flushes and truncates the log.
    assert!(server.terminate().success());

    let server = ServerProcess::start(&data, &[]);
    assert_eq!(server.ingest(SERVICE, &sent).map(|a| a.status), Some(200));
    assert_eq!(
        server.self_by_function(SERVICE),
        expected,
        "across flush and truncation"
    );
    assert!(server.terminate().success());
}

#[test]
fn a_torn_tail_is_cut() {
    let (_dir, data, segment) = twenty_profiles_and_kill_9();
    let whole = std::fs::read(&segment).expect("a readable segment");
    std::fs::write(&segment, [&whole[..], b"\x40\x00\x00\x00torn"].concat()).expect("writable");
    let server = ServerProcess::start(&data, &[]);
    assert_eq!(
        server.self_by_function(SERVICE).len(),
        20,
        "nothing acknowledged went with the tail"
    );
}

#[test]
fn damage_in_the_middle_is_named_and_nothing_is_made_up() {
    // A log of its own: a server that replayed it may already have flushed it to a block, where
    // damage to what is left of the log no longer costs anything.
    let (_dir, data, segment) = twenty_profiles_and_kill_9();
    let mut damaged = std::fs::read(&segment).expect("a readable segment");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    std::fs::write(&segment, damaged).expect("writable");
    let server = ServerProcess::start(&data, &[]);
    let name = segment
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a name")
        .to_owned();
    assert!(
        server.log_end().contains(&name),
        "the damage is reported with its file"
    );
    let shown = server.self_by_function(SERVICE);
    assert!(
        shown.len() < 20,
        "damaged records are not made up: {shown:?}"
    );
    for (name, value) in shown {
        let n = name
            .trim_start_matches("request_")
            .parse()
            .expect("a number");
        assert_eq!(value, value_of(n));
    }
}

/// A data directory whose server took twenty profiles and was killed, and its segment.
fn twenty_profiles_and_kill_9() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let server = ServerProcess::start(&data, &[]);
    for n in 0..20 {
        assert_eq!(
            server
                .ingest(SERVICE, &profile(n, now_ns()))
                .map(|a| a.status),
            Some(200)
        );
    }
    server.kill();
    let segment = newest_segment(&data);
    (dir, data, segment)
}

/// The largest log segment, where the records are.
fn newest_segment(data: &std::path::Path) -> std::path::PathBuf {
    let mut open = vec![data.join("ingester/log")];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true if path.ends_with("quarantine") => {}
                true => open.push(path),
                false if path.extension().is_some_and(|e| e == "log") => {
                    found.push((path.metadata().expect("metadata").len(), path));
                }
                false => {}
            }
        }
    }
    found.into_iter().max().expect("there is a segment").1
}
