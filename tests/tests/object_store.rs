//! The built binary on a real S3 server: everything that the durability tests ask of a directory.
//!
//! `tests/stores/run.sh` installs the server and runs this; a plain `cargo test` leaves it out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scoria_tests::authority::Authority;
use scoria_tests::ledger::{Ledger, profile, value_of};
use scoria_tests::process::{ServerProcess, now_ns};
use scoria_tests::seaweed::{BUCKET, SECRET_KEY, Seaweed};

/// How long anything may take that is waited for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn start(data: &Path, arguments: &[String]) -> ServerProcess {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    ServerProcess::start(data, &arguments)
}

fn with(mut arguments: Vec<String>, settings: &[&str]) -> Vec<String> {
    for setting in settings {
        arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
    }
    arguments
}

/// The value of a metric, summed over the label sets whose text contains `labels`.
fn metric(server: &ServerProcess, name: &str, labels: &str) -> f64 {
    let text = server.get("/metrics").expect("metrics").body;
    let lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(labels));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[test]
#[ignore = "needs a real S3 server; tests/stores/run.sh runs it"]
fn what_s3_keeps_survives_kill_9_and_the_loss_of_the_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let weed = Seaweed::start(&dir.path().join("weed"));
    let data = dir.path().join("data");
    let arguments = with(
        Seaweed::arguments("deep/prefix", weed.port),
        &["ingester.cut_age=300ms"],
    );
    let ledger = Ledger::new("on-s3");
    for round in 0..4 {
        let server = start(&data, &arguments);
        ledger.check(&server);
        let before = ledger.acknowledged();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| ledger.write_until(&server, &stop));
            // The kill falls somewhere else each round.
            let enough = before + 10 + 7 * round;
            let written = server.wait_for(PATIENCE, || ledger.acknowledged() > enough);
            stop.store(!written, Ordering::Release);
            assert!(written, "{}", server.log_end());
            let pid = rustix::process::Pid::from_raw(server.pid() as i32).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
            stop.store(true, Ordering::Release);
        });
        server.kill();
    }
    let server = start(&data, &arguments);
    ledger.check(&server);
    for (name, labels) in [
        ("objstore_bucket_operations_total", "operation=\"upload\""),
        ("objstore_bucket_operation_duration_seconds_count", BUCKET),
        (
            "scoria_object_store_attempts_total",
            "purpose=\"catalogue\"",
        ),
    ] {
        assert!(metric(&server, name, labels) > 0.0, "{name} {labels}");
    }
    assert!(server.terminate().success());
    // All of it is in the bucket: a machine without the log answers the same.
    let elsewhere = start(&dir.path().join("elsewhere"), &arguments);
    ledger.check(&elsewhere);
    assert!(
        metric(
            &elsewhere,
            "scoria_object_store_attempts_total",
            "purpose=\"query\""
        ) > 0.0
    );
}

#[test]
#[ignore = "needs a real S3 server; tests/stores/run.sh runs it"]
fn two_prefixes_of_one_bucket_know_nothing_of_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let weed = Seaweed::start(&dir.path().join("weed"));
    for (n, prefix) in ["a", "a/b", ""].iter().enumerate() {
        let n = n as u64;
        let data = dir.path().join(format!("data-{n}"));
        let server = start(&data, &Seaweed::arguments(prefix, weed.port));
        let answer = server.ingest("alone", &profile(n, now_ns()));
        assert_eq!(answer.map(|a| a.status), Some(200));
        let expected = BTreeMap::from([(format!("request_{n}"), value_of(n))]);
        assert_eq!(server.self_by_function("alone"), expected);
        assert!(server.terminate().success());
    }
}

/// The real server's certificate is by an authority that only `store.ca_file` makes known.
#[test]
#[ignore = "needs a real S3 server; tests/stores/run.sh runs it"]
fn a_certificate_of_an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let weed = Seaweed::start_with_tls(&dir.path().join("weed"), &authority);
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, &authority.authority).expect("writable");
    let endpoint = format!("store.endpoint=https://127.0.0.1:{}", weed.tls_port);
    let trusted = format!("store.ca_file={}", ca_file.display());
    let data = dir.path().join("data");
    let over_tls = with(Seaweed::arguments("tls", weed.port), &[&endpoint]);

    let server = start(&data, &with(over_tls.clone(), &[&trusted]));
    let ledger = Ledger::new("over-tls");
    assert_eq!(ledger.push_one(&server), Some(200));
    assert!(server.terminate().success());
    std::fs::remove_dir_all(&data).expect("the disk is lost");
    let server = start(&data, &with(over_tls.clone(), &[&trusted]));
    ledger.check(&server);
    assert!(server.terminate().success());

    // Without that it is waited for, as is any store that cannot be reached, and the log says why.
    let arguments = with(over_tls, &["store.attempts=1"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = ServerProcess::spawn(&data, &arguments, None);
    let said = || server.log_end().contains("certificate");
    assert!(server.wait_for(PATIENCE, said), "{}", server.log_end());
}

/// Runs the binary until it ends, and gives its exit code and log.
fn refused(data: &Path, arguments: &[String]) -> (Option<i32>, String) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut server = ServerProcess::spawn(data, &arguments, None);
    let code = server.wait_for_end(Duration::from_secs(60));
    (code, server.log_end())
}

#[test]
#[ignore = "needs a real S3 server; tests/stores/run.sh runs it"]
fn what_cannot_work_is_refused_with_the_remedy_and_without_the_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let weed = Seaweed::start(&dir.path().join("weed"));
    let right = Seaweed::arguments("x", weed.port);
    let wrong_key = with(right, &["store.secret_access_key=wrong-7f3a"]);
    let (code, log) = refused(&dir.path().join("a"), &wrong_key);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("store.credentials"), "{log}");
    assert!(!log.contains("wrong-7f3a"), "{log}");
    assert!(!log.contains(SECRET_KEY), "{log}");
}
