//! Which part of a question about a dataset its roll-ups answer, and which part its profiles.
//!
//! ```text
//! range      ├──────────────────────────────────────────┤
//! hours          ·        │████████│████████│        ·        sums of an hour, where written
//! 5 minutes      │██│██│██│                 │██│██│           sums of 5 minutes for the rest
//! profiles   ████                                  █████      what is in no whole bucket
//! ```
//!
//! # Invariants
//! - Each profile counts once: in the hour that was taken, else in the 5 minutes, else by itself.
//! - A bucket is taken only if every profile of it that the dataset has lies in the range, so the
//!   answer is the one that the profiles give (M2, Q1).

use std::collections::{BTreeSet, HashSet};

use scoria_block::{
    BlockError, DatasetMeta, ProfileRows, ROLLUP_LABELS, Resolution, RollupRows, RowsOfKind, Table,
    rows_of_kinds,
};
use scoria_model::Labels;
use scoria_model::labels::names;
use scoria_query::scan::{Scan, StackFilter, What};
use scoria_query::select::{self, DatasetView, matching_kinds};
use scoria_query::selector::is_of_type;

use crate::cache::DatasetIndex;
use crate::plan::Unit;

/// Roll-ups of a dataset, decoded. Each bucket is a row, as a profile is.
#[derive(Debug)]
pub(crate) struct RollupIndex {
    pub(crate) index: std::sync::Arc<DatasetIndex>,
    resolution: Vec<Resolution>,
    profiles: Vec<u32>,
    written: Vec<bool>,
    /// Where the profiles of each type lie.
    kinds: Vec<RowsOfKind>,
}

impl RollupIndex {
    /// # Errors
    /// The roll-ups count other profiles than the dataset has.
    pub(crate) fn new(decoded: RollupRows, dataset: &DatasetMeta) -> Result<Self, BlockError> {
        Ok(Self {
            kinds: rows_of_kinds(dataset, &decoded)?,
            index: std::sync::Arc::new(DatasetIndex {
                series: decoded.labels,
                rows: decoded.rows,
            }),
            resolution: decoded.resolution,
            profiles: decoded.profiles,
            written: decoded.written,
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        let kinds = self.kinds.len() * size_of::<RowsOfKind>();
        self.index.bytes() + 6 * self.resolution.len() as u64 + kinds as u64
    }
}

/// How a dataset is read that has roll-ups for a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rolled {
    /// The range in nanoseconds, inclusive; without an end where the dataset ends before it.
    from: i64,
    to: i64,
    /// Whether profiles may be needed as well.
    pub(crate) with_profiles: bool,
}

/// What is read of a dataset's roll-ups.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// Buckets, in the order in which their sums are read.
    pub(crate) rows: Vec<u32>,
    /// The rows of which resolution start where in `rows`.
    pub(crate) fine_from: usize,
    /// How many profiles they stand for.
    pub(crate) profiles: u64,
    /// Type and start of the hours that were taken, and of the 5 minutes.
    taken: [HashSet<(u32, i64)>; 2],
    /// The types of which profiles in the range are in no bucket that was taken.
    left: BTreeSet<u32>,
}

impl Unit {
    /// Whether roll-ups answer some of a scan, and what they leave.
    pub(crate) fn rolled(&self, scan: &Scan) -> Option<Rolled> {
        let dataset = self.dataset();
        let by_roll_ups = !dataset.rolled.is_empty()
            && self.deletions.is_empty()
            && adds_stacks_up(scan)
            && self.keeps_labels(scan);
        if !by_roll_ups {
            return None;
        }
        let kinds = matching_kinds(&scan.matchers, &dataset.kinds);
        let of_kinds = kinds.iter().zip(&dataset.rolled);
        let left: Vec<[u64; 2]> = of_kinds
            .filter(|(matches, rolled)| **matches && rolled.samples > 0)
            .filter(|(_, rolled)| rolled.unrolled.iter().any(|&n| n < rolled.samples))
            .map(|(_, rolled)| rolled.unrolled)
            .collect();
        if left.is_empty() {
            return None;
        }
        let (start, end) = (scan.range.start_ns(), scan.range.end_ns());
        let (min, max) = (dataset.min_time.0, dataset.max_time.0);
        let from = if start <= min { i64::MIN } else { start };
        let to = if end >= max { i64::MAX } else { end };
        let first = whole_from(Resolution::FiveMinutes, from.max(min), from == i64::MIN);
        let end = whole_to(Resolution::FiveMinutes, to.min(max), to == i64::MAX);
        if first >= end {
            return None;
        }
        let cut = |resolution: Resolution| {
            (from != i64::MIN && resolution.bucket_of(from) != from)
                || (to != i64::MAX && resolution.bucket_of(to.saturating_add(1)) != to + 1)
        };
        let some_missing = left.iter().any(|[fine, coarse]| *fine > 0 && *coarse > 0);
        let fine_missing = left.iter().any(|[fine, _]| *fine > 0);
        let all_kinds = kinds.iter().filter(|matches| **matches).count() == left.len();
        Some(Rolled {
            from,
            to,
            with_profiles: !all_kinds
                || some_missing
                || cut(Resolution::FiveMinutes)
                || (fine_missing && cut(Resolution::Hour)),
        })
    }

