//! When a read is late, judged by the reads before it, and whether a second one may be sent.

use std::time::Duration;

use parking_lot::Mutex;

use super::HedgePolicy;
use crate::block_store::Purpose;

/// Two per doubling, from a microsecond to beyond an hour.
const BUCKETS: usize = 64;
/// Reads after which all counts are halved, so that they tell of lately.
const REMEMBERED: u32 = 2048;
/// Reads before which nothing is known of what is usual.
const KNOWN_FROM: u32 = 32;
/// Second reads that may be saved up for a bad moment, in thousandths of one.
const SAVED_MAX: u64 = 10_000;
/// What a second read costs of them.
const COST: u64 = 1000;

#[derive(Debug)]
pub(super) struct Hedging {
    policy: Option<HedgePolicy>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    counts: [u32; BUCKETS],
    total: u32,
    saved: u64,
}

impl Hedging {
    pub(super) const fn new(policy: Option<HedgePolicy>) -> Self {
        Self {
            policy,
            state: Mutex::new(State {
                counts: [0; BUCKETS],
                total: 0,
                saved: 0,
            }),
        }
    }

    /// Notes a read that begins, and says after what time it is late; `None` when it is not to be
    /// hedged.
    pub(super) fn begin(&self, purpose: Purpose) -> Option<Duration> {
        let policy = self.policy?;
        if purpose != Purpose::Query {
            return None;
        }
        let mut state = self.state.lock();
        state.saved = (state.saved + u64::from(policy.share_per_mille)).min(SAVED_MAX);
        let usual = state.percentile_95()?;
        Some(usual.max(policy.after_min))
    }

    /// Whether the share allows one more second read, which is then taken from it.
    pub(super) fn may_send(&self) -> bool {
        let mut state = self.state.lock();
        match state.saved.checked_sub(COST) {
            Some(left) => {
                state.saved = left;
                true
            }
            None => false,
        }
    }

    /// Notes how long a read took.
    pub(super) fn took(&self, time: Duration) {
        if self.policy.is_none() {
            return;
        }
        let mut state = self.state.lock();
        state.counts[bucket(time)] += 1;
        state.total += 1;
        if state.total >= REMEMBERED {
            for count in &mut state.counts {
                *count /= 2;
            }
            state.total = state.counts.iter().sum();
        }
    }
}

impl State {
    fn percentile_95(&self) -> Option<Duration> {
        if self.total < KNOWN_FROM {
            return None;
        }
        let wanted = self.total - self.total / 20;
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper(at))
    }
}

fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2() as usize;
    let half = usize::from(doubling > 0 && micros >> (doubling - 1) & 1 == 1);
    (doubling * 2 + half).min(BUCKETS - 1)
}

fn upper(bucket: usize) -> Duration {
    let nanos = 1000u64 << (bucket / 2);
    Duration::from_nanos(match bucket % 2 {
        0 => nanos + nanos / 2,
        _ => nanos * 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: HedgePolicy = HedgePolicy {
        after_min: Duration::from_millis(10),
        share_per_mille: 50,
    };

    #[test]
    fn a_read_is_late_beyond_the_usual_ones() {
        let hedging = Hedging::new(Some(POLICY));
        assert_eq!(hedging.begin(Purpose::Query), None, "nothing is known yet");
        for ms in 0..1000 {
            // One in fifty takes a second, the others about 40 ms.
            let slow = ms % 50 == 0;
            hedging.took(Duration::from_millis(if slow { 1000 } else { 40 }));
        }
        let late = hedging.begin(Purpose::Query).unwrap();
        assert!(late >= Duration::from_millis(40), "{late:?}");
        assert!(late <= Duration::from_millis(80), "{late:?}");
        assert_eq!(hedging.begin(Purpose::Catalogue), None);
        let fast = Hedging::new(Some(POLICY));
        (0..100).for_each(|_| fast.took(Duration::from_micros(100)));
        assert_eq!(fast.begin(Purpose::Query), Some(POLICY.after_min));
    }

    #[test]
    fn second_reads_stay_within_their_share() {
        let hedging = Hedging::new(Some(POLICY));
        (0..100).for_each(|_| hedging.took(Duration::from_millis(1)));
        let sent = (0..10_000)
            .filter(|_| hedging.begin(Purpose::Query).is_some() && hedging.may_send())
            .count();
        assert!(sent <= 500, "{sent}");
        assert!(sent >= 490, "{sent}");
    }

    #[test]
    fn buckets_hold_what_falls_into_them() {
        for micros in [1, 2, 3, 4, 5, 6, 7, 100, 1_000_000, u64::MAX >> 20] {
            let time = Duration::from_micros(micros);
            let at = bucket(time);
            assert!(at == BUCKETS - 1 || upper(at) > time, "{micros} {at}");
            assert!(at == 0 || upper(at - 1) <= time || at == 1, "{micros} {at}");
        }
    }
}
