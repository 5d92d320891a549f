//! A server whose queries of samples do not end: the samples of its blocks are pipes that nobody
//! writes to, until they are put back.
//!
//! What such a query holds is given back because somebody did something, never because time went
//! by.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pprof_bytes::TestProfile;
use crate::process::{ServerProcess, now_ns};

const PATIENCE: Duration = Duration::from_secs(60);
const SAMPLES: &str = "samples.parquet";

/// The server, and a question that needs samples.
#[derive(Debug)]
pub struct Stuck {
    pub server: ServerProcess,
    /// About the service `shop`, over ten minutes.
    pub question: Value,
    samples: Vec<PathBuf>,
    _data: tempfile::TempDir,
}

/// Files of a name below a directory.
fn files(under: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(under).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, name, found);
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
}

/// The real samples, and a second name of the pipe.
fn beside(samples: &Path) -> (PathBuf, PathBuf) {
    (
        samples.with_extension("real"),
        samples.with_extension("pipe"),
    )
}

impl Stuck {
    /// Each of these tenants has a profile in a block; none means that there is one tenant only.
    ///
    /// # Panics
    /// When the server does not start, take the profiles, or flush them.
    pub fn start(tenants: &[&str], sets: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let place = data.path().join("data");
        let many = format!("auth.multitenancy_enabled={}", !tenants.is_empty());
        let mut arguments = vec!["--set", &many];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        let server = ServerProcess::start(&place, &arguments);
        let now = now_ns();
        let stacks = [(vec!["main".to_owned(), "work".to_owned()], 10)];
        let profile = TestProfile::cpu(now, stacks).encode();
        for tenant in tenants
            .iter()
            .chain(tenants.is_empty().then_some(&"nobody"))
        {
            let path = "/ingest?name=shop&format=pprof&spyName=gospy";
            let reply = server.post(path, &[("x-scope-orgid", tenant)], profile.clone());
            assert_eq!(reply.status, 200, "{tenant}");
        }
        assert!(server.terminate().success());
        let mut samples = Vec::new();
        files(&place, SAMPLES, &mut samples);
        assert!(!samples.is_empty(), "the stop has written a block");
        for samples in &samples {
            let (real, pipe) = beside(samples);
            std::fs::rename(samples, real).expect("the samples go");
            let made = Command::new("mkfifo").arg(samples).status();
            assert!(made.expect("mkfifo runs").success());
            std::fs::hard_link(samples, pipe).expect("a second name");
        }
        let end = now / 1_000_000 + 60_000;
        Self {
            server: ServerProcess::start(&place, &arguments),
            question: json!({
                "profileTypeID": "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
                "labelSelector": "{service_name=\"shop\"}",
                "start": end - 600_000,
                "end": end,
            }),
            samples,
            _data: data,
        }
    }

    /// A figure of the server's metrics.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn figure(&self, name: &str) -> f64 {
        let metrics = self.server.get("/metrics").expect("metrics").body;
        let line = metrics.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(' ')?;
            value.parse().ok()
        });
        line.unwrap_or_else(|| panic!("{name} is missing:\n{metrics}"))
    }

    /// Queries that run, queries that wait, and bytes of memory that they hold.
    pub fn held(&self) -> (f64, f64, f64) {
        (
            self.figure("scoria_queries_running"),
            self.figure("scoria_queries_waiting"),
            self.figure("scoria_memory_used_bytes{share=\"queries\"}"),
        )
    }

    /// # Panics
    /// When it is not so within a minute.
    pub fn wait_until(&self, what: &str, holds: impl Fn((f64, f64, f64)) -> bool) {
        let reached = self.server.wait_for(PATIENCE, || holds(self.held()));
        assert!(reached, "{what}: {:?}", self.held());
    }

    /// Puts the samples back. Who reads a pipe by then finds it empty.
    ///
    /// # Panics
    /// When the files cannot be renamed.
    pub fn release(&self) {
        for samples in &self.samples {
            std::fs::rename(beside(samples).0, samples).expect("the samples come back");
        }
        self.wake();
    }

    /// Wakes the threads that wait for somebody to write.
    fn wake(&self) {
        for samples in &self.samples {
            let pipe = beside(samples).1;
            drop(std::fs::File::options().read(true).write(true).open(pipe));
        }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.wake();
    }
}
