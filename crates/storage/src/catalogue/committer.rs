//! The commit loop as a state machine without IO: events in, the next request out.
//!
//! ```text
//! start ──> Put n+1 ──stored──────────────────────────────> Committed
//!   ^          |
//!   |          └─ exists (409, 412), timeout, 5xx ─> Get n+1 ─ absent ─> Put n+1, the same bytes
//!   |                                                   | our nonce ─────> Committed (C4)
//!   └── another's: fold it in, check the preconditions <┘                  Conflict
//! ```
//!
//! # Invariants
//! - An error of a write is never believed: only reading the entry tells whose it is. A store
//!   client may have sent the request twice and report the second answer.
//! - After a write without a known outcome the machine ends with [`Outcome::Unknown`] unless it has
//!   seen who took the number. It never says that nothing happened while the write may still land.
//! - Nothing is put on a view that was last seen to be current more than [`VIEW_AGE_MAX`] ago, and
//!   what was put is believed to stand in the log only within [`BELIEVED_FOR`]: a process that slept
//!   in between may have made a number anew that was taken, and cleared away since.
//! - Time and the nonce come from the caller; the same events give the same requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use scoria_model::CatalogueVersion;

use super::entry::{Entry, EntryError};
use super::state::{CatalogueState, Violation};
use super::txn::{Txn, Unmet};

/// How long ago a view may have been seen to be the newest for a commit to follow it.
pub const VIEW_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// How long after its view was seen to be current a commit may still find that it succeeded. Well
/// below the age at which entries are cleared away.
pub const BELIEVED_FOR: Duration = Duration::from_secs(24 * 3600);

const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What to commit, on what.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    pub txn: Txn,
    /// Drawn at random, never used twice.
    pub nonce: u128,
    pub view: Arc<CatalogueState>,
    /// When `view` was last seen to be the newest version, on the clock of every `now` here.
    pub view_current_at: Duration,
    /// When to give up.
    pub deadline: Duration,
}

/// What to do next.
#[derive(Debug, Clone)]
pub enum Action {
    /// Write the entry of `version` if there is none yet, after waiting for `delay`.
    Put {
        version: CatalogueVersion,
        entry: Bytes,
        delay: Duration,
    },
    /// Read the entry of `version`, after waiting for `delay`.
    Get {
        version: CatalogueVersion,
        delay: Duration,
    },
    /// It is over.
    Finish(Outcome),
}

/// How the request of the last [`Action`] ended.
#[derive(Debug, Clone)]
pub enum Event {
    /// The entry was written.
    PutStored,
    /// The store says that there is one already: `AlreadyExists`, 409 or 412.
    PutExists,
    /// No answer, or one that does not say whether the entry was written: a timeout, a 5xx.
    PutUnclear,
    /// The store refused before it did anything.
    PutRefused,
    /// The bytes of the entry.
    GetFound(Bytes),
    /// There is no such entry.
    GetAbsent,
    /// The entry could not be read.
    GetFailed,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It stands in the log, once.
    Committed(CatalogueVersion),
    /// It does not stand in the log, because something else does.
    Conflict(Unmet),
    /// It may stand in the log or come to stand there. Committing the same operations again is
    /// safe: they exclude each other by their preconditions.
    Unknown,
    /// It does not stand in the log; the store could not be reached or refused.
    NotWritten,
    /// It was not tried: the view is too old to follow.
    StaleView,
    /// It was not tried: the operations break a rule whatever happens.
    Refused(Violation),
    /// It was not tried: the operations do not fit an entry.
    TooLarge(EntryError),
    /// The log holds an entry that cannot be read or breaks a rule.
    Corrupt(CorruptEntry),
}

