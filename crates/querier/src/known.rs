//! What the catalogue alone answers, of all datasets at once: nothing of them has to be read.
//!
//! A landing page asks which services and types there are, over thousands of datasets of hundreds
//! of blocks, and most of them say the same.

use std::collections::HashSet;

use scoria_model::ProfileType;
use scoria_query::exec::{labels_without_series, needs_no_series};
use scoria_query::merge::{LabelsMerger, Partial, StatsPartial};
use scoria_query::scan::{Scan, What};
use scoria_query::select::Projection;

use crate::plan::Unit;

/// Takes those out of `units` that need not be read for a scan.
pub(crate) fn take_known(units: &mut Vec<Unit>, scan: &Scan) -> Vec<Unit> {
    let stats = scan.what == What::Stats && scan.matchers.is_empty();
    if !stats && !needs_no_series(scan) {
        return Vec::new();
    }
    // Reading the profiles of every service at both ends of the range would make the cheapest
    // question the dearest.
    let landing = Projection::of(scan).is_some_and(|projection| projection.is_landing());
    let (known, rest) = std::mem::take(units)
        .into_iter()
        .partition(|unit| (landing || unit.is_inside(scan)) && unit.deletions.is_empty());
    *units = rest;
    known
}

/// What they answer.
pub(crate) fn answer(known: &[Unit], scan: &Scan) -> Partial {
    if scan.what == What::Stats {
        let mut stats = StatsPartial::default();
        for dataset in known.iter().map(Unit::dataset) {
            stats.add(dataset.min_time, dataset.max_time);
        }
        return Partial::Stats(stats);
    }
    let mut labels = LabelsMerger::default();
    let mut seen: HashSet<(&str, &[ProfileType])> = HashSet::new();
    for dataset in known.iter().map(Unit::dataset) {
        if seen.insert((&dataset.service, &dataset.kinds))
            && let Some(more) = labels_without_series(scan, &dataset.service, &dataset.kinds)
        {
            labels.add(more);
        }
    }
    Partial::Labels(labels.finish())
}
