//! Profiles whose values count from the start of their process, not from the profile before.
//!
//! Go's own profiles of allocations, locks and blocking do; whoever makes differences of them says
//! so with `__delta__="false"`. The others are marked with a label of their series, by which a query
//! knows to take the mean of such snapshots: their sum says nothing.
//!
//! # Invariants
//! - No value is changed.

use scoria_model::labels::{cumulative, names};

use crate::raw::RawProfile;
use crate::series::SeriesLabels;

/// Marks the series of an upload whose values are cumulative.
pub(crate) fn mark(raw: &RawProfile<'_>, base: &mut SeriesLabels<'_>) {
    if base.get(names::DELTA) == Some("false") {
        return;
    }
    let name = base.get(names::NAME).unwrap_or_default();
    let mut kinds = raw.columns.sample_types.iter();
    let is_cumulative = kinds.any(|kind| {
        std::str::from_utf8(raw.text(kind.kind)).is_ok_and(|kind| cumulative::can_be(name, kind))
    });
    if is_cumulative {
        base.set(names::CUMULATIVE, cumulative::MARK.to_owned());
    }
}
