//! A scan: the question as it is put to each piece of data, be it a block or a head.
//!
//! A request is checked once and becomes one [`Scan`]; every block and every ingester answers the
//! same scan with a partial of the same kind, and partials merge in any order.
//!
//! # Invariants
//! - A profile belongs to exactly one bucket of [`Buckets`], or to none.
//!
//! # What it must not know
//! Limits, tenants, and where the data lies.

use std::sync::Arc;

use scoria_model::labels::names;
use scoria_model::{ProfileId, TimeRange, Timestamp};

use crate::selector::Matchers;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Which series; a profile type that was asked for is an equality among them.
    pub matchers: Matchers,
    /// Which profiles, inclusive at both ends.
    pub range: TimeRange,
    pub what: What,
}

impl Scan {
    /// The same question put to data whose profiles all lie from `min` to `max`, in a form that is
    /// equal for all ranges that hold this data: an answer to it can be kept. `None` if the data
    /// does not lie wholly in the range.
    pub fn without_time(&self, min: Timestamp, max: Timestamp) -> Option<Self> {
        if !self.range.contains(min) || !self.range.contains(max) {
            return None;
        }
        let what = match &self.what {
            What::TimeSeries(series) => {
                let buckets = series.buckets.without_ends();
                let same = |time| {
                    let edge = series.buckets.edge_of(time);
                    edge.is_some() && edge == buckets.edge_of(time)
                };
                if !same(min) || !same(max) {
                    return None;
                }
                What::TimeSeries(TimeSeries {
                    buckets,
                    ..series.clone()
                })
            }
            what => what.clone(),
        };
        Some(Self {
            matchers: self.matchers.clone(),
            range: TimeRange::ALL,
            what,
        })
    }
}

/// What is asked of the profiles that a scan selects, and thereby which partial answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    LabelNames,
    /// The values of one label; profile types are asked for as the values of `__profile_type__`.
    LabelValues(Arc<str>),
    /// Label sets, projected to these names unless there are none.
    Series(Vec<Arc<str>>),
    /// Totals per stacktrace by function name.
    Tree(StackFilter),
    /// Totals per stacktrace by location.
    Profile(StackFilter),
    TimeSeries(TimeSeries),
    /// Single values over time, each with the profile or the span that it belongs to.
    Heatmap(Heatmap),
    /// The oldest and the newest profile.
    Stats,
}

impl What {
    /// Whether profiles stripped of their stacktraces (`__sampled__="true"`) are left out.
    pub fn excludes_stripped(&self) -> bool {
        match self {
            Self::Tree(_) | Self::Profile(_) | Self::Heatmap(_) => true,
            Self::TimeSeries(series) => series.stripped == Stripped::LeftOut,
            Self::LabelNames | Self::LabelValues(_) | Self::Series(_) | Self::Stats => false,
        }
    }

    /// Which samples count.
    pub const fn filter(&self) -> Option<&StackFilter> {
        match self {
            Self::Tree(filter) | Self::Profile(filter) => Some(filter),
            Self::TimeSeries(series) => Some(&series.filter),
            _ => None,
        }
    }

    /// Whether samples are needed, or profile rows are enough.
    pub fn wants_samples(&self) -> bool {
        match self {
            Self::Tree(_) | Self::Profile(_) => true,
            Self::TimeSeries(series) => {
                !series.filter.takes_whole_profiles() || series.exemplars == Exemplars::Span
            }
            Self::Heatmap(heatmap) => heatmap.of == HeatmapOf::Spans,
            Self::LabelNames | Self::LabelValues(_) | Self::Series(_) | Self::Stats => false,
        }
    }

    /// Whether the samples' spans and traces are needed.
    pub fn wants_spans(&self) -> bool {
        self.collects_spans() || self.filter().is_some_and(StackFilter::filters_samples)
    }

    /// Whether the answer tells spans apart.
    pub fn collects_spans(&self) -> bool {
        match self {
            Self::TimeSeries(series) => series.exemplars == Exemplars::Span,
            Self::Heatmap(heatmap) => heatmap.of == HeatmapOf::Spans,
            _ => false,
        }
    }
}

/// Which samples count. All parts must hold; an empty part filters nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StackFilter {
    /// Function names from the root with which a stacktrace must begin.
    pub call_site: Vec<Arc<str>>,
    pub spans: Vec<u64>,
    pub traces: Vec<[u8; 16]>,
    pub profiles: Vec<ProfileId>,
}

impl StackFilter {
    /// Whether every sample of a profile that is selected counts.
    pub fn takes_whole_profiles(&self) -> bool {
        self.call_site.is_empty() && !self.filters_samples()
    }

    /// Whether samples are told apart by their span or trace.
    pub fn filters_samples(&self) -> bool {
        !self.spans.is_empty() || !self.traces.is_empty()
    }
}

/// Totals over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeSeries {
    pub buckets: Buckets,
    /// Labels whose values name a series, in the order of the request.
    pub group_by: Vec<Arc<str>>,
    pub exemplars: Exemplars,
    pub filter: StackFilter,
    pub stripped: Stripped,
}

/// What becomes of profiles that were sampled out and of which only the totals were kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stripped {
    #[default]
    LeftOut,
    /// They count, and points say how many there are; none of them stands for a point.
    Counted,
}

/// Whether each point names something that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exemplars {
    #[default]
    None,
    /// The profile with the largest value.
    Individual,
    /// The span with the largest value in one profile.
    Span,
}

/// Single values over time. Which cells they make is decided when they are shown, so the scan has
/// neither steps nor a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heatmap {
    /// Labels whose values name a series, in the order of the request.
    pub group_by: Vec<Arc<str>>,
    pub of: HeatmapOf,
}

