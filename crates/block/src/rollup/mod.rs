//! Roll-ups: the samples of many profiles added up beforehand, so that a query over days need not
//! read every profile.
//!
//! ```text
//! profiles of one type and hour ─► sums per bucket of 5 minutes ─► sums of the hour
//!                                        │ few enough?                  │ few enough?
//!                                   rollup_5m                       rollup_1h
//! rollups: one row per bucket, whether its sums were written or not
//! ```
//! Sums are over all series of the dataset, apart by the few labels of [`rollup_labels`] and by
//! the period of the profiles.
//!
//! # Invariants
//! - A bucket holds the profiles of its type whose time lies in `[bucket, bucket + width)`: all
//!   of the dataset (M2). What was deleted, and doubles, are in neither.
//! - Within an hour of a type, either every bucket of a width has its sums in the block or none.
//! - A dataset that has any roll-up has a row in `rollups` for every bucket of every type in both
//!   widths.
//!
//! # What it must not know
//! Which queries make use of them.

mod check;
mod hour;
mod sink;

use std::sync::Arc;

use scoria_model::Labels;
use scoria_model::labels::names;

use crate::{ProfileRows, Table};

pub use check::check_rollups;
pub(crate) use check::read_runs;
pub(crate) use hour::{Hours, InputStacks, SumsLimit};
pub(crate) use sink::RollupSink;

/// How wide a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    FiveMinutes,
    Hour,
}

impl Resolution {
    pub const ALL: [Self; 2] = [Self::FiveMinutes, Self::Hour];

    /// Its place in [`Resolution::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    pub const fn seconds(self) -> u32 {
        match self {
            Self::FiveMinutes => 300,
            Self::Hour => 3600,
        }
    }

    pub(crate) fn of_seconds(seconds: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.seconds() == seconds)
    }

    pub const fn width_ns(self) -> i64 {
        self.seconds() as i64 * 1_000_000_000
    }

    /// The table of its sums.
    pub const fn table(self) -> Table {
        match self {
            Self::FiveMinutes => Table::Rollup5m,
            Self::Hour => Table::Rollup1h,
        }
    }

    /// Where the bucket of a time starts, in nanoseconds.
    pub const fn bucket_of(self, time_ns: i64) -> i64 {
        time_ns.saturating_sub(time_ns.rem_euclid(self.width_ns()))
    }
}

/// How many samples of a profile type a dataset has, and how many of them no sums stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rolled {
    pub samples: u64,
    /// Samples in hours whose sums were not written, by [`Resolution::index`].
    pub unrolled: [u64; 2],
}

/// The labels by which roll-ups are always kept apart, since queries treat profiles differently by
/// them or name them in every selector.
pub const ROLLUP_LABELS: [&str; 3] = [names::SERVICE_NAME, names::CUMULATIVE, names::SAMPLED];

/// The part of a series' labels that the roll-ups of a block keep: [`ROLLUP_LABELS`] and `more`.
pub(crate) fn rollup_labels(series: &Labels, more: &[Arc<str>]) -> Labels {
    let always = ROLLUP_LABELS.into_iter();
    let names = always.chain(more.iter().map(|name| &**name));
    Labels::from_pairs(names.filter_map(|name| Some((name, series.get(name)?))))
}

/// The buckets of a dataset, decoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RollupRows {
    /// Each set of labels once; `series` of a row points here.
    pub labels: Vec<Labels>,
    /// One row per bucket: `time_ns` is its start, `samples_start` a row of the table of its
    /// resolution. A bucket whose sums were not written has no samples.
    pub rows: ProfileRows,
    pub resolution: Vec<Resolution>,
    /// How many profiles a row stands for.
    pub profiles: Vec<u32>,
    /// Whether the sums were written.
    pub written: Vec<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_start_and_not_their_end() {
        let minutes = |n: i64| n * 60_000_000_000;
        let five = Resolution::FiveMinutes;
        assert_eq!(five.bucket_of(0), 0);
        assert_eq!(five.bucket_of(minutes(5) - 1), 0);
        assert_eq!(five.bucket_of(minutes(5)), minutes(5));
        assert_eq!(five.bucket_of(-1), -minutes(5));
        assert_eq!(Resolution::Hour.bucket_of(minutes(119)), minutes(60));
        assert_eq!(five.bucket_of(i64::MIN), i64::MIN);
    }

    #[test]
    fn resolutions_are_told_apart_by_their_seconds() {
        for resolution in Resolution::ALL {
            let seconds = resolution.seconds();
            assert_eq!(Resolution::of_seconds(seconds), Some(resolution));
            assert_eq!(Resolution::ALL[resolution.index()], resolution);
        }
        assert_eq!(Resolution::of_seconds(60), None);
    }

    #[test]
    fn labels_are_cut_to_those_that_are_kept() {
        let series = Labels::from_pairs([
            ("service_name", "api"),
            ("pod", "a"),
            ("namespace", "prod"),
            ("__cumulative__", "true"),
        ]);
        let kept = rollup_labels(&series, &[Arc::from("namespace"), Arc::from("version")]);
        let expected = Labels::from_pairs([
            ("service_name", "api"),
            ("namespace", "prod"),
            ("__cumulative__", "true"),
        ]);
        assert_eq!(kept, expected);
    }
}
