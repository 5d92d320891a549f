//! Quotas that are kept account of outside, and the trickle that they let through.
//!
//! # Invariants
//! - In each span of a trickle no more than its number of profiles passes, for each tenant.
//! - The number of tenants held is bounded.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use scoria_model::{TenantId, Timestamp};

use crate::policy::IngestLimit;

/// When to come again if the quota does not say when it is renewed.
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(60);
/// A client is not told to stay away for longer, lest it misses that the quota was raised.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// From here on spans that are over are thrown away.
const SPANS_BEFORE_SWEEP: usize = 10_000;

/// What has trickled through.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    spans: Mutex<HashMap<TenantId, Span>>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    ends: Duration,
    n: u64,
}

/// A quota is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsedUp {
    pub(crate) message: String,
    pub(crate) retry_after: Duration,
}

/// The two times of a clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) wall: Timestamp,
    pub(crate) monotonic: Duration,
}

impl Quotas {
    /// Whether a profile of these usage groups may pass.
    pub(crate) fn check(
        &self,
        tenant: &TenantId,
        limit: &IngestLimit,
        groups: &[&str],
        now: Times,
    ) -> Result<(), UsedUp> {
        let reached = |(name, _): &&(std::sync::Arc<str>, u64)| groups.contains(&&**name);
        let of_group = limit.groups_reached.iter().find(reached);
        let (what, mib) = match of_group {
            _ if limit.reached => (format!("tenant {tenant}"), limit.limit_mib),
            Some((group, mib)) => (format!("usage group {group} of tenant {tenant}"), *mib),
            None => return Ok(()),
        };
        if limit.reached && self.trickles(tenant, limit, now.monotonic) {
            return Ok(());
        }
        let wait = Duration::from_secs(u64::try_from(limit.resets_at).unwrap_or_default())
            .checked_sub(Duration::from_nanos(
                u64::try_from(now.wall.0).unwrap_or_default(),
            ))
            .unwrap_or(RETRY_AFTER_UNKNOWN);
        Err(UsedUp {
            message: format!(
                "limit of {mib} MiB/{} reached by {what} (ingestion_limit), which is renewed at {} in seconds since the epoch; raise the limit or send less",
                limit.period, limit.resets_at
            ),
            retry_after: wait.min(RETRY_AFTER_MAX),
        })
    }

    fn trickles(&self, tenant: &TenantId, limit: &IngestLimit, now: Duration) -> bool {
        let Some((most, length)) = limit.trickle else {
            return false;
        };
        let mut spans = self.spans.lock();
        if spans.len() >= SPANS_BEFORE_SWEEP {
            spans.retain(|_, span| span.ends > now);
        }
        let fresh = Span {
            ends: now.saturating_add(length),
            n: 0,
        };
        let span = spans.entry(tenant.clone()).or_insert(fresh);
        if span.ends <= now {
            *span = fresh;
        }
        let passes = span.n < most;
        span.n += u64::from(passes);
        passes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn limit() -> IngestLimit {
        IngestLimit {
            reached: true,
            limit_mib: 128,
            period: "hour".to_owned(),
            resets_at: 1000,
            groups_reached: vec![(Arc::from("g"), 5)],
            trickle: Some((2, Duration::from_secs(10))),
        }
    }

    fn at(seconds: i64) -> Times {
        Times {
            wall: Timestamp(seconds * 1_000_000_000),
            monotonic: Duration::from_secs(seconds.unsigned_abs()),
        }
    }

    #[test]
    fn a_trickle_passes_and_the_rest_is_told_when_to_come_back() {
        let quotas = Quotas::default();
        let tenant = TenantId::anonymous();
        let check = |seconds| quotas.check(&tenant, &limit(), &[], at(seconds));
        assert!(check(900).is_ok() && check(901).is_ok());
        let used_up = check(902).unwrap_err();
        assert_eq!(used_up.retry_after, Duration::from_secs(98));
        assert!(used_up.message.contains("128 MiB/hour reached by tenant"));
        assert!(check(910).is_ok() && check(910).is_ok());
        assert_eq!(check(1911).map_err(|u| u.retry_after), Ok(()));
        let later = || check(1912).and_then(|()| check(1912)).unwrap_err();
        assert_eq!(later().retry_after, RETRY_AFTER_UNKNOWN);
    }

    #[test]
    fn groups_have_quotas_of_their_own_and_no_trickle() {
        let quotas = Quotas::default();
        let tenant = TenantId::anonymous();
        let limit = IngestLimit {
            reached: false,
            ..limit()
        };
        assert_eq!(quotas.check(&tenant, &limit, &["h"], at(1)), Ok(()));
        let used_up = quotas
            .check(&tenant, &limit, &["h", "g"], at(1))
            .unwrap_err();
        assert!(
            used_up
                .message
                .contains("5 MiB/hour reached by usage group g")
        );
    }
}
