//! Reads the samples of one dataset from front to back, profile by profile.

use scoria_symbols::NONE;

use crate::decode::sample_columns;
use crate::open::Batches;
use crate::sample_writer::RankedSamples;
use crate::{BlockError, Columns, MergeInput, SampleBatch, SampleRun, Table};

/// Rows decoded at a time: many inputs are open at once.
const BATCH_ROWS: usize = 16 * 1024;

/// A place in the samples of one dataset.
pub(super) struct SampleCursor {
    table: Table,
    batches: Batches,
    batch: SampleBatch,
    /// The next sample in the batch.
    at: usize,
    /// Row of the next sample in the table.
    row: u64,
}

impl SampleCursor {
    /// At the dataset's first sample.
    pub(super) fn open(input: &MergeInput<'_>, table: Table) -> Result<Self, BlockError> {
        let rows = input.dataset.rows(table);
        let (open, fetched) = input.sources.get(table).ok_or(BlockError::NotFetched {
            table,
            start: rows.start,
            end: rows.end,
        })?;
        let row = rows.start;
        Ok(Self {
            table,
            batches: open.batches((&[rows], Columns::WithSpans), fetched, BATCH_ROWS)?,
            batch: SampleBatch::default(),
            at: 0,
            row,
        })
    }

    /// Appends every sample of `run` by the new ranks in `numbers`. Runs come in the order in which
    /// they lie; samples between them are passed over.
    pub(super) fn read(
        &mut self,
        run: SampleRun,
        numbers: &[u32],
        out: &mut RankedSamples,
    ) -> Result<(), BlockError> {
        let ahead = run.start.checked_sub(self.row).ok_or_else(|| {
            BlockError::damaged(
                self.table,
                format!("its profiles are not in order at row {}", run.start),
            )
        })?;
        self.pass(ahead)?;
        let mut left = run.n as usize;
        let mut rank = 0u32;
        while left > 0 {
            let here = self.here()?.min(left);
            let spanless = self.batch.span.is_empty() && self.batch.trace.is_empty();
            for at in self.at..self.at + here {
                rank = rank.wrapping_add(self.batch.stack[at]);
                // A rank whose profiles were all left out has no new one.
                let new = match numbers.get(rank as usize) {
                    Some(&new) if new != NONE => new,
                    _ => return Err(self.outside(rank)),
                };
                let value = self.batch.value[at];
                if spanless {
                    out.push_plain(new, value);
                } else {
                    let origin = (self.batch.span_of(at), self.batch.trace_of(at));
                    out.push(new, value, origin);
                }
            }
            self.advance(here);
            left -= here;
        }
        Ok(())
    }

    #[cold]
    fn outside(&self, rank: u32) -> BlockError {
        let what = format!("stack rank {rank} is outside the dataset's stacks");
        BlockError::damaged(self.table, what)
    }

    fn pass(&mut self, mut n: u64) -> Result<(), BlockError> {
        while n > 0 {
            let here = usize::try_from(n).unwrap_or(usize::MAX).min(self.here()?);
            self.advance(here);
            n -= here as u64;
        }
        Ok(())
    }

    const fn advance(&mut self, n: usize) {
        self.at += n;
        self.row += n as u64;
    }

    /// Samples left in the batch, which is the next one if there are none; at least one.
    fn here(&mut self) -> Result<usize, BlockError> {
        while self.at >= self.batch.len() {
            let batch = self.batches.next()?.ok_or_else(|| {
                BlockError::damaged(self.table, "its profiles count more samples than it has")
            })?;
            self.batch = sample_columns(self.table, batch)?;
            self.at = 0;
        }
        Ok(self.batch.len() - self.at)
    }
}
