//! The retry keys of the last minutes: by which a resend is recognised.
//!
//! # Invariants
//! - A key is *pending* from the moment its request queues until its batch ends, then *stored* or
//!   forgotten; only stored keys are carried into a new segment.
//! - Stored keys leave in the order of their arrival, by age or because too many came after them;
//!   the second is counted.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use scoria_model::{RetryKey, Timestamp};

use super::{CarriedKey, Now};

/// The key of a part that is never taken for a resend.
pub const NO_KEY: RetryKey = RetryKey([0; 16]);

/// A set of keys with their states.
#[derive(Debug)]
pub struct RetryKeys {
    window: Duration,
    keys_max: usize,
    states: HashMap<RetryKey, KeyState, foldhash::fast::RandomState>,
    /// Stored keys by the monotonic time at which they leave.
    order: VecDeque<(Duration, RetryKey)>,
    forgotten_early: u64,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyState {
    /// Its record is in the batch of this number, which has not ended.
    Pending(u64),
    Stored,
}

impl RetryKeys {
    pub fn new(window: Duration, keys_max: usize) -> Self {
        Self {
            window,
            keys_max,
            states: HashMap::default(),
            order: VecDeque::new(),
            forgotten_early: 0,
        }
    }

    /// Keys held, pending ones included.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Keys that had to go before their time because too many came.
    pub fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    pub(super) fn get(&self, key: RetryKey) -> Option<KeyState> {
        self.states.get(&key).copied()
    }

    pub(super) fn set_pending(&mut self, key: RetryKey, batch: u64) {
        self.states.insert(key, KeyState::Pending(batch));
    }

    /// Forgets a key whose batch failed.
    pub(super) fn forget(&mut self, key: RetryKey) {
        if let Entry::Occupied(entry) = self.states.entry(key)
            && matches!(entry.get(), KeyState::Pending(_))
        {
            entry.remove();
        }
    }

    /// The key's record is durable; `arrived` is monotonic time.
    pub(super) fn set_stored(&mut self, key: RetryKey, arrived: Duration) {
        if self.states.insert(key, KeyState::Stored) == Some(KeyState::Stored) {
            return;
        }
        self.push(arrived.saturating_add(self.window), key);
    }

    fn push(&mut self, leaves: Duration, key: RetryKey) {
        // Arrivals come almost in order; the few that do not may stay a batch too long.
        self.order.push_back((leaves, key));
        if self.order.len() > self.keys_max
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.states.remove(&oldest);
            self.forgotten_early += 1;
        }
    }

    /// Takes over a key from the log of an earlier process. An arrival in the future, which a clock
    /// that was set back makes, counts as now.
    pub(super) fn restore(&mut self, carried: &[CarriedKey], now: Now) {
        let mut keys: Vec<(Duration, RetryKey)> = carried
            .iter()
            .map(|c| (age(c.arrival, now.wall), c.key))
            .filter(|(age, _)| *age < self.window)
            .map(|(age, key)| (now.monotonic + (self.window - age), key))
            .collect();
        keys.sort_unstable();
        for (leaves, key) in keys {
            if self.states.insert(key, KeyState::Stored) != Some(KeyState::Stored) {
                self.push(leaves, key);
            }
        }
    }

    /// Forgets what is older than the window.
    pub(super) fn expire(&mut self, monotonic: Duration) {
        while let Some(&(leaves, key)) = self.order.front()
            && monotonic >= leaves
        {
            self.order.pop_front();
            self.states.remove(&key);
        }
    }

    /// What a new segment has to carry.
    pub(super) fn carried(&self, now: Now) -> Vec<CarriedKey> {
        self.order
            .iter()
            .map(|&(leaves, key)| {
                let left = leaves.saturating_sub(now.monotonic);
                CarriedKey {
                    key,
                    arrival: back_from(now.wall, self.window.saturating_sub(left)),
                }
            })
            .collect()
    }
}

/// How long ago `arrival` was; zero if it lies ahead.
pub(super) fn age(arrival: Timestamp, now: Timestamp) -> Duration {
    let nanos = now.nanos().saturating_sub(arrival.nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

fn back_from(wall: Timestamp, age: Duration) -> Timestamp {
    let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
    Timestamp(wall.nanos().saturating_sub(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> RetryKey {
        RetryKey([n; 16])
    }

    fn at(seconds: u64) -> Now {
        Now {
            monotonic: Duration::from_secs(seconds),
            wall: Timestamp(1_000_000_000_000 + seconds as i64 * 1_000_000_000),
        }
    }

    #[test]
    fn the_window_holds_across_a_restart() {
        let mut keys = RetryKeys::new(Duration::from_secs(600), 10);
        keys.set_stored(key(1), at(0).monotonic);
        keys.set_stored(key(2), at(500).monotonic);
        let carried = keys.carried(at(550));

        // The new process's monotonic clock starts elsewhere.
        let mut restored = RetryKeys::new(Duration::from_secs(600), 10);
        let now = Now {
            monotonic: Duration::from_secs(5),
            wall: at(590).wall,
        };
        restored.restore(&carried, now);
        restored.expire(Duration::from_secs(14));
        assert_eq!(restored.get(key(1)), Some(KeyState::Stored));
        restored.expire(Duration::from_secs(15));
        assert_eq!(restored.get(key(1)), None);
        assert_eq!(restored.get(key(2)), Some(KeyState::Stored));
        restored.expire(Duration::from_secs(515));
        assert!(restored.is_empty());
    }

    #[test]
    fn too_many_keys_push_out_the_oldest_and_are_counted() {
        let mut keys = RetryKeys::new(Duration::from_secs(600), 2);
        for n in 1..=3 {
            keys.set_stored(key(n), at(u64::from(n)).monotonic);
        }
        assert_eq!((keys.len(), keys.forgotten_early()), (2, 1));
        assert_eq!(keys.get(key(1)), None);
    }

    #[test]
    fn only_pending_keys_are_forgotten() {
        let mut keys = RetryKeys::new(Duration::from_secs(600), 2);
        keys.set_pending(key(1), 1);
        keys.set_stored(key(2), Duration::ZERO);
        keys.forget(key(1));
        keys.forget(key(2));
        assert_eq!(keys.get(key(1)), None);
        assert_eq!(keys.get(key(2)), Some(KeyState::Stored));
    }
}
