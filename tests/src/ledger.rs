//! What was pushed and how it was answered, held against what a server shows (D1-D4).
//!
//! Every profile carries one leaf named by its number with its own value, so that presence and
//! multiplicity can be read from one flame graph.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::pprof_bytes::TestProfile;
use crate::process::{ServerProcess, now_ns};

/// Threads that write at the same time.
const WRITERS: usize = 4;

/// What became of each profile.
#[derive(Debug, Default)]
struct Answers {
    acknowledged: BTreeMap<u64, i64>,
    unknown: BTreeMap<u64, i64>,
}

/// The profiles of one service over several lives of a server.
#[derive(Debug)]
pub struct Ledger {
    service: &'static str,
    next: AtomicU64,
    answers: Mutex<Answers>,
}

/// The value of profile `n`.
pub fn value_of(n: u64) -> i64 {
    1000 + n as i64 % 977
}

/// Profile `n`.
pub fn profile(n: u64, time_ns: i64) -> TestProfile {
    let stack = vec![
        "main".to_owned(),
        "handler".to_owned(),
        format!("request_{n}"),
    ];
    TestProfile::cpu(time_ns, [(stack, value_of(n))])
}

impl Ledger {
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            next: AtomicU64::new(0),
            answers: Mutex::default(),
        }
    }

    /// Pushes one more profile; the answer's status, or `None` when there was none.
    ///
    /// # Panics
    /// When another writer panicked.
    pub fn push_one(&self, server: &ServerProcess) -> Option<u16> {
        let n = self.next.fetch_add(1, Ordering::AcqRel);
        let status = server
            .ingest(self.service, &profile(n, now_ns()))
            .map(|answer| answer.status);
        let mut answers = self.answers.lock().expect("no writer panicked");
        match status {
            Some(200) => answers.acknowledged.insert(n, value_of(n)),
            _ => answers.unknown.insert(n, value_of(n)),
        };
        status
    }

    /// Writes from several threads until told to stop.
    pub fn write_until(&self, server: &ServerProcess, stop: &AtomicBool) {
        std::thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    while !stop.load(Ordering::Acquire) {
                        self.push_one(server);
                    }
                });
            }
        });
    }

    /// How many profiles were answered 200.
    ///
    /// # Panics
    /// When a writer panicked.
    pub fn acknowledged(&self) -> usize {
        let answers = self.answers.lock().expect("no writer panicked");
        answers.acknowledged.len()
    }

    /// D1-D4 against what the server shows now.
    ///
    /// # Panics
    /// When something acknowledged is missing, or anything counts twice or was made up.
    pub fn check(&self, server: &ServerProcess) {
        let answers = self.answers.lock().expect("no writer panicked");
        let mut shown = server.self_by_function(self.service);
        for (n, value) in &answers.acknowledged {
            let found = shown.remove(&format!("request_{n}"));
            assert_eq!(found, Some(*value), "profile {n} was answered 200");
        }
        for (name, value) in shown {
            let n: u64 = name
                .strip_prefix("request_")
                .and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("{name}"));
            assert_eq!(
                answers.unknown.get(&n),
                Some(&value),
                "{name} counts at most once"
            );
        }
    }
}
