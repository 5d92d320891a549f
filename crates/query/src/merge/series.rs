//! Totals over time.

use std::collections::BTreeMap;

use scoria_model::{Label, Labels, LabelsBuilder, ProfileId};

/// The labels that name a series of an answer, in the order in which they were asked for; those
/// that the profiles lack are left out.
pub type GroupKey = Vec<Label>;

/// What a profile's series have in common. A profile whose samples were labelled apart has several
/// series, and no one of them describes it.
pub(super) fn shared_labels(one: &Labels, other: &Labels) -> Labels {
    if one == other {
        return one.clone();
    }
    let mut shared = LabelsBuilder::from_labels(one);
    shared.retain(|label| other.get(&label.name) == Some(&*label.value));
    shared.build()
}

/// Points by group and by right edge of the bucket in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeriesPartial {
    pub groups: BTreeMap<GroupKey, BTreeMap<i64, Point>>,
}

/// What fell into one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Point {
    pub sum: i64,
    /// Profiles in the bucket.
    pub n: u64,
    /// Those of them that were sampled out, of which only the totals were kept.
    pub n_stripped: u64,
    pub exemplar: Option<Exemplar>,
}

/// A profile or a span that stands for a point: the one with the largest value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemplar {
    pub of: Subject,
    /// The profile's own time, Unix milliseconds.
    pub time_ms: i64,
    pub value: i64,
    /// Labels that all series of the profile share, without those that name the group.
    pub labels: Labels,
}

/// What a single value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Profile(ProfileId),
    Span {
        /// Never 0.
        span: u64,
        /// Zeros if the sample came without one.
        trace: [u8; 16],
    },
}

impl Exemplar {
    /// Whether this one stands for a bucket rather than `other`: the larger value, then the
    /// smaller id and labels, so that the choice does not depend on the order of arrival.
    fn beats(&self, other: &Self) -> bool {
        let key = (self.of, self.time_ms, &self.labels);
        let others = (other.of, other.time_ms, &other.labels);
        (self.value, std::cmp::Reverse(key)) > (other.value, std::cmp::Reverse(others))
    }
}

impl Point {
    /// Adds one profile.
    pub fn add(&mut self, value: i64) {
        self.sum = self.sum.saturating_add(value);
        self.n += 1;
    }

    /// Keeps the better of the exemplar it has and `other`.
    pub fn offer(&mut self, other: Exemplar) {
        if self.exemplar.as_ref().is_none_or(|has| other.beats(has)) {
            self.exemplar = Some(other);
        }
    }

    fn merge(&mut self, other: Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.n += other.n;
        self.n_stripped += other.n_stripped;
        if let Some(exemplar) = other.exemplar {
            self.offer(exemplar);
        }
    }
}

impl SeriesPartial {
    /// Adds all of another.
    pub fn merge(&mut self, mut other: Self) {
        if self.groups.len() < other.groups.len() {
            std::mem::swap(&mut self.groups, &mut other.groups);
        }
        for (key, points) in other.groups {
            let into = self.groups.entry(key).or_default();
            for (edge, point) in points {
                into.entry(edge).or_default().merge(point);
            }
        }
    }

    /// Makes each point the mean of its profiles.
    pub(crate) fn divide(&mut self) {
        let points = self.groups.values_mut().flat_map(BTreeMap::values_mut);
        for point in points {
            point.sum /= i64::try_from(point.n.max(1)).unwrap_or(i64::MAX);
            point.n = point.n.min(1);
        }
    }

    /// Number of points.
    pub fn n_points(&self) -> usize {
        self.groups.values().map(BTreeMap::len).sum()
    }

    /// Memory held, roughly.
    pub fn bytes(&self) -> u64 {
        (96 * self.n_points() + 256 * self.groups.len()) as u64
    }
}
