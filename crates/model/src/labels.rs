//! Labels: the sorted name/value set that names where profiles come from.

use std::fmt;
use std::sync::Arc;

/// Names with a meaning of their own. The ones under [`derived`](names::DERIVED) are never stored
/// with a series: they follow from its profile type and service.
pub mod names {
    pub const NAME: &str = "__name__";
    pub const SERVICE_NAME: &str = "service_name";
    pub const SERVICE_NAME_PRIVATE: &str = "__service_name__";
    pub const PROFILE_TYPE: &str = "__profile_type__";
    pub const TYPE: &str = "__type__";
    pub const UNIT: &str = "__unit__";
    pub const PERIOD_TYPE: &str = "__period_type__";
    pub const PERIOD_UNIT: &str = "__period_unit__";
    pub const DELTA: &str = "__delta__";
    pub const ORDER: &str = "__order__";
    pub const SESSION_ID: &str = "__session_id__";
    pub const SAMPLED: &str = "__sampled__";
    /// Set by the server on series whose values count from the start of a process.
    pub const CUMULATIVE: &str = "__cumulative__";
    pub const SPY: &str = "pyroscope_spy";
    pub const APP_NAME: &str = "app_name";
    pub const SPAN_ID: &str = "span_id";
    pub const TRACE_ID: &str = "trace_id";
    pub const PROFILE_ID: &str = "profile_id";

    /// Labels that the server derives; a client's value for them is replaced.
    pub const DERIVED: [&str; 6] = [
        PROFILE_TYPE,
        SERVICE_NAME_PRIVATE,
        TYPE,
        UNIT,
        PERIOD_TYPE,
        PERIOD_UNIT,
    ];
}

/// Which profile types hold, unless their sender makes differences of them, what has come together
/// since their process began.
pub mod cumulative {
    /// The value of the label that marks such a series.
    pub const MARK: &str = "true";

    const TYPES: [(&str, [&str; 2]); 3] = [
        ("memory", ["alloc_objects", "alloc_space"]),
        ("mutex", ["contentions", "delay"]),
        ("block", ["contentions", "delay"]),
    ];

    /// Whether a sample type of profiles with this `__name__` can.
    pub fn can_be(name: &str, sample_type: &str) -> bool {
        let mut types = TYPES.iter();
        types.any(|(known, kinds)| *known == name && kinds.contains(&sample_type))
    }
}

/// One name and its value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    pub name: Arc<str>,
    pub value: Arc<str>,
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.name, self.value)
    }
}

/// A sorted set of labels; each name stands once.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// Builds the set from pairs in any order; of a repeated name the last value wins.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self
            .0
            .binary_search_by(|label| label.name.as_ref().cmp(name))
            .ok()?;
        Some(&self.0[at].value)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The service the series belongs to; empty if the label is missing.
    pub fn service_name(&self) -> &str {
        self.get(names::SERVICE_NAME).unwrap_or_default()
    }

    /// xxhash64 over name FF value FF … in label order.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = xxhash_rust::xxh64::Xxh64::new(0);
        for label in self.iter() {
            hash.update(label.name.as_bytes());
            hash.update(&[0xff]);
            hash.update(label.value.as_bytes());
            hash.update(&[0xff]);
        }
        hash.digest()
    }
}

impl FromIterator<Label> for Labels {
    /// In any order; of a repeated name the last value wins. Texts are shared, not copied.
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let mut labels: Vec<Label> = labels.into_iter().collect();
        // The sort is stable: of equal names the last to come is the last of its run.
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        labels.dedup_by(|later, kept| {
            let same = later.name == kept.name;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self(Arc::from(labels))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Labels {
    /// `{a="x", b="y"}`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, label) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}={:?}", label.name, label.value)?;
        }
        f.write_str("}")
    }
}

/// Collects labels in any order.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder(Vec<Label>);

impl LabelsBuilder {
    pub fn from_labels(labels: &Labels) -> Self {
        Self(labels.0.to_vec())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|label| label.name.as_ref() == name) {
            Some(label) => label.value = Arc::from(value),
            None => self.0.push(Label {
                name: Arc::from(name),
                value: Arc::from(value),
            }),
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<Arc<str>> {
        let at = self
            .0
            .iter()
            .position(|label| label.name.as_ref() == name)?;
        Some(self.0.swap_remove(at).value)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|label| label.name.as_ref() == name)
            .map(|label| label.value.as_ref())
    }

    pub fn retain(&mut self, keep: impl FnMut(&Label) -> bool) {
        self.0.retain(keep);
    }

    pub fn build(mut self) -> Labels {
        self.0.sort();
        Labels(Arc::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_unique_and_found() {
        let labels = Labels::from_pairs([("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(labels.to_string(), r#"{a="2", b="3"}"#);
        assert_eq!(labels.get("b"), Some("3"));
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn labels_collect_as_pairs_do() {
        let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("b", "5")];
        let labels = pairs.map(|(name, value)| Label {
            name: Arc::from(name),
            value: Arc::from(value),
        });
        let collected: Labels = labels.into_iter().collect();
        assert_eq!(collected, Labels::from_pairs(pairs));
        assert_eq!(collected.get("b"), Some("5"));
    }

    #[test]
    fn fingerprint_depends_on_every_byte_and_not_on_the_order_given() {
        let one = Labels::from_pairs([("a", "1"), ("b", "2")]);
        let same = Labels::from_pairs([("b", "2"), ("a", "1")]);
        let moved = Labels::from_pairs([("a", "1b"), ("", "2")]);
        assert_eq!(one.fingerprint(), same.fingerprint());
        assert_ne!(one.fingerprint(), moved.fingerprint());
    }
}