    /// Whether roll-ups keep all labels that a scan selects by.
    fn keeps_labels(&self, scan: &Scan) -> bool {
        let more = &self.block.rollup_labels;
        scan.matchers.iter().all(|matcher| {
            let name = &*matcher.name;
            is_of_type(name)
                || name == names::SERVICE_NAME_PRIVATE
                || ROLLUP_LABELS.contains(&name)
                || more.iter().any(|label| **label == *name)
        })
    }
}

/// Start of the first bucket all of whose profiles come at or after `from`.
fn whole_from(resolution: Resolution, from: i64, begins: bool) -> i64 {
    let bucket = resolution.bucket_of(from);
    if begins || bucket == from {
        bucket
    } else {
        bucket.saturating_add(resolution.width_ns())
    }
}

/// End of the last bucket all of whose profiles come at or before `to`.
fn whole_to(resolution: Resolution, to: i64, ends: bool) -> i64 {
    let bucket = resolution.bucket_of(to.saturating_add(1));
    if ends && bucket <= to {
        bucket.saturating_add(resolution.width_ns())
    } else {
        bucket
    }
}

/// Whether sums of stacks are all that a scan wants.
fn adds_stacks_up(scan: &Scan) -> bool {
    let whole = |filter: &StackFilter| !filter.filters_samples() && filter.profiles.is_empty();
    match &scan.what {
        What::Tree(filter) | What::Profile(filter) => whole(filter),
        _ => false,
    }
}

impl Rolled {
    /// The share of a dataset's profiles that are read by themselves, roughly.
    pub(crate) fn rest(&self, unit: &Unit, scan: &Scan) -> f64 {
        if !self.with_profiles {
            return 0.0;
        }
        let dataset = unit.dataset();
        let kinds = matching_kinds(&scan.matchers, &dataset.kinds);
        let of_kinds = kinds.iter().zip(&dataset.rolled).filter(|(of, _)| **of);
        let (mut samples, mut left) = (0, 0);
        for (_, rolled) in of_kinds {
            samples += rolled.samples;
            left += rolled.unrolled[0].min(rolled.unrolled[1]);
        }
        let length = dataset.max_time.0.saturating_sub(dataset.min_time.0).max(1);
        // Less than a bucket at either end.
        let ends = [self.from != i64::MIN, self.to != i64::MAX];
        let ends = ends.iter().filter(|cut| **cut).count() as f64;
        let ends = ends * Resolution::FiveMinutes.width_ns() as f64 / length as f64;
        (left as f64 / (samples.max(1) as f64) + ends).min(1.0)
    }

    fn holds(&self, bucket: i64, resolution: Resolution) -> bool {
        self.from <= bucket && bucket.saturating_add(resolution.width_ns() - 1) <= self.to
    }

    fn touches(&self, bucket: i64, resolution: Resolution) -> bool {
        bucket <= self.to && self.from <= bucket.saturating_add(resolution.width_ns() - 1)
    }

