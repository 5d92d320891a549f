//! Which sample types of a profile a policy keeps.
//!
//! # Invariants
//! - A sample type that is not kept has no value left when its samples are looked at.

use std::borrow::Cow;

use scoria_model::DiscardReason;
use scoria_model::labels::names;

use crate::raw::RawProfile;
use crate::relabel::{self, Pair, Verdict};
use crate::series::SeriesLabels;
use crate::{Dropped, Policy};

/// The places of the sample types that are kept; the values of the others become 0.
pub(crate) fn select(
    raw: &mut RawProfile<'_>,
    policy: &Policy,
    base: &SeriesLabels<'_>,
    dropped: &mut Dropped,
) -> Vec<usize> {
    let n = raw.columns.sample_types.len();
    if policy.sample_types.is_empty() {
        return (0..n).collect();
    }
    let is_kept = |at: &usize| {
        let kind = &raw.columns.sample_types[*at];
        let text = |at| String::from_utf8_lossy(raw.text(at));
        let is_derived = |name: &str| name == names::TYPE || name == names::UNIT;
        let own = base.pairs().iter().filter(|(name, _)| !is_derived(name));
        let mut pairs: Vec<Pair<'_>> = own.cloned().collect();
        pairs.push((Cow::from(names::TYPE), text(kind.kind)));
        pairs.push((Cow::from(names::UNIT), text(kind.unit)));
        relabel::apply(&policy.sample_types, &mut pairs) == Verdict::Keep
    };
    let (kept, gone): (Vec<usize>, Vec<usize>) = (0..n).partition(is_kept);
    dropped.add(DiscardReason::DroppedByRelabelRules, gone.len() as u64);
    for at in 0..raw.columns.samples.len() {
        let values = raw.sample(at).values();
        for &kind in &gone {
            raw.columns.values.set(values.start + kind, 0);
        }
    }
    kept
}
