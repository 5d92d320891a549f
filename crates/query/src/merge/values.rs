//! Single values over time: what a heatmap is made of.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use scoria_model::Labels;

use super::series::{GroupKey, Subject, shared_labels};

/// Values by group, time in Unix milliseconds and what they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValuesPartial {
    pub groups: BTreeMap<GroupKey, BTreeMap<(i64, Subject), Value>>,
}

/// The value of one profile, or of one span in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Value {
    pub value: i64,
    /// Labels that all series of the profile share, without those that name the group.
    pub labels: Labels,
}

impl Value {
    /// Adds what another series of the same profile has.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.value = self.value.saturating_add(other.value);
        self.labels = shared_labels(&self.labels, &other.labels);
    }
}

impl ValuesPartial {
    /// Adds all of another.
    pub fn merge(&mut self, mut other: Self) {
        if self.groups.len() < other.groups.len() {
            std::mem::swap(&mut self.groups, &mut other.groups);
        }
        for (key, mut values) in other.groups {
            let into = self.groups.entry(key).or_default();
            if into.len() < values.len() {
                std::mem::swap(into, &mut values);
            }
            for (at, value) in values {
                put(into, at, value);
            }
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.groups.values().map(BTreeMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.values().all(BTreeMap::is_empty)
    }

    /// Memory held, roughly: labels are shared with the data that they come from.
    pub fn bytes(&self) -> u64 {
        (96 * self.len() + 256 * self.groups.len()) as u64
    }
}

/// Adds a value. The same subject at the same time is one value: it came from several series of
/// one profile.
pub(crate) fn put(into: &mut BTreeMap<(i64, Subject), Value>, at: (i64, Subject), value: Value) {
    match into.entry(at) {
        Entry::Vacant(entry) => {
            entry.insert(value);
        }
        Entry::Occupied(mut entry) => entry.get_mut().merge(&value),
    }
}
