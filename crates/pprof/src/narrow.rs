//! Which labels to leave out where the labels of samples would make too many series.
//!
//! Those with the most values go first, until there are few enough series.
//!
//! # Invariants
//! - The samples are gone over once more instead of being kept in another form: what is held is an
//!   entry for each distinct label, and for as many groups as are allowed.
//! - Labels are told apart by their indexes. A sender who repeats texts in the string table makes
//!   them look like more than they are.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use crate::raw::RawProfile;

/// The names to leave out so that the samples of `raw` have at most `most` sets of labels;
/// `promotes` says which names count at all. None if it is few enough as it is.
pub(crate) fn names_to_leave_out<'r>(
    raw: &'r RawProfile<'_>,
    promotes: impl Fn(&[u8]) -> bool,
    most: u64,
    hash: &FixedState,
) -> Vec<&'r [u8]> {
    let mut widest: Vec<(&[u8], usize)> = values(raw, promotes, hash).into_iter().collect();
    widest.sort_unstable_by_key(|&(name, n)| (Reverse(n), name));
    let ranks = (0..).zip(&widest).map(|(rank, &(name, _))| (name, rank));
    let sets = LabelSets {
        raw,
        ranks: Ranks::of(raw, &ranks.collect(), hash),
        hash,
    };
    // The more names are left out, the fewer sets there are.
    let (mut too_few, mut enough) = (0, widest.len());
    while too_few + 1 < enough {
        let middle = usize::midpoint(too_few, enough);
        if sets.are_at_most(most, middle) {
            enough = middle;
        } else {
            too_few = middle;
        }
    }
    widest.truncate(enough);
    widest.into_iter().map(|(name, _)| name).collect()
}

/// How many values each name has.
fn values<'r>(
    raw: &'r RawProfile<'_>,
    promotes: impl Fn(&[u8]) -> bool,
    hash: &FixedState,
) -> BTreeMap<&'r [u8], usize> {
    let mut seen: HashTable<(u32, u32)> = HashTable::new();
    let mut values = BTreeMap::new();
    for label in samples(raw).flat_map(|at| raw.columns.labels.slice(raw.sample(at).labels())) {
        let pair = (label.key, label.text);
        let own = hash.hash_one(pair);
        if raw.text(label.text).is_empty() || seen.find(own, |&known| known == pair).is_some() {
            continue;
        }
        seen.insert_unique(own, pair, |pair| hash.hash_one(pair));
        let name = raw.text(label.key);
        if promotes(name) {
            *values.entry(name).or_default() += 1;
        }
    }
    values
}

/// The samples that are stored.
fn samples(raw: &RawProfile<'_>) -> impl Iterator<Item = usize> {
    (0..raw.columns.samples.len()).filter(|&at| raw.counts(at))
}

/// Where the name of each key stands among those with the most values.
struct Ranks(HashMap<u32, usize, FixedState>);

impl Ranks {
    fn of(raw: &RawProfile<'_>, by_name: &BTreeMap<&[u8], usize>, hash: &FixedState) -> Self {
        let mut ranks = HashMap::with_hasher(hash.clone());
        for label in raw.columns.labels.iter() {
            if let Some(&rank) = by_name.get(raw.text(label.key)) {
                ranks.insert(label.key, rank);
            }
        }
        Self(ranks)
    }
}

/// The labels of samples as sets.
struct LabelSets<'s, 'a> {
    raw: &'s RawProfile<'a>,
    ranks: Ranks,
    hash: &'s FixedState,
}

impl LabelSets<'_, '_> {
    /// Whether there are at most `most` sets when the first `n_out` names are left out.
    fn are_at_most(&self, most: u64, n_out: usize) -> bool {
        let mut sets: HashTable<usize> = HashTable::new();
        let hash = |at: usize| {
            let pairs = self.pairs(at, n_out);
            pairs.fold(0, |hash: u64, pair| self.hash.hash_one((hash, pair)))
        };
        for at in samples(self.raw) {
            let own = hash(at);
            let same = |&known: &usize| self.pairs(known, n_out).eq(self.pairs(at, n_out));
            if self.pairs(at, n_out).next().is_none() || sets.find(own, same).is_some() {
                continue;
            }
            if sets.len() as u64 == most {
                return false;
            }
            sets.insert_unique(own, at, |&known| hash(known));
        }
        true
    }

    /// What is left of a sample's labels.
    fn pairs(&self, at: usize, n_out: usize) -> impl Iterator<Item = (u32, u32)> {
        let labels = &self.raw.columns.labels;
        let labels = labels.slice(self.raw.sample(at).labels());
        let stays = move |key: u32| self.ranks.0.get(&key).is_some_and(|&rank| rank >= n_out);
        let labels = labels.filter(move |label| stays(label.key));
        let labels = labels.filter(|label| !self.raw.text(label.text).is_empty());
        labels.map(|label| (label.key, label.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProfileEncoder;
    use crate::encode::SampleLabel;

    fn left_out(samples: &[(&[(&str, &str)], i64)], most: u64) -> Vec<String> {
        let mut encoder = ProfileEncoder::new();
        encoder.sample_type("cpu", "nanoseconds");
        for &(labels, value) in samples {
            let labels = labels
                .iter()
                .map(|&(key, value)| SampleLabel { key, value });
            let labels: Vec<SampleLabel<'_>> = labels.collect();
            encoder.sample([], &[value], &labels);
        }
        let bytes = encoder.finish();
        let raw = RawProfile::decode(&bytes).unwrap();
        let hash = FixedState::with_seed(3);
        let names = names_to_leave_out(&raw, |name| name != b"span_id", most, &hash);
        let names = names.into_iter().map(String::from_utf8_lossy);
        names.map(|name| name.into_owned()).collect()
    }

    #[test]
    fn names_with_the_most_values_go_first_and_no_more_than_needed() {
        let samples: [(&[(&str, &str)], i64); 6] = [
            (&[("request", "1"), ("thread", "a"), ("zone", "x")], 1),
            (&[("request", "2"), ("thread", "b"), ("zone", "x")], 1),
            (&[("request", "3"), ("thread", "a"), ("span_id", "7")], 1),
            (&[("request", "4"), ("thread", "a"), ("span_id", "8")], 1),
            // Neither is stored, and so neither counts.
            (&[("zone", "y"), ("thread", "c"), ("request", "5")], 0),
            (&[("zone", "z"), ("thread", "d"), ("request", "6")], -1),
        ];
        // Without requests: (a, x), (b, x), (a).
        assert_eq!(left_out(&samples, 3), ["request"]);
        // Without threads too: (x).
        assert_eq!(left_out(&samples, 2), ["request", "thread"]);
        assert_eq!(left_out(&samples, 1), ["request", "thread"]);
        let all = ["request", "thread", "zone"];
        assert_eq!(left_out(&samples, 0), all);
    }
}
