//! What is done with a tenant's profiles: its limits, rules, usage groups and sampling.
//!
//! # Invariants
//! - Whether a profile is sampled out follows from its retry key: a resend meets the same fate.
//! - The names of usage groups are the operator's, so metrics by them stay few.
//!
//! # What it must not know
//! How selectors are written and where a policy comes from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use scoria_model::{Limits, RetryKey};
use scoria_pprof::Policy;
use scoria_pprof::policy::Keep;

/// The policy of one tenant.
#[derive(Debug, Clone)]
pub struct TenantPolicy {
    pub limits: Arc<Limits>,
    pub(crate) whole: Arc<Policy>,
    pub(crate) totals: Arc<Policy>,
    pub usage_groups: Vec<UsageGroup>,
    pub sampling: Vec<SamplingRule>,
    pub sampled_out: SampledOut,
    pub ingest_limit: Option<IngestLimit>,
    /// Every answer to a write is held back for this long.
    pub artificial_delay: Duration,
}

impl TenantPolicy {
    /// Limits, and what is done with labels and sample types.
    pub fn new(limits: Limits, profiles: Policy) -> Self {
        let totals = Policy {
            keep: Keep::Totals,
            ..profiles.clone()
        };
        Self {
            limits: Arc::new(limits),
            whole: Arc::new(profiles),
            totals: Arc::new(totals),
            usage_groups: Vec::new(),
            sampling: Vec::new(),
            sampled_out: SampledOut::Drop,
            ingest_limit: None,
            artificial_delay: Duration::ZERO,
        }
    }

    /// The usage groups that a profile with these labels belongs to.
    pub(crate) fn groups_of(&self, labels: &[(&str, &str)]) -> Vec<&str> {
        let groups = self.usage_groups.iter();
        groups
            .filter(|group| group.selects(labels))
            .map(|group| &*group.name)
            .collect()
    }

    /// The least probability that a rule for one of the groups gives, if there is any.
    pub(crate) fn probability(&self, groups: &[&str]) -> Option<f64> {
        let rules = self.sampling.iter();
        rules
            .filter(|rule| groups.contains(&&*rule.group))
            .map(|rule| rule.probability)
            .min_by(f64::total_cmp)
    }
}

impl From<Limits> for TenantPolicy {
    fn from(limits: Limits) -> Self {
        Self::new(limits, Policy::default())
    }
}

impl Default for TenantPolicy {
    fn default() -> Self {
        Self::from(Limits::default())
    }
}

type Selects = dyn Fn(&[(&str, &str)]) -> bool + Send + Sync;

/// Profiles that are counted and treated together.
#[derive(Clone)]
pub struct UsageGroup {
    pub name: Arc<str>,
    selects: Arc<Selects>,
}

impl UsageGroup {
    /// `selects` says by a profile's labels whether it belongs to the group.
    pub fn new(
        name: &str,
        selects: impl Fn(&[(&str, &str)]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: Arc::from(name),
            selects: Arc::new(selects),
        }
    }

    pub fn selects(&self, labels: &[(&str, &str)]) -> bool {
        (self.selects)(labels)
    }
}

impl fmt::Debug for UsageGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UsageGroup").field(&self.name).finish()
    }
}

/// How much of a usage group is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingRule {
    pub group: Arc<str>,
    /// From 0, none, to 1, all.
    pub probability: f64,
}

/// What becomes of a profile that is sampled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SampledOut {
    #[default]
    Drop,
    /// Its totals are kept, without stacktraces.
    KeepTotals,
}

/// Whether a profile of this key is kept.
pub(crate) fn is_kept(key: RetryKey, probability: f64) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = key.0;
    let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    (place as f64) < probability * (u64::MAX as f64)
}

/// A quota that something outside keeps account of: it says here that it is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestLimit {
    pub reached: bool,
    pub limit_mib: u64,
    /// Such as `hour`.
    pub period: String,
    /// When it may send again, in seconds since the epoch; 0 if that is not known.
    pub resets_at: i64,
    /// Of usage groups that have a quota of their own: name, quota in MiB.
    pub groups_reached: Vec<(Arc<str>, u64)>,
    /// How many profiles are let through in a span of time nevertheless.
    pub trickle: Option<(u64, Duration)>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_strictest_rule_of_a_profiles_groups_decides() {
        let rule = |group: &str, probability| SamplingRule {
            group: Arc::from(group),
            probability,
        };
        let policy = TenantPolicy {
            sampling: vec![rule("a", 0.5), rule("b", 0.1)],
            usage_groups: vec![
                UsageGroup::new("a", |_| true),
                UsageGroup::new("b", |labels| labels.contains(&("x", "1"))),
            ],
            ..TenantPolicy::default()
        };
        let of = |labels: &[(&str, &str)]| policy.probability(&policy.groups_of(labels));
        assert_eq!(of(&[("x", "1")]), Some(0.1));
        assert_eq!(of(&[]), Some(0.5));
        assert_eq!(TenantPolicy::default().probability(&[]), None);
    }

    proptest! {
        #[test]
        fn none_and_all(key in any::<[u8; 16]>()) {
            prop_assert!(!is_kept(RetryKey(key), 0.0));
            prop_assert!(is_kept(RetryKey(key), 1.0) || key[..8] == [255; 8]);
        }

        #[test]
        fn what_a_lower_probability_keeps_a_higher_one_keeps(
            key in any::<[u8; 16]>(), low in 0.0..1.0_f64, more in 0.0..1.0_f64,
        ) {
            let high = low + (1.0 - low) * more;
            prop_assert!(!is_kept(RetryKey(key), low) || is_kept(RetryKey(key), high));
        }
    }

    #[test]
    fn the_share_kept_is_the_probability() {
        let key = |n: u64| {
            let hash = xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes());
            RetryKey(hash.to_be_bytes())
        };
        let kept = (0..10_000).filter(|n| is_kept(key(*n), 0.2)).count();
        assert!((1850..2150).contains(&kept), "{kept}");
    }
}
