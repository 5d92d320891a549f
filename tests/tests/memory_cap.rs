//! A real memory cap: over it writes are answered 429 or 503 with Retry-After, and the process is
//! never killed for memory.
//!
//! Needs the right to make a memory cgroup (version 1 or 2); without it the test says so loudly.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};

const CAP_BYTES: u64 = 192 * 1024 * 1024;

/// A cgroup with a memory limit; removed when dropped.
struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    fn new() -> Option<Self> {
        let name = format!("scoria-test-{}", std::process::id());
        let candidates = [
            (
                PathBuf::from("/sys/fs/cgroup/memory").join(&name),
                "memory.limit_in_bytes",
            ),
            (PathBuf::from("/sys/fs/cgroup").join(&name), "memory.max"),
        ];
        candidates.into_iter().find_map(|(dir, limit)| {
            fs::create_dir(&dir).ok()?;
            let group = Self { dir };
            fs::write(group.dir.join(limit), CAP_BYTES.to_string()).ok()?;
            Some(group)
        })
    }

    fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.dir));
    }
}

/// A shell that enters the cgroup and becomes the server.
fn enter(procs: &Path) -> [String; 4] {
    let script = format!("echo $$ > {} && exec \"$@\"", procs.display());
    ["sh".into(), "-c".into(), script, "sh".into()]
}

/// Distinct deep stacks, the most memory for the fewest bytes.
fn greedy(n: u64) -> TestProfile {
    let stacks = (0..4000u64).map(|i| {
        let id = n * 4000 + i;
        (
            (0..12)
                .map(|depth| format!("fn_{:x}_{depth}", id ^ (depth * 77)))
                .collect(),
            1,
        )
    });
    TestProfile::cpu(now_ns(), stacks)
}

#[test]
fn over_the_cap_writes_are_shed_and_the_process_lives() {
    let Some(group) = Cgroup::new() else {
        eprintln!("SKIPPED: no right to make a memory cgroup, so no cap can be tested here");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let wrapper = enter(&group.procs());
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    // The server finds its cap in the cgroup by itself.
    let arguments = [
        "--set",
        "limits.max_profile_size_bytes=64MiB",
        "--set",
        "limits.ingestion_rate_bytes=10GiB",
        "--set",
        "limits.ingestion_burst_bytes=10GiB",
    ];
    let mut server = ServerProcess::spawn(&dir.path().join("data"), &arguments, Some(&wrapper));
    server.wait_until_ready();

    let mut shed = None;
    for n in 0..400 {
        let Some(reply) = server.ingest("greedy", &greedy(n)) else {
            break;
        };
        assert!([200, 429, 503].contains(&reply.status), "{reply:?}");
        if reply.status != 200 {
            shed = Some(reply);
            break;
        }
    }
    assert!(
        server.alive(),
        "the process was not killed for memory:\n{}",
        server.log_end()
    );
    if let Some(reply) = shed {
        assert!(
            reply.retry_after.is_some(),
            "a client is told when to come back: {reply:?}"
        );
    }
    let answers = server.wait_for(Duration::from_secs(60), || {
        let marker = TestProfile::cpu(now_ns(), [(vec!["main".into(), "later".into()], 5)]);
        server
            .ingest("modest", &marker)
            .is_some_and(|a| a.status == 200)
    });
    assert!(
        answers,
        "it takes writes again once memory is flushed:\n{}",
        server.log_end()
    );
    let later = server.self_by_function("modest").get("later").copied();
    assert!(later.is_some_and(|value| value >= 5), "{later:?}");
    server.kill();
}
