//! What was stored of requests that were refused in part and will be sent again.
//!
//! Without it a request larger than a tenant's bucket would never be stored whole: each time it comes
//! the profiles at its front, which are stored already, would take the tokens that are there.
//!
//! # Invariants
//! - At most [`KEYS_MAX`] are known, each for as long as an ingester recognises a resend.
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

/// Keys of profiles that are stored.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    /// When each was stored last.
    stored: HashMap<RetryKey, Duration>,
    /// The oldest first. One that was stored again stands here twice.
    order: VecDeque<(RetryKey, Duration)>,
}

impl Known {
    pub(crate) fn has(&self, key: RetryKey, now: Duration) -> bool {
        let keys = self.0.lock();
        let stored = keys.stored.get(&key);
        stored.is_some_and(|&at| now.saturating_sub(at) < WINDOW)
    }

    pub(crate) fn add(&self, key: RetryKey, now: Duration) {
        let mut keys = self.0.lock();
        keys.stored.insert(key, now);
        keys.order.push_back((key, now));
        while let Some(&(oldest, at)) = keys.order.front() {
            if keys.order.len() <= KEYS_MAX && now.saturating_sub(at) < WINDOW {
                break;
            }
            keys.order.pop_front();
            if keys.stored.get(&oldest) == Some(&at) {
                keys.stored.remove(&oldest);
            }
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
    fn what_is_stored_is_known_for_a_while() {
        let known = Known::default();
        let at = Duration::from_secs;
        assert!(!known.has(key(1), at(0)));
        known.add(key(1), at(0));
        known.add(key(2), at(300));
        known.add(key(1), at(400));
        assert!(known.has(key(1), at(999)) && !known.has(key(1), at(1000)));
        assert!(known.has(key(2), at(899)) && !known.has(key(2), at(900)));
        known.add(key(3), at(1000));
        assert_eq!(known.0.lock().stored.len(), 1);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let known = Known::default();
        for n in 0..=KEYS_MAX {
            known.add(key(n), Duration::ZERO);
        }
        assert!(!known.has(key(0), Duration::ZERO));
        assert!(known.has(key(1), Duration::ZERO));
        assert_eq!(known.0.lock().order.len(), KEYS_MAX);
    }
}
