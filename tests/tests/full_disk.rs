//! A full disk: 503, `/ready` red, reads go on, and it recovers by itself when space returns.
//!
//! Needs the right to mount a small tmpfs; without it the test says so loudly and passes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};

const SERVICE: &str = "cramped";

/// Unmounts when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a directory");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(at)
            .status()
            .ok()?;
        status.success().then_some(Self(at))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

/// Large and hard to compress, so that the log fills soon.
fn bulky(n: u64) -> TestProfile {
    let stacks = (0..200).map(|i| {
        let name = |depth: u64| format!("f{:016x}", scatter((n * 1000 + i) * 8 + depth));
        ((0..8).map(name).collect(), 1)
    });
    TestProfile::cpu(now_ns(), stacks)
}

/// SplitMix64's finaliser: no number looks like another's.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn writes_stop_reads_go_on_and_space_heals() {
    let dir = tempfile::tempdir().expect("a directory");
    let mount = dir.path().join("disk");
    let Some(disk) = Tmpfs::mount(&mount) else {
        eprintln!("SKIPPED: no right to mount a tmpfs, so no disk can be filled here");
        return;
    };
    let data = disk.0.join("data");
    let marker = TestProfile::cpu(now_ns(), [(vec!["main".into(), "before".into()], 77)]);
    let server = ServerProcess::start(&data, &[]);
    assert_eq!(server.ingest(SERVICE, &marker).map(|a| a.status), Some(200));

    let refused = (0..1000)
        .map(|n| server.ingest(SERVICE, &bulky(n)).expect("an answer"))
        .find(|a| a.status != 200);
    let refused = refused.expect("eight megabytes fill up");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(
        refused.retry_after.is_some(),
        "a client is told when to come back"
    );
    let red = server.wait_for(Duration::from_secs(10), || {
        server.ready().is_some_and(|a| a.status == 503)
    });
    assert!(red, "readiness shows it");
    assert_eq!(
        server.self_by_function(SERVICE).get("before"),
        Some(&77),
        "reads go on"
    );

    let grown = Command::new("mount")
        .args(["-o", "remount,size=256m"])
        .arg(&mount)
        .status();
    assert!(grown.expect("mount runs").success());
    let green = server.wait_for(Duration::from_secs(30), || {
        server.ready().is_some_and(|a| a.status == 200)
    });
    assert!(
        green,
        "it recovers by itself: {:?}\n{}",
        server.ready(),
        server.log_end()
    );
    let after = TestProfile::cpu(now_ns(), [(vec!["main".into(), "after".into()], 78)]);
    assert_eq!(server.ingest(SERVICE, &after).map(|a| a.status), Some(200));
    let shown = server.self_by_function(SERVICE);
    assert_eq!(
        (shown.get("before"), shown.get("after")),
        (Some(&77), Some(&78))
    );
    server.kill();

    let server = ServerProcess::start(&data, &[]);
    let shown = server.self_by_function(SERVICE);
    assert_eq!(
        (shown.get("before"), shown.get("after")),
        (Some(&77), Some(&78)),
        "and after kill -9"
    );
    drop(server);
}
