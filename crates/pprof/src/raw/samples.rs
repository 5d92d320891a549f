//! Where the runs of samples stop.

use scoria_model::Rows;
use scoria_model::packed::Row;

use crate::room::make_room;

/// Where a sample's runs stop; they start where the sample before stopped, but for frames that have
/// a start of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SampleEnds {
    pub frames: u32,
    pub values: u32,
    pub labels: u32,
}

impl Row for SampleEnds {
    type Cells = (u32, u32, u32);

    #[inline]
    fn cells(self) -> Self::Cells {
        (self.frames, self.values, self.labels)
    }

    #[inline]
    fn of((frames, values, labels): Self::Cells) -> Self {
        Self {
            frames,
            values,
            labels,
        }
    }
}

/// The samples of a profile.
#[derive(Debug, Default)]
pub struct Samples(Rows<SampleEnds>);

impl Samples {
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `at`, which must be inside.
    #[inline]
    pub fn get(&self, at: usize) -> SampleEnds {
        self.0.get(at)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = SampleEnds> + Clone {
        self.0.iter()
    }

    /// How many there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    #[inline]
    pub(super) fn push(&mut self, sample: SampleEnds) {
        self.0.push(sample);
    }

    /// As [`push`](Self::push), growing as [`make_room`] does.
    pub(super) fn add(&mut self, sample: SampleEnds) {
        make_room(&mut self.0, 1);
        self.0.push(sample);
    }

    /// Has the frames of a sample stop elsewhere.
    pub(super) fn set_frames(&mut self, at: usize, frames: u32) {
        let sample = self.0.get(at);
        self.0.set(at, SampleEnds { frames, ..sample });
    }

    /// Makes room for exactly `more` samples of one type, and for so many frames and labels.
    pub(super) fn reserve(&mut self, more: usize, (frames, labels): (usize, usize)) {
        self.0.reserve_up_to(more, || SampleEnds {
            frames: frames as u32,
            values: more as u32,
            labels: labels as u32,
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }
}
