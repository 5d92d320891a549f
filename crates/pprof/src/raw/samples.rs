//! Where the runs of samples stop.

use scoria_model::Packed;
use scoria_model::packed::WHOLE_BYTES;

use crate::room::make_room;

/// Where a sample's runs stop; they start where the sample before stopped, but for frames that have
/// a start of their own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SampleEnds {
    pub frames: u32,
    pub values: u32,
    pub labels: u32,
}

/// The samples of a profile: rows, or columns once there are many.
#[derive(Debug, Default)]
pub struct Samples {
    /// None once there are columns.
    rows: Vec<SampleEnds>,
    is_narrow: bool,
    frames: Packed<u32>,
    values: Packed<u32>,
    labels: Packed<u32>,
}

/// More samples are kept as columns.
const ROWS_MAX: usize = WHOLE_BYTES / size_of::<SampleEnds>();

impl Samples {
    pub const fn len(&self) -> usize {
        match self.is_narrow {
            true => self.frames.len(),
            false => self.rows.len(),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there is room for.
    pub(super) const fn capacity(&self) -> usize {
        match self.is_narrow {
            true => self.frames.capacity(),
            false => self.rows.capacity(),
        }
    }

    /// The sample at `at`, which must be inside.
    #[inline]
    pub fn get(&self, at: usize) -> SampleEnds {
        match self.rows.get(at) {
            Some(row) => *row,
            None => SampleEnds {
                frames: self.frames.get(at),
                values: self.values.get(at),
                labels: self.labels.get(at),
            },
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = SampleEnds> + Clone {
        (0..self.len()).map(|at| self.get(at))
    }

    #[inline]
    pub(super) fn push(&mut self, sample: SampleEnds) {
        if !self.is_narrow && self.rows.len() < ROWS_MAX {
            return self.rows.push(sample);
        }
        if !self.is_narrow {
            self.make_narrow();
        }
        self.push_columns(sample);
    }

    /// As [`push`](Self::push), growing as [`make_room`] does.
    pub(super) fn add(&mut self, sample: SampleEnds) {
        if self.is_narrow {
            make_room(&mut self.frames, 1);
            make_room(&mut self.values, 1);
            make_room(&mut self.labels, 1);
        }
        self.push(sample);
    }

    fn push_columns(&mut self, sample: SampleEnds) {
        self.frames.push(sample.frames);
        self.values.push(sample.values);
        self.labels.push(sample.labels);
    }

    #[cold]
    fn make_narrow(&mut self) {
        self.is_narrow = true;
        for row in std::mem::take(&mut self.rows) {
            self.push_columns(row);
        }
    }

    /// Has the frames of all samples stop elsewhere.
    pub(super) fn set_frames(&mut self, ends: Packed<u32>) {
        if self.is_narrow {
            self.frames = ends;
            return;
        }
        for (row, end) in self.rows.iter_mut().zip(ends.iter()) {
            row.frames = end;
        }
    }

    /// Makes room for exactly `more` samples of one type, and for so many frames and labels.
    pub(super) fn reserve(&mut self, more: usize, (frames, labels): (usize, usize)) {
        if !self.is_narrow && self.rows.len() + more <= ROWS_MAX {
            return self.rows.reserve_exact(more);
        }
        self.make_narrow();
        self.frames.reserve_up_to(more, frames as u32);
        self.values.reserve_up_to(more, more as u32);
        self.labels.reserve_up_to(more, labels as u32);
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.is_narrow = false;
        self.frames.clear();
        self.values.clear();
        self.labels.clear();
    }

    pub(super) fn shrink(&mut self) {
        self.rows.shrink_to_fit();
        self.frames.shrink_to_fit();
        self.values.shrink_to_fit();
        self.labels.shrink_to_fit();
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<SampleEnds>()
            + self.frames.held_bytes()
            + self.values.held_bytes()
            + self.labels.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_hold_the_same() {
        let sample = |at: u32| SampleEnds {
            frames: at * 30,
            values: at * 2,
            labels: at,
        };
        let mut samples = Samples::default();
        for at in 0..3 * ROWS_MAX as u32 {
            samples.push(sample(at));
            assert_eq!(samples.is_narrow, at as usize >= ROWS_MAX);
        }
        assert_eq!((samples.len(), samples.rows.capacity()), (3 * ROWS_MAX, 0));
        let same = |(at, held): (u32, SampleEnds)| {
            let expected = sample(at);
            held.frames == expected.frames
                && held.values == expected.values
                && held.labels == expected.labels
        };
        assert!((0..).zip(samples.iter()).all(same));
        for n in [2, 2 * ROWS_MAX] {
            samples.clear();
            samples.reserve(n, (30 * n, n));
            (0..n as u32).for_each(|at| samples.add(sample(at)));
            assert!((0..).zip(samples.iter()).all(same), "{n}");
            samples.set_frames((0..n as u32).collect());
            assert_eq!((samples.len(), samples.get(1).frames), (n, 1));
            assert_eq!(samples.get(1).values, 2);
        }
    }
}
