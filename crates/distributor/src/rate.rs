//! How fast each tenant may send: one token bucket a tenant, a token a byte.
//!
//! # Invariants
//! - Over any span of time a tenant gets at most burst + rate × span bytes.
//! - The burst admits the largest profile that is allowed at all.
//! - The number of buckets is bounded: a full one is the same as none.
//!
//! # What it must not know
//! The clock: `now` is an argument, any time that never runs backwards.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use scoria_model::{Limits, TenantId};

/// From here on buckets that have filled up again are thrown away before a new one is made.
const BUCKETS_BEFORE_SWEEP: usize = 10_000;

/// The buckets of all tenants.
#[derive(Debug, Default)]
pub(crate) struct RateLimiter {
    buckets: Mutex<HashMap<TenantId, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    rate: f64,
    burst: f64,
    /// When `tokens` was right.
    at: Duration,
}

/// The tenant sends faster than it may.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TooFast {
    /// Bytes per second.
    pub(crate) rate: u64,
    pub(crate) burst: u64,
    /// Until the bucket holds enough.
    pub(crate) wait: Duration,
}

impl RateLimiter {
    /// Takes `bytes` out of the tenant's bucket, or leaves it as it is.
    pub(crate) fn take(
        &self,
        tenant: &TenantId,
        limits: &Limits,
        bytes: u64,
        now: Duration,
    ) -> Result<(), TooFast> {
        let rate = limits.ingestion_rate_bytes;
        if rate == 0 {
            return Ok(());
        }
        let burst = burst(limits);
        // What is larger than any allowed profile is refused for that, and not told to wait for
        // what never comes.
        let bytes = bytes.min(burst);
        let mut buckets = self.buckets.lock();
        if buckets.len() >= BUCKETS_BEFORE_SWEEP && !buckets.contains_key(tenant) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = buckets.entry(tenant.clone()).or_insert(Bucket {
            tokens: burst as f64,
            rate: rate as f64,
            burst: burst as f64,
            at: now,
        });
        (bucket.rate, bucket.burst) = (rate as f64, burst as f64);
        bucket
            .take(bytes as f64, now)
            .map_err(|wait| TooFast { rate, burst, wait })
    }
}

/// A profile larger than the burst could never pass.
fn burst(limits: &Limits) -> u64 {
    let largest = match limits.max_profile_size_bytes {
        0 => limits.ingestion_body_limit_bytes,
        bytes => bytes,
    };
    // Labels are charged too; those that are allowed are far below this.
    limits
        .ingestion_burst_bytes
        .max(largest.saturating_add(1 << 20))
}

impl Bucket {
    fn tokens(&self, now: Duration) -> f64 {
        let since = now.saturating_sub(self.at).as_secs_f64();
        (self.tokens + since * self.rate).min(self.burst)
    }

    fn is_full(&self, now: Duration) -> bool {
        self.tokens(now) >= self.burst
    }

    /// Takes the bytes, or says how long until they are there.
    fn take(&mut self, bytes: f64, now: Duration) -> Result<(), Duration> {
        let tokens = self.tokens(now);
        if bytes > tokens {
            return Err(Duration::from_secs_f64((bytes - tokens) / self.rate));
        }
        self.tokens = tokens - bytes;
        self.at = self.at.max(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn limits(rate: u64, burst: u64, profile: u64) -> Limits {
        Limits {
            ingestion_rate_bytes: rate,
            ingestion_burst_bytes: burst,
            max_profile_size_bytes: profile,
            ..Limits::default()
        }
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn the_burst_admits_the_largest_profile() {
        let limiter = RateLimiter::default();
        let limits = limits(1, 2 * MIB, 4 * MIB);
        let now = Duration::ZERO;
        limiter.take(&tenant("a"), &limits, 4 * MIB, now).unwrap();
        assert_eq!(super::burst(&limits), 5 * MIB);
    }

    #[test]
    fn waits_as_long_as_it_says() {
        let limiter = RateLimiter::default();
        let limits = limits(MIB, 8 * MIB, MIB);
        let at = Duration::from_secs;
        limiter.take(&tenant("a"), &limits, 8 * MIB, at(5)).unwrap();
        let refused = limiter
            .take(&tenant("a"), &limits, 2 * MIB, at(6))
            .unwrap_err();
        assert_eq!(refused.wait, at(1));
        assert_eq!((refused.rate, refused.burst), (MIB, 8 * MIB));
        limiter.take(&tenant("b"), &limits, 2 * MIB, at(6)).unwrap();
        limiter.take(&tenant("a"), &limits, 2 * MIB, at(7)).unwrap();
        limiter.take(&tenant("a"), &limits, 1, at(7)).unwrap_err();
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let limiter = RateLimiter::default();
        for _ in 0..10 {
            let limits = limits(0, 0, MIB);
            limiter
                .take(&tenant("a"), &limits, u64::MAX, Duration::ZERO)
                .unwrap();
        }
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let limiter = RateLimiter::default();
        let limits = limits(MIB, 8 * MIB, MIB);
        for n in 0..BUCKETS_BEFORE_SWEEP {
            limiter
                .take(&tenant(&n.to_string()), &limits, 1, Duration::ZERO)
                .unwrap();
        }
        limiter
            .take(&tenant("new"), &limits, 1, Duration::from_secs(9))
            .unwrap();
        assert_eq!(limiter.buckets.lock().len(), 1);
    }

    proptest! {
        #[test]
        fn an_allowed_profile_passes_after_the_wait_that_it_is_told(
            rate in 1u64..1_000_000, burst in 0u64..10_000_000, largest in 1u64..8_000_000,
            spent in 0u64..20_000_000, wanted in 0u64..8_000_000,
        ) {
            let limiter = RateLimiter::default();
            let limits = limits(rate, burst, largest);
            let _ = limiter.take(&tenant("a"), &limits, spent, Duration::ZERO);
            let wanted = wanted.min(largest);
            if let Err(refused) = limiter.take(&tenant("a"), &limits, wanted, Duration::ZERO) {
                // A little more for the rounding of the wait.
                let then = refused.wait + Duration::from_micros(1) + refused.wait / 1_000_000;
                prop_assert!(limiter.take(&tenant("a"), &limits, wanted, then).is_ok());
            }
        }

        #[test]
        fn never_more_than_burst_and_rate(
            asks in proptest::collection::vec((0u64..3000, 0u64..2000), 1..60),
        ) {
            let limiter = RateLimiter::default();
            // The burst is 1 MiB and a bit, the rate one byte a millisecond.
            let limits = limits(1000, 0, 1);
            let burst = super::burst(&limits);
            limiter.take(&tenant("a"), &limits, burst, Duration::ZERO).unwrap();
            let (mut now_ms, mut taken) = (0, 0);
            for (step_ms, bytes) in asks {
                now_ms += step_ms;
                let now = Duration::from_millis(now_ms);
                if limiter.take(&tenant("a"), &limits, bytes, now).is_ok() {
                    taken += bytes;
                }
                prop_assert!(taken <= now_ms + 1, "{} bytes in {} ms", taken, now_ms);
            }
        }
    }
}
