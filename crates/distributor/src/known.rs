//! What was stored of requests that were refused in part and will be sent again.
//!
//! Without it a request larger than a tenant's bucket would never be stored whole: each time it comes
//! the profiles at its front, which are stored already, would take the tokens that are there.
//!
//! # Invariants
//! - At most [`KEYS_MAX`] are known, each for as long as an ingester recognises a resend of it.
//! - Nothing is let in for nothing but what has been charged for, and that a bounded number of times:
//!   a sender may give other content the same id.
//! - Forgetting one costs tokens and nothing else.
//!
//! # What it must not know
//! The clock: `now` is an argument, any time that never runs backwards.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use scoria_model::RetryKey;

/// A dozen of the largest exports that are seen. They take about 1 MB.
const KEYS_MAX: usize = 16_384;
/// After that an ingester takes it for a new profile.
const WINDOW: Duration = Duration::from_secs(600);

/// A profile is let in for nothing so many times.
const USES_MAX: u32 = 32;

/// Keys of profiles that are stored.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    stored: HashMap<RetryKey, Stored>,
    /// The oldest first.
    order: VecDeque<RetryKey>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    at: Duration,
    /// What was charged for it.
    bytes: u64,
    uses: u32,
}

impl Known {
    /// What has been charged for a profile that comes again, which it is not to be charged again.
    pub(crate) fn paid(&self, key: RetryKey, now: Duration) -> u64 {
        let mut keys = self.0.lock();
        let Some(stored) = keys.stored.get_mut(&key) else {
            return 0;
        };
        let counts = now.saturating_sub(stored.at) < WINDOW && stored.uses < USES_MAX;
        stored.uses += u32::from(counts);
        if counts { stored.bytes } else { 0 }
    }

    /// Notes a profile that was new, and what was charged for it.
    pub(crate) fn add(&self, key: RetryKey, bytes: u64, now: Duration) {
        let mut keys = self.0.lock();
        let stored = Stored {
            at: now,
            bytes,
            uses: 0,
        };
        if keys.stored.insert(key, stored).is_none() {
            keys.order.push_back(key);
        }
        if keys.order.len() > KEYS_MAX
            && let Some(oldest) = keys.order.pop_front()
        {
            keys.stored.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> RetryKey {
        RetryKey((n as u128).to_le_bytes())
    }

    #[test]
    fn what_is_stored_is_known_for_a_while_and_some_uses() {
        let known = Known::default();
        let at = Duration::from_secs;
        assert_eq!(known.paid(key(1), at(0)), 0);
        known.add(key(1), 100, at(0));
        known.add(key(2), 200, at(300));
        assert_eq!(known.paid(key(1), at(599)), 100);
        assert_eq!(known.paid(key(1), at(600)), 0, "it would be new");
        for _ in 0..USES_MAX {
            assert_eq!(known.paid(key(2), at(301)), 200);
        }
        assert_eq!(known.paid(key(2), at(301)), 0);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let known = Known::default();
        for n in 0..=KEYS_MAX {
            known.add(key(n), 1, Duration::ZERO);
        }
        assert_eq!(known.paid(key(0), Duration::ZERO), 0);
        assert_eq!(known.paid(key(1), Duration::ZERO), 1);
        assert_eq!(known.0.lock().stored.len(), KEYS_MAX);
    }
}
