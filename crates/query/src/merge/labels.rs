//! Label names, label values and label sets, and from when to when there is data.

use std::collections::BTreeSet;
use std::sync::Arc;

use scoria_model::{Labels, Timestamp};

/// Distinct texts and distinct label sets; a scan asks for one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelsPartial {
    /// Label names or label values.
    pub texts: BTreeSet<Arc<str>>,
    pub sets: BTreeSet<Labels>,
}

impl LabelsPartial {
    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        join(&mut self.texts, other.texts);
        join(&mut self.sets, other.sets);
    }

    /// Memory held, roughly.
    pub fn bytes(&self) -> u64 {
        let texts: usize = self.texts.iter().map(|text| text.len() + 40).sum();
        let sets: usize = self.sets.iter().map(|set| 40 + 64 * set.len()).sum();
        (texts + sets) as u64
    }
}

fn join<T: Ord>(into: &mut BTreeSet<T>, mut other: BTreeSet<T>) {
    if into.len() < other.len() {
        std::mem::swap(into, &mut other);
    }
    // Appending visits all of both, which is too much for a few that come again and again.
    if other.len() < into.len() / 8 {
        into.extend(other);
    } else {
        into.append(&mut other);
    }
}

/// The oldest and the newest profile, if there is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatsPartial {
    pub times: Option<(Timestamp, Timestamp)>,
}

impl StatsPartial {
    /// Takes in profiles from `oldest` to `newest`.
    pub fn add(&mut self, oldest: Timestamp, newest: Timestamp) {
        self.times = Some(match self.times {
            None => (oldest, newest),
            Some((first, last)) => (first.min(oldest), last.max(newest)),
        });
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        if let Some((oldest, newest)) = other.times {
            self.add(oldest, newest);
        }
    }
}
