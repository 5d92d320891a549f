//! What threads decode with, kept from request to request.
//!
//! # Invariants
//! - As many are kept as there are turns to decode at a time; more are made where they are needed
//!   and forgotten.

use std::fmt;

use parking_lot::Mutex;
use scoria_pprof::{Decompressor, Normaliser};

/// What a thread needs to decode: buffers that are kept from profile to profile.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) decompressor: Decompressor,
    pub(crate) normaliser: Normaliser,
}

/// The workers that are not in use.
pub(crate) struct Workers {
    idle: Mutex<Vec<Worker>>,
    idle_max: usize,
    seed: u64,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("idle", &self.idle.lock().len())
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Keeps at most `idle_max` workers. `seed` is secret to the process.
    pub(crate) fn new(idle_max: usize, seed: u64) -> Self {
        Self {
            idle: Mutex::default(),
            idle_max,
            seed,
        }
    }

    pub(crate) fn take(&self) -> Worker {
        let idle = self.idle.lock().pop();
        idle.unwrap_or_else(|| Worker {
            decompressor: Decompressor::new(),
            normaliser: Normaliser::new(self.seed),
        })
    }

    pub(crate) fn give_back(&self, worker: Worker) {
        let mut idle = self.idle.lock();
        if idle.len() < self.idle_max {
            idle.push(worker);
        }
    }
}
