//! The built binary with a runtime file: limits change under load, survive a broken file, and no
//! server starts on one.

use std::path::Path;
use std::time::Duration;

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};

const PATIENCE: Duration = Duration::from_secs(60);
const SERVICE: &str = "limited";

/// A profile of so many samples.
fn profile(samples: usize) -> TestProfile {
    let stacks = (0..samples).map(|n| (vec!["main".to_owned(), format!("f{n}")], 1));
    TestProfile::cpu(now_ns(), stacks)
}

fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("a file");
    std::fs::rename(beside, path).expect("renamed");
}

fn limited(samples: u64) -> String {
    format!("overrides:\n  anonymous:\n    max_profile_stacktrace_samples: {samples}\n")
}

/// Waits until a profile of two samples is answered so.
fn until(server: &ServerProcess, status: u16) {
    let reached = server.wait_for(PATIENCE, || {
        let answer = server.ingest(SERVICE, &profile(2));
        answer.is_some_and(|answer| answer.status == status)
    });
    assert!(reached, "no {status}; the log ends:\n{}", server.log_end());
}

#[test]
fn a_file_that_changes_breaks_and_mends() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("runtime.yaml");
    let name = file.display().to_string();
    write(&file, &limited(1));
    let arguments = [
        "--runtime-config",
        &name,
        "--set",
        "runtime_config.period=20ms",
    ];
    let server = ServerProcess::start(&dir.path().join("data"), &arguments);
    let refused = server.ingest(SERVICE, &profile(2)).expect("an answer");
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(
        refused
            .body
            .contains("max_profile_stacktrace_samples, actual: 2, limit: 1")
    );

    write(&file, &limited(2));
    until(&server, 200);
    write(
        &file,
        "overrides:\n  anonymous: {max_profile_stacktrace_samples: few}\n",
    );
    let broken = server.wait_for(PATIENCE, || {
        let status = server.get("/api/v1/status/runtime_config");
        status.is_some_and(|status| status.body.contains("\"last_reload_successful\":false"))
    });
    assert!(broken, "{}", server.log_end());
    until(&server, 200);
    let metrics = server.get("/metrics").expect("metrics").body;
    assert!(metrics.contains("\npyroscope_runtime_config_last_reload_successful 0\n"));
    assert_eq!(server.ready().map(|ready| ready.status), Some(200));
    write(&file, &limited(1));
    until(&server, 422);
    assert!(server.terminate().success());
}

#[test]
fn no_server_starts_on_a_broken_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("runtime.yaml");
    write(&file, "overrides:\n  a: {no_such_limit: 1}\n");
    let name = file.display().to_string();
    let data = dir.path().join("data");
    let mut server = ServerProcess::spawn(&data, &["--runtime-config", &name], None);
    let mut ended = false;
    for _ in 0..3000 {
        ended = !server.alive();
        if ended {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(ended, "{}", server.log_end());
    let log = server.log_end();
    assert!(log.contains("overrides.a.no_such_limit"), "{log}");
}
