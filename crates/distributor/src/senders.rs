//! Whose the profiles of a request are, as far as their tenant is told what became of them.
//!
//! A request can hold thousands of small profiles, whose labels outweigh what they hold; those that
//! are prepared already are known by name and service, and by the other labels of the first that had
//! these.
//!
//! # Invariants
//! - What is kept of all labels but name and service is bounded, however many profiles there are.

use std::collections::HashMap;
use std::sync::Arc;

use scoria_model::labels::names;

type Labels = Arc<[(String, String)]>;

/// Senders of which other labels than name and service are kept, and how much of these.
const EXAMPLES_MAX: usize = 256;
const EXAMPLE_BYTES_MAX: usize = 512;

/// The senders of profiles, in the order in which these came.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    distinct: Vec<Labels>,
    /// Where each of them stands there.
    known: HashMap<Labels, u32>,
    in_order: Vec<u32>,
}

impl Senders {
    /// Memory of one profile.
    pub(crate) const EACH_BYTES: usize = 4;

    /// For `n` profiles.
    pub(crate) fn with_room(n: usize) -> Self {
        Self {
            in_order: Vec::with_capacity(n),
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, labels: &[(String, String)]) {
        let told =
            |(name, _): &&(String, String)| [names::NAME, names::SERVICE_NAME].contains(&&**name);
        let new: Labels = labels.iter().filter(told).cloned().collect();
        let distinct = &mut self.distinct;
        let at = *self.known.entry(new).or_insert_with_key(|key| {
            distinct.push(match distinct.len() < EXAMPLES_MAX {
                true => example(key, labels),
                false => Arc::clone(key),
            });
            distinct.len() as u32 - 1
        });
        self.in_order.push(at);
    }

    pub(crate) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// What is known of the sender of all profiles; nothing if there are several.
    pub(crate) fn only(&self) -> &[(String, String)] {
        match &self.distinct[..] {
            [only] => only,
            _ => &[],
        }
    }

    /// What is known of the sender of profile `at`.
    pub(crate) fn labels(&self, at: usize) -> &[(String, String)] {
        let labels = self.in_order.get(at).map(|&at| &self.distinct[at as usize]);
        labels.map_or(&[], |labels| labels)
    }
}

/// What the labels of a profile are told by: name and service, and of the others as many as there
/// is room for.
fn example(key: &[(String, String)], labels: &[(String, String)]) -> Labels {
    let mut bytes = 0;
    let others = labels.iter().filter(|label| !key.contains(label));
    let others = others.take_while(|(name, value)| {
        bytes += name.len() + value.len();
        bytes <= EXAMPLE_BYTES_MAX
    });
    key.iter().chain(others).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_senders_are_kept_once() {
        let labels = |service: &str, pod: &str| {
            let pairs = [
                (names::NAME, "cpu"),
                ("pod", pod),
                (names::SERVICE_NAME, service),
            ];
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let mut senders = Senders::with_room(3);
        for (service, pod) in [("a", "1"), ("b", "2"), ("a", "3")] {
            senders.push(&labels(service, pod));
        }
        assert_eq!((senders.len(), senders.distinct.len()), (3, 2));
        let [name, pod, service] = labels("a", "1");
        assert_eq!(senders.labels(2), [name, service, pod], "of the first");
        assert!(senders.labels(3).is_empty());
        assert!(senders.only().is_empty());
    }

    #[test]
    fn what_is_kept_of_other_labels_is_bounded() {
        let mut senders = Senders::default();
        for n in 0..1000 {
            let pair = |name: &str, value: String| (name.to_owned(), value);
            let labels = [
                pair("a", "x".repeat(300)),
                pair("b", "x".repeat(300)),
                pair(names::SERVICE_NAME, n.to_string()),
            ];
            senders.push(&labels);
        }
        assert_eq!(senders.labels(0).len(), 2, "a, but not b as well");
        let kept = senders.distinct.iter().map(|labels| labels.len());
        assert_eq!(kept.sum::<usize>(), 1000 + EXAMPLES_MAX);
        assert_eq!(senders.labels(999)[0].1, "999");
    }
}
