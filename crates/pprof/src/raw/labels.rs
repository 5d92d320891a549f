//! Labels of samples, a column for each of what they have.

use std::ops::Range;

use scoria_model::Packed;

use crate::room::make_room;

/// In place of a label's text: it has none, but a number or a unit, which nobody asks for.
pub const NUMBER: u32 = u32::MAX - 1;

/// A label of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RawLabel {
    pub key: u32,
    /// Index of the text, or [`NUMBER`]; 0 for neither.
    pub text: u32,
}

/// The labels of all samples.
#[derive(Debug, Default)]
pub struct SampleLabels {
    keys: Packed<u32>,
    texts: Packed<u32>,
}

impl SampleLabels {
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The labels at these places, which must be inside.
    #[inline]
    pub fn slice(&self, places: Range<usize>) -> impl ExactSizeIterator<Item = RawLabel> + Clone {
        let keys = self.keys.slice(places.clone()).iter();
        let labels = keys.zip(self.texts.slice(places));
        labels.map(|(key, text)| RawLabel { key, text })
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RawLabel> + Clone {
        self.slice(0..self.len())
    }

    pub(super) fn push(&mut self, label: RawLabel) {
        self.keys.push(label.key);
        self.texts.push(label.text);
    }

    pub(crate) fn extend(&mut self, labels: impl ExactSizeIterator<Item = RawLabel>) {
        make_room(&mut self.keys, labels.len());
        make_room(&mut self.texts, labels.len());
        labels.for_each(|label| self.push(label));
    }

    pub(super) fn reserve_exact(&mut self, more: usize) {
        self.keys.reserve_up_to(more, 0);
        self.texts.reserve_wide(more, TEXT_WIDTH);
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.texts.clear();
    }

    pub(super) fn shrink(&mut self) {
        self.keys.shrink_to_fit();
        self.texts.shrink_to_fit();
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.keys.held_bytes() + self.texts.held_bytes()
    }
}

/// Bytes of the index of a text, where there are so many labels that they are counted first.
const TEXT_WIDTH: usize = 2;
