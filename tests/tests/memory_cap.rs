//! A real memory cap: over it writes are answered 429 or 503 with Retry-After, and the process is
//! never killed for memory.
//!
//! Needs the right to make a memory cgroup (version 1 or 2); without it the test says so loudly.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{Answer, ServerProcess, everything, now_ns};

const CAP_BYTES: u64 = 192 * 1024 * 1024;
/// Of each greedy profile.
const STACKS: u64 = 4000;

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
            // In a directory that is no control group the same names would be plain files.
            let made_by_kernel = group.procs().exists() && group.dir.join(limit).exists();
            (made_by_kernel && fs::write(group.dir.join(limit), CAP_BYTES.to_string()).is_ok())
                .then_some(group)
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
    let stacks = (0..STACKS).map(|i| {
        let id = n * STACKS + i;
        (
            (0..12)
                .map(|depth| format!("fn_{:x}_{depth}", id ^ (depth * 77)))
                .collect(),
            1,
        )
    });
    TestProfile::cpu(now_ns(), stacks)
}

/// Where nothing can be written: a file stands in the place of the store's directory.
struct StoreGone {
    store: PathBuf,
    aside: PathBuf,
}

impl StoreGone {
    fn begin(store: &Path) -> Self {
        let aside = store.with_extension("aside");
        fs::rename(store, &aside).expect("the store can be moved");
        fs::write(store, b"").expect("a file in its place");
        Self {
            store: store.to_owned(),
            aside,
        }
    }

    fn end(self) {
        fs::remove_file(&self.store).expect("the file goes");
        fs::rename(&self.aside, &self.store).expect("the store comes back");
    }
}

/// Pushes until it is refused, more than the cap could ever hold; the refusal and how many
/// profiles were taken before it.
fn push_until_refused(server: &ServerProcess) -> (Option<Answer>, u64) {
    let bytes = greedy(0).encode().len() as u64;
    for n in 0..=CAP_BYTES / bytes {
        match server.ingest("greedy", &greedy(n)) {
            Some(answer) if answer.status == 200 => {}
            refused => return (refused, n),
        }
    }
    (None, CAP_BYTES / bytes)
}

#[test]
fn over_the_cap_writes_are_shed_and_the_process_lives() {
    let Some(group) = Cgroup::new() else {
        eprintln!("SKIPPED: no right to make a memory cgroup, so no cap can be tested here");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let url = format!("file://{}", store.display());
    let wrapper = enter(&group.procs());
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    // The server finds its cap in the cgroup by itself.
    let arguments = [
        "--store-url",
        &url,
        "--set",
        "limits.max_profile_size_bytes=64MiB",
        "--set",
        "limits.ingestion_rate_bytes=10GiB",
        "--set",
        "limits.ingestion_burst_bytes=10GiB",
    ];
    let mut server = ServerProcess::spawn(&dir.path().join("data"), &arguments, Some(&wrapper));
    server.wait_until_ready();

    // Nothing can be flushed, so that memory must fill, however fast the machine is.
    let gone = StoreGone::begin(&store);
    let (refusal, taken) = push_until_refused(&server);
    assert!(
        server.alive(),
        "the process was not killed for memory after {taken} profiles:\n{}",
        server.log_end()
    );
    let refusal = refusal.expect("it is refused before the cap is reached");
    assert!(
        taken > 0 && [429, 503].contains(&refusal.status),
        "{taken} taken, then {refusal:?}"
    );
    assert!(
        refusal.retry_after.is_some(),
        "a client is told when to come back: {refusal:?}"
    );
    gone.end();
    let answers = server.wait_for(Duration::from_secs(120), || {
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
    assert_eq!(
        server.total("greedy"),
        (taken * STACKS) as f64,
        "counted once"
    );
    // A flame graph of everything is more than this server may have at a time.
    for _ in 0..3 {
        let (status, reply) = server.call("SelectMergeStacktraces", &everything("greedy"));
        assert!([200, 429].contains(&status), "{status} {reply}");
        assert!(server.alive(), "{}", server.log_end());
    }
    let later = server.self_by_function("modest").get("later").copied();
    assert!(later.is_some_and(|value| value >= 5), "{later:?}");
    server.kill();
}