/// An entry that cannot be part of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("catalogue entry {key} is corrupt: {why}", key = crate::keys::log_entry(*.version))]
pub struct CorruptEntry {
    pub version: CatalogueVersion,
    pub why: CorruptWhy,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorruptWhy {
    #[error(transparent)]
    Bytes(#[from] EntryError),
    #[error(transparent)]
    Rule(#[from] Violation),
}

/// Folds the stored bytes of the next entry into `state` and returns the writer's nonce.
///
/// # Errors
/// The key and what is wrong; `state` is unchanged then.
pub fn fold(state: &mut CatalogueState, bytes: &[u8]) -> Result<u128, CorruptEntry> {
    let version = CatalogueVersion(state.version().0 + 1);
    let corrupt = |why| CorruptEntry { version, why };
    let entry = Entry::decode(version, bytes).map_err(|e| corrupt(e.into()))?;
    state.apply(&entry).map_err(|e| corrupt(e.into()))?;
    Ok(entry.nonce)
}

/// One commit under way.
#[derive(Debug)]
pub struct Committer {
    txn: Txn,
    nonce: u128,
    view: Arc<CatalogueState>,
    current_at: Duration,
    deadline: Duration,
    /// A write of ours to the number after `view` was sent, and nobody is known to have it.
    may_land: bool,
    /// Requests that led nowhere since the last progress.
    fruitless: u32,
}

impl Committer {
    /// The machine and its first action.
    pub fn start(request: CommitRequest, now: Duration) -> (Self, Action) {
        let mut committer = Self {
            txn: request.txn,
            nonce: request.nonce,
            view: request.view,
            current_at: request.view_current_at,
            deadline: request.deadline,
            may_land: false,
            fruitless: 0,
        };
        let action = committer.attempt(now, Duration::ZERO);
        (committer, action)
    }

    /// The newest version seen, whatever the outcome.
    pub fn view(&self) -> &Arc<CatalogueState> {
        &self.view
    }

    /// When [`Committer::view`] was last seen to be the newest.
    pub fn view_current_at(&self) -> Duration {
        self.current_at
    }

    /// Takes the outcome of the last request.
    pub fn on(&mut self, event: Event, now: Duration) -> Action {
        match event {
            Event::PutStored => self.stored(now),
            Event::PutExists => {
                self.may_land = true;
                self.read(now, Duration::ZERO)
            }
            Event::PutUnclear => {
                self.may_land = true;
                let delay = self.backoff();
                self.read(now, delay)
            }
            Event::PutRefused if self.may_land => {
                let delay = self.backoff();
                self.read(now, delay)
            }
            Event::PutRefused => Action::Finish(Outcome::NotWritten),
            Event::GetFound(bytes) => self.found(&bytes, now),
            Event::GetAbsent if self.has_slept(now) => Action::Finish(if self.may_land {
                Outcome::Unknown
            } else {
                Outcome::StaleView
            }),
            Event::GetAbsent => {
                self.current_at = now;
                let delay = self.backoff();
                self.attempt(now, delay)
            }
            Event::GetFailed => {
                let delay = self.backoff();
                self.read(now, delay)
            }
        }
    }

    fn next_version(&self) -> CatalogueVersion {
        CatalogueVersion(self.view.version().0 + 1)
    }

    /// Puts the entry after the view, if the view allows it.
    fn attempt(&mut self, now: Duration, delay: Duration) -> Action {
        if let Err(unmet) = self.txn.check(&self.view) {
            return Action::Finish(Outcome::Conflict(unmet));
        }
        if let Err(violation) = self.view.admits(&self.txn.ops) {
            return Action::Finish(Outcome::Refused(violation));
        }
        let at = now + delay;
        if at > self.deadline {
            return self.give_up();
        }
        if at.saturating_sub(self.current_at) > VIEW_AGE_MAX {
            return Action::Finish(if self.may_land {
                Outcome::Unknown
            } else {
                Outcome::StaleView
            });
        }
        match self.entry().encode() {
            Ok(entry) => Action::Put {
                version: self.next_version(),
                entry,
                delay,
            },
            Err(error) => Action::Finish(Outcome::TooLarge(error)),
        }
    }

    fn read(&self, now: Duration, delay: Duration) -> Action {
        if now + delay > self.deadline {
            return self.give_up();
        }
        Action::Get {
            version: self.next_version(),
            delay,
        }
    }

    fn give_up(&self) -> Action {
        Action::Finish(if self.may_land {
            Outcome::Unknown
        } else {
            Outcome::NotWritten
        })
    }

    fn stored(&mut self, now: Duration) -> Action {
        if self.has_slept(now) {
            return Action::Finish(Outcome::Unknown);
        }
        let entry = self.entry();
        let version = entry.version;
        match Arc::make_mut(&mut self.view).apply(&entry) {
            Ok(()) => {
                self.current_at = now;
                Action::Finish(Outcome::Committed(version))
            }
            Err(rule) => Action::Finish(Outcome::Corrupt(CorruptEntry {
                version,
                why: rule.into(),
            })),
        }
    }

    /// Whether the number after the view may have been taken and cleared away meanwhile.
    fn has_slept(&self, now: Duration) -> bool {
        now.saturating_sub(self.current_at) > BELIEVED_FOR
    }

    fn found(&mut self, bytes: &[u8], now: Duration) -> Action {
        if self.has_slept(now) {
            return Action::Finish(Outcome::Unknown);
        }
        let version = self.next_version();
        match fold(Arc::make_mut(&mut self.view), bytes) {
            Ok(nonce) if nonce == self.nonce => Action::Finish(Outcome::Committed(version)),
            Ok(_) => {
                // The number is taken for good, so a write of ours to it can no longer land.
                self.may_land = false;
                self.fruitless = 0;
                let delay = self.spread(BACKOFF_FIRST / 4);
                self.attempt(now, delay)
            }
            Err(corrupt) => Action::Finish(Outcome::Corrupt(corrupt)),
        }
    }

    fn entry(&self) -> Entry {
        Entry {
            version: self.next_version(),
            nonce: self.nonce,
            ops: self.txn.ops.clone(),
        }
    }

    /// How long to wait before the next try of something that did not work.
    fn backoff(&mut self) -> Duration {
        let doubled = BACKOFF_FIRST * (1 << self.fruitless.min(10));
        self.fruitless += 1;
        self.spread(doubled.min(BACKOFF_MAX))
    }

    /// Between half and all of `wait`, different for each commit and version, so that committers
    /// that met once do not meet again.
    fn spread(&self, wait: Duration) -> Duration {
        let mixed = (self.nonce as u64 ^ (self.nonce >> 64) as u64)
            .wrapping_add(self.view.version().0)
            .wrapping_add(u64::from(self.fruitless) << 32)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        wait / 2 + wait.mul_f64((mixed >> 40) as f64 / (1u64 << 25) as f64)
    }
}

#[cfg(test)]
mod tests;
