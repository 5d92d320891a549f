//! Where the runs of samples stop.

use scoria_model::packed::Row;

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
