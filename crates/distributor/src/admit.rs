//! Whether a profile is let in, and how much of it is kept, before it is looked at.
//!
//! ```text
//! sum of the request ─► quota of the tenant ─► rate ─► quota of its usage groups ─► sampling
//! ```
//!
//! # Invariants
//! - The rate is charged before the profile is looked at: invalid profiles cost as much as valid
//!   ones.
//! - What is sampled out has been charged.
//! - A resend is not charged for what was stored of it before, or a request larger than the bucket
//!   would never be stored whole. What is sampled out or refused is charged each time.

use scoria_model::{DiscardReason, Limits, RetryKey};
use scoria_pprof::policy::Keep;

use crate::incoming::IncomingProfile;
use crate::metrics::{Stage, name_of};
use crate::outcome::{Refusal, RefusalKind};
use crate::policy::{SampledOut, is_kept};
use crate::prepare::{Batch, Stop};
use crate::quota::Times;

/// What a profile costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charge {
    /// Decompressed.
    pub(crate) plain: u64,
    /// With its labels.
    pub(crate) charged: u64,
}

impl Batch<'_> {
    /// Charges the profile, and says how much of it is to be kept.
    pub(crate) fn admit(
        &mut self,
        profile: &IncomingProfile,
        (labels, key): (&[(&str, &str)], RetryKey),
        charge: Charge,
    ) -> Result<Keep, Stop> {
        self.count_sum(charge.plain)?;
        let stage = |stage| {
            let metrics = &self.preparation.metrics;
            metrics.stage(self.tenant, stage, charge.charged);
        };
        stage(Stage::Received);
        let policy = self.policy;
        let groups = policy.groups_of(labels);
        // What was stored the first time that it came has been charged for.
        let now = self.preparation.clock.monotonic();
        let paid = self.preparation.known.paid(key, now);
        let due = charge.charged.saturating_sub(paid);
        if due > 0 {
            self.check_quota(&[])?;
            self.take_rate(due)?;
        }
        let metrics = &self.preparation.metrics;
        for group in &groups {
            metrics.group_received(self.tenant, (*group, name_of(profile)), charge.charged);
        }
        let discarded = |reason| {
            for group in &groups {
                metrics.group_discarded(self.tenant, (*group, reason), charge.charged);
            }
        };
        if !groups.is_empty() {
            self.check_quota(&groups)
                .inspect_err(|_| discarded(DiscardReason::IngestLimitReached))?;
        }
        let probability = policy.probability(&groups);
        if probability.is_none_or(|probability| is_kept(key, probability)) {
            stage(Stage::Sampled);
            return Ok(Keep::Whole);
        }
        discarded(DiscardReason::DroppedBySamplingRules);
        match policy.sampled_out {
            SampledOut::KeepTotals => Ok(Keep::Totals),
            SampledOut::Drop => Err(Stop::SampledOut),
        }
    }

    fn count_sum(&mut self, plain: u64) -> Result<(), Stop> {
        self.sum = self.sum.saturating_add(plain);
        let limit = self.policy.limits.ingestion_body_limit_bytes;
        if !Limits::exceeded(self.sum, limit) {
            return Ok(());
        }
        let message = format!(
            "the profiles of the request exceed the body size limit (ingestion_body_limit_bytes, actual: more than {} decompressed, limit: {limit}); send them in several requests",
            self.sum - 1
        );
        let refusal = Refusal::invalid(DiscardReason::BodySizeLimitExceeded, message);
        Err(Stop::Request(Box::new(refusal)))
    }

    fn check_quota(&self, groups: &[&str]) -> Result<(), Stop> {
        let Some(limit) = &self.policy.ingest_limit else {
            return Ok(());
        };
        // The tenant's own quota is looked at first and alone.
        if groups.is_empty() != limit.reached {
            return Ok(());
        }
        let now = Times {
            wall: self.now,
            monotonic: self.preparation.clock.monotonic(),
        };
        let quotas = &self.preparation.quotas;
        let checked = quotas.check(self.tenant, limit, groups, now);
        checked.map_err(|used_up| {
            Stop::from(Refusal {
                is_partial: false,
                kind: RefusalKind::QuotaReached {
                    retry_after: used_up.retry_after,
                },
                message: used_up.message,
            })
        })
    }

    fn take_rate(&self, charged: u64) -> Result<(), Stop> {
        let now = self.preparation.clock.monotonic();
        let limits = &self.policy.limits;
        let taken = self
            .preparation
            .rates
            .take(self.tenant, limits, charged, now);
        taken.map_err(|too_fast| {
            Stop::from(Refusal {
                is_partial: false,
                kind: RefusalKind::RateLimited {
                    retry_after: too_fast.wait,
                },
                message: format!(
                    "push rate limit ({} bytes/s, burst {}) exceeded while adding {charged} bytes (ingestion_rate_bytes of tenant {}); retry in {:.1} s or raise the limit",
                    too_fast.rate,
                    too_fast.burst,
                    self.tenant,
                    too_fast.wait.as_secs_f64(),
                ),
            })
        })
    }
}
