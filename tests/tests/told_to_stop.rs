//! How a server ends that is told to stop before it is ready.

use std::time::Duration;

use scoria_tests::process::ServerProcess;
use scoria_tests::seaweed::Seaweed;

/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_server_that_is_told_to_stop_before_it_is_ready_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    // Nobody listens there, so the start waits for the store.
    let nobody = scoria_tests::process::free_port();
    let arguments = Seaweed::arguments("x", nobody);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = ServerProcess::spawn(&dir.path().join("data"), &arguments, None);
    let waits = server.wait_for(PATIENCE, || {
        let answer = server.ready();
        answer.is_some_and(|a| a.body.contains("waiting for the object store"))
    });
    assert!(waits, "{}", server.log_end());
    assert_eq!(server.terminate().code(), Some(6));
}