/// What has a value of its own in a heatmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeatmapOf {
    /// Each profile.
    #[default]
    Profiles,
    /// Each span in each profile; samples without a span do not count.
    Spans,
}

/// Buckets of equal width, each named by its right edge, which it includes; its left edge belongs
/// to the bucket before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// Right edge of the first.
    first_ms: i64,
    /// At least 1.
    step_ms: i64,
    /// Right edge of the last.
    last_ms: i64,
}

impl Buckets {
    /// Buckets whose right edges are `start`, `start + step`, … up to `end`. A step below 1 ms
    /// is 1 ms.
    pub fn new(range: TimeRange, step_ms: i64) -> Self {
        let step_ms = step_ms.max(1);
        let length = range.end_ms.saturating_sub(range.start_ms).max(0);
        Self {
            first_ms: range.start_ms,
            step_ms,
            last_ms: range.start_ms.saturating_add(length / step_ms * step_ms),
        }
    }

    /// Buckets with the same edges, from 1970 on and as good as for ever.
    fn without_ends(self) -> Self {
        let range = TimeRange {
            start_ms: self.first_ms.rem_euclid(self.step_ms),
            end_ms: i64::MAX / 4,
        };
        Self::new(range, self.step_ms)
    }

    pub const fn step_ms(self) -> i64 {
        self.step_ms
    }

    /// Right edges of the first and the last bucket.
    pub const fn edges_ms(self) -> (i64, i64) {
        (self.first_ms, self.last_ms)
    }

    /// The range of the profiles that belong to a bucket. Its start is one millisecond after the
    /// left edge of the first bucket, since times are cut to milliseconds before they are compared.
    pub const fn data_range(self) -> TimeRange {
        TimeRange {
            start_ms: self.first_ms.saturating_sub(self.step_ms).saturating_add(1),
            // The last millisecond of the last bucket counts as a whole.
            end_ms: self.last_ms.saturating_add(1),
        }
    }

    /// The right edge of the bucket of a profile, if it has one.
    pub fn edge_of(self, time: Timestamp) -> Option<i64> {
        let ms = time.millis();
        if ms <= self.first_ms.saturating_sub(self.step_ms) || ms > self.last_ms {
            return None;
        }
        let after = ms.saturating_sub(self.first_ms).max(0) as u64;
        let n = after.div_ceil(self.step_ms as u64) as i64;
        Some(self.first_ms + n * self.step_ms)
    }
}

/// The labels that blocks can answer from the catalogue alone.
pub fn is_known_without_series(name: &str) -> bool {
    name == names::SERVICE_NAME
        || name == names::SERVICE_NAME_PRIVATE
        || crate::selector::is_of_type(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(start_ms: i64, end_ms: i64, step_ms: i64) -> Buckets {
        Buckets::new(TimeRange { start_ms, end_ms }, step_ms)
    }

    #[test]
    fn right_edges_are_inside_and_left_edges_outside() {
        let buckets = buckets(1000, 1035, 10);
        assert_eq!(buckets.edges_ms(), (1000, 1030));
        let at = |ms: i64| buckets.edge_of(Timestamp::from_millis(ms));
        assert_eq!(at(990), None);
        assert_eq!(at(991), Some(1000));
        assert_eq!(at(1000), Some(1000));
        assert_eq!(at(1001), Some(1010));
        assert_eq!(at(1030), Some(1030));
        assert_eq!(at(1031), None);
        assert_eq!(buckets.edge_of(Timestamp(1_000_999_999)), Some(1000));
        let whole = buckets.data_range();
        assert!(whole.contains(Timestamp(991_000_000)));
        assert!(whole.contains(Timestamp(1_030_999_999)));
    }

    #[test]
    fn one_bucket_when_the_step_is_longer_than_the_range() {
        let buckets = buckets(1000, 1005, 1_000_000);
        assert_eq!(buckets.edges_ms(), (1000, 1000));
        assert_eq!(buckets.edge_of(Timestamp::from_millis(0)), Some(1000));
        assert_eq!(buckets.edge_of(Timestamp::from_millis(1001)), None);
    }

    #[test]
    fn a_range_that_moves_on_asks_the_same_of_data_inside_it() {
        let series = |start_ms, end_ms| {
            let buckets = buckets(start_ms, end_ms, 10);
            Scan {
                matchers: Matchers::default(),
                range: buckets.data_range(),
                what: What::TimeSeries(TimeSeries {
                    buckets,
                    group_by: Vec::new(),
                    exemplars: Exemplars::None,
                    filter: StackFilter::default(),
                    stripped: Stripped::LeftOut,
                }),
            }
        };
        let at = Timestamp::from_millis;
        let (min, max) = (at(1_000), at(1_050));
        let first = series(990, 1_060).without_time(min, max).unwrap();
        assert_eq!(
            series(1_000, 2_000).without_time(min, max),
            Some(first.clone())
        );
        // Other edges, and ranges that cut into the data.
        assert_ne!(series(995, 1_060).without_time(min, max), Some(first));
        assert_eq!(series(1_020, 1_060).without_time(min, max), None);
        assert_eq!(series(990, 1_040).without_time(min, max), None);
        // The last bucket ends at 1050, the range of the data a millisecond later.
        assert_eq!(series(990, 1_050).without_time(min, at(1_051)), None);
        // Before 1970 there are no such buckets.
        assert_eq!(series(-990, 1_060).without_time(at(-900), max), None);
    }

    #[test]
    fn extreme_ranges_do_not_overflow() {
        let all = Buckets::new(TimeRange::ALL, 1);
        all.edge_of(Timestamp(i64::MAX));
        all.edge_of(Timestamp(i64::MIN));
        all.data_range();
        buckets(-5, 5, i64::MAX).edge_of(Timestamp(0));
    }
}
