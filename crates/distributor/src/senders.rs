//! Whose the profiles of a request are, as far as their tenant is told what became of them.
//!
//! A request can hold thousands of small profiles, whose labels outweigh what they hold; those that
//! are prepared already are known by name and service.

use std::collections::HashMap;
use std::sync::Arc;

use scoria_model::labels::names;

type Labels = Arc<[(String, String)]>;

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
        let at = *self.known.entry(new).or_insert_with_key(|labels| {
            self.distinct.push(Arc::clone(labels));
            self.distinct.len() as u32 - 1
        });
        self.in_order.push(at);
    }

    pub(crate) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// What is known of the sender of profile `at`.
    pub(crate) fn labels(&self, at: usize) -> &[(String, String)] {
        let labels = self.in_order.get(at).map(|&at| &self.distinct[at as usize]);
        labels.map_or(&[], |labels| labels)
    }
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
        let [name, _, service] = labels("a", "");
        assert_eq!(senders.labels(2), [name, service]);
        assert!(senders.labels(3).is_empty());
    }
}