    /// The buckets to read.
    ///
    /// # Errors
    /// The roll-ups lack what the meta said they have.
    pub(crate) fn choose(
        &self,
        (unit, scan): (&Unit, &Scan),
        rollups: &RollupIndex,
    ) -> Result<Chosen, BlockError> {
        let whole = Scan {
            range: scoria_model::TimeRange::ALL,
            ..scan.clone()
        };
        let (series, rows): (&[Labels], &ProfileRows) =
            (&rollups.index.series, &rollups.index.rows);
        let candidates = select::rows(
            &whole,
            &DatasetView {
                series,
                kinds: &unit.dataset().kinds,
                rows,
                streams: &[],
            },
        );
        let mut chosen = Chosen::default();
        for resolution in [Resolution::Hour, Resolution::FiveMinutes] {
            if resolution == Resolution::FiveMinutes {
                chosen.fine_from = chosen.rows.len();
            }
            for &row in &candidates {
                let at = row as usize;
                let (kind, bucket) = (rows.kind[at], rows.time_ns[at]);
                if rollups.resolution[at] != resolution
                    || chosen.has((kind, bucket), Resolution::Hour, resolution)
                    || !self.touches(bucket, resolution)
                {
                    continue;
                }
                if rollups.written[at] && self.holds(bucket, resolution) {
                    chosen.taken[resolution.index()].insert((kind, bucket));
                    chosen.rows.push(row);
                    chosen.profiles += u64::from(rollups.profiles[at]);
                } else if resolution == Resolution::FiveMinutes {
                    if !self.with_profiles {
                        let what = format!("bucket {at} has no sums, and its meta says it has");
                        return Err(BlockError::damaged(Table::Rollups, what));
                    }
                    chosen.left.insert(kind);
                }
            }
        }
        Ok(chosen)
    }
}

impl Chosen {
    /// Whether a bucket of `resolution` lies in one of the wider `taken` ones.
    fn has(&self, (kind, time): (u32, i64), taken: Resolution, resolution: Resolution) -> bool {
        resolution != taken && self.taken[taken.index()].contains(&(kind, taken.bucket_of(time)))
    }

    /// Whether profiles are wanted as well.
    pub(crate) fn leaves_any(&self) -> bool {
        !self.left.is_empty()
    }

    /// Where the profiles of the types lie of which some are wanted.
    pub(crate) fn rows_left(&self, rollups: &RollupIndex) -> Vec<RowsOfKind> {
        let kinds = rollups.kinds.iter();
        kinds
            .filter(|of| self.left.contains(&of.kind))
            .cloned()
            .collect()
    }

    /// Says of profiles by type and time whether they are in no bucket that was taken. Of those
    /// that come one after the other many are of the same 5 minutes.
    pub(crate) fn leaves(&self) -> impl FnMut(u32, i64) -> bool + '_ {
        let mut last = None;
        move |kind, time| {
            let bucket = (kind, Resolution::FiveMinutes.bucket_of(time));
            match last {
                Some((of, leaves)) if of == bucket => leaves,
                _ => {
                    let taken = |resolution: &Resolution| {
                        let bucket = (kind, resolution.bucket_of(time));
                        self.taken[resolution.index()].contains(&bucket)
                    };
                    let leaves = !Resolution::ALL.iter().any(taken);
                    last = Some((bucket, leaves));
                    leaves
                }
            }
        }
    }

    /// Leaves the profiles that are in no bucket that was taken.
    pub(crate) fn leave(&self, profiles: &ProfileRows, rows: &mut Vec<u32>) {
        let mut leaves = self.leaves();
        rows.retain(|&row| leaves(profiles.kind[row as usize], profiles.time_ns[row as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    #[test]
    fn only_buckets_that_lie_in_the_range_are_whole() {
        let five = Resolution::FiveMinutes;
        assert_eq!(whole_from(five, 7 * MINUTE, false), 10 * MINUTE);
        assert_eq!(whole_from(five, 5 * MINUTE, false), 5 * MINUTE);
        // The dataset begins within the bucket: nothing of it lies before.
        assert_eq!(whole_from(five, 7 * MINUTE, true), 5 * MINUTE);
        assert_eq!(whole_to(five, 10 * MINUTE - 1, false), 10 * MINUTE);
        assert_eq!(whole_to(five, 10 * MINUTE, false), 10 * MINUTE);
        assert_eq!(whole_to(five, 12 * MINUTE, true), 15 * MINUTE);
        assert_eq!(whole_to(five, 10 * MINUTE - 1, true), 10 * MINUTE);
    }
}
