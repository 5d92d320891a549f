//! The object store of the simulation: what is in it, and what becomes of each request.
//!
//! It only decides; the world carries the decisions out at their times, so that a write may land
//! long after its sender was told that nobody knows.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use scoria_storage::testing::{Fault, FaultPlan, Seeded};

/// After this long a client gives up waiting for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a write is conditional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutKind {
    Create,
    Overwrite,
}

/// What a writer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutAnswer {
    Stored,
    Exists,
    Unclear,
}

/// What a reader is told.
#[derive(Debug, Clone)]
pub enum GetAnswer {
    Found(Bytes),
    Absent,
    Failed,
}

/// What becomes of a write: when it lands, if it does, and when which answer arrives.
#[derive(Debug, Clone, Copy)]
pub struct PutCourse {
    pub fault: Fault,
    pub lands: Option<Duration>,
    pub answered: Duration,
    /// The answer whatever the landing finds; otherwise what it finds is told.
    pub answer: Option<PutAnswer>,
}

/// The objects and the faults.
#[derive(Debug)]
pub struct Bucket {
    objects: BTreeMap<String, Bytes>,
    seeded: Seeded,
    pub plan: FaultPlan,
}

impl Bucket {
    pub fn new(seeded: Seeded, plan: FaultPlan) -> Self {
        Self {
            objects: BTreeMap::new(),
            seeded,
            plan,
        }
    }

    pub fn object(&self, key: &str) -> Option<&Bytes> {
        self.objects.get(key)
    }

    /// Draws the course of a write that is sent at `now`.
    pub fn course_of_put(&mut self, kind: PutKind, now: Duration) -> PutCourse {
        let fault = match self.plan.on_write() {
            Fault::Conflict | Fault::Precondition | Fault::SentTwice
                if kind == PutKind::Overwrite =>
            {
                Fault::None
            }
            fault => fault,
        };
        let there = now + self.latency();
        let back = there + self.latency();
        let course = |lands, answered, answer| PutCourse {
            fault,
            lands,
            answered,
            answer,
        };
        match fault {
            Fault::None => course(Some(there), back, None),
            Fault::Slow(wait) => course(Some(there + wait), back + wait, None),
            Fault::LostReply => course(Some(there), now + TIMEOUT, Some(PutAnswer::Unclear)),
            Fault::SentTwice => course(Some(there), back, Some(PutAnswer::Exists)),
            Fault::Conflict | Fault::Precondition => course(None, back, Some(PutAnswer::Exists)),
            Fault::ServerError => course(None, back, Some(PutAnswer::Unclear)),
            Fault::Timeout => course(None, now + TIMEOUT, Some(PutAnswer::Unclear)),
            Fault::Late(wait) => course(
                Some(now + TIMEOUT + wait * 4),
                now + TIMEOUT,
                Some(PutAnswer::Unclear),
            ),
        }
    }

    /// When a read that is sent at `now` looks, and whether it fails.
    pub fn course_of_get(&mut self, now: Duration) -> (Duration, Fault) {
        let fault = self.plan.on_read();
        let at = now + self.latency();
        match fault {
            Fault::Slow(wait) => (at + wait, Fault::None),
            Fault::None | Fault::ServerError => (at, fault),
            _ => (now + TIMEOUT, fault),
        }
    }

    /// A write arrives.
    pub fn land(&mut self, key: &str, bytes: Bytes, kind: PutKind) -> PutAnswer {
        if kind == PutKind::Create && self.objects.contains_key(key) {
            return PutAnswer::Exists;
        }
        self.objects.insert(key.to_owned(), bytes);
        PutAnswer::Stored
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(500 + self.seeded.below(40_000))
    }
}
