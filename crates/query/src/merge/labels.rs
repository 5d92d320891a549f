//! Label names, label values and label sets, and from when to when there is data.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use scoria_model::{Labels, Timestamp};

/// Distinct texts in ascending order, in one run of bytes: a hundred thousand label values are two
/// allocations, and two such tables join in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SortedTexts {
    text: String,
    /// One past each text.
    ends: Vec<usize>,
}

impl SortedTexts {
    /// The distinct ones of `texts`. Those that come sorted cost one comparison each.
    pub fn of<T: AsRef<str> + Ord>(mut texts: Vec<T>) -> Self {
        texts.sort();
        texts.dedup();
        let bytes = texts.iter().map(|text| text.as_ref().len()).sum();
        let mut sorted = Self::with_capacity(bytes, texts.len());
        texts.iter().for_each(|text| sorted.push(text.as_ref()));
        sorted
    }

    fn with_capacity(bytes: usize, texts: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(texts),
        }
    }

    /// Appends a text, which must be larger than all that are there.
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// All texts of both.
    fn join(&self, other: &Self) -> Self {
        let bytes = self.text.len().max(other.text.len());
        let mut joined = Self::with_capacity(bytes, self.len().max(other.len()));
        let (mut ours, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(one), Some(two)) => one.cmp(two),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return joined,
            };
            if order == Ordering::Equal {
                theirs.next();
            }
            let next = match order {
                Ordering::Greater => theirs.next(),
                _ => ours.next(),
            };
            next.into_iter().for_each(|text| joined.push(text));
        }
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.text[start..end];
            start = end;
            text
        })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        (self.text.capacity() + size_of::<usize>() * self.ends.capacity()) as u64
    }
}

/// Distinct texts and distinct label sets; a scan asks for one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelsPartial {
    /// Label names or label values.
    pub texts: SortedTexts,
    pub sets: BTreeSet<Labels>,
}

impl LabelsPartial {
    /// Memory held, roughly.
    pub fn bytes(&self) -> u64 {
        self.texts.bytes() + sets_bytes(&self.sets)
    }
}

fn sets_bytes(sets: &BTreeSet<Labels>) -> u64 {
    sets.iter().map(|set| 40 + 64 * set.len() as u64).sum()
}

/// Joins labels of many pieces of data.
///
/// Tables of texts are joined like the runs of a merge sort, each with one of about its size, so
/// that a text is visited a number of times that grows with the logarithm of the pieces; a few
/// texts that come again and again stay a few.
#[derive(Debug, Default)]
pub struct LabelsMerger {
    /// Each more than twice as long as the one after it.
    runs: Vec<SortedTexts>,
    sets: BTreeSet<Labels>,
    /// Of the sets, so that asking does not visit them all.
    sets_bytes: u64,
}

impl LabelsMerger {
    /// Takes one partial in.
    pub fn add(&mut self, partial: LabelsPartial) {
        self.add_texts(partial.texts);
        self.sets_bytes += sets_bytes(&partial.sets);
        join(&mut self.sets, partial.sets);
    }

    /// Takes texts in.
    pub fn add_texts(&mut self, texts: SortedTexts) {
        if texts.is_empty() {
            return;
        }
        let mut last = texts;
        while let Some(before) = self.runs.pop_if(|run| run.len() <= 2 * last.len()) {
            last = before.join(&last);
        }
        self.runs.push(last);
    }

    /// Takes label sets in.
    pub fn add_sets(&mut self, sets: impl IntoIterator<Item = Labels>) {
        for set in sets {
            let bytes = 40 + 64 * set.len() as u64;
            if self.sets.insert(set) {
                self.sets_bytes += bytes;
            }
        }
    }

    /// Memory held, roughly.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(SortedTexts::bytes).sum::<u64>() + self.sets_bytes
    }

    /// All that was taken in.
    pub fn finish(self) -> LabelsPartial {
        let joined = self.runs.into_iter().rev().reduce(|a, b| a.join(&b));
        LabelsPartial {
            texts: joined.unwrap_or_default(),
            sets: self.sets,
        }
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_of_many_pieces_are_the_distinct_ones_in_order(
            pieces in vec(vec("[a-d]{0,3}", 0..12), 0..12),
        ) {
            let mut merger = LabelsMerger::default();
            for piece in &pieces {
                merger.add_texts(SortedTexts::of(piece.clone()));
                let lengths: Vec<usize> = merger.runs.iter().map(SortedTexts::len).collect();
                prop_assert!(lengths.windows(2).all(|w| w[0] > 2 * w[1]), "{:?}", lengths);
            }
            let expected: BTreeSet<&String> = pieces.iter().flatten().collect();
            let texts = merger.finish().texts;
            prop_assert_eq!(texts.len(), expected.len());
            prop_assert!(texts.iter().eq(expected.into_iter().map(String::as_str)));
        }
    }
}
