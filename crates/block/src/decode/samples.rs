//! Samples of chosen profiles: the hot path of every query over raw data.
//!
//! Batches are decoded columns as Arrow left them; the stored differences become ranks in place,
//! in the one pass that also checks them.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::{ArrowNativeType, ArrowPrimitiveType, Int64Type, UInt32Type, UInt64Type};

use super::columns::missing;
use crate::layout::{RANK_DELTA, SPAN_ID, TRACE_ID, VALUE};
use crate::{BlockError, Columns, Fetched, OpenTable, ProfileRows, SampleBatch, Table};

/// The samples of one profile: rows `start..start + n` of its sample table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRun {
    pub start: u64,
    pub n: u32,
}

impl ProfileRows {
    /// The samples of the profile at `at`, which must be inside.
    pub fn run(&self, at: usize) -> SampleRun {
        SampleRun {
            start: self.samples_start[at],
            n: self.n_samples[at],
        }
    }
}

/// What of a batch belongs to which profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPiece {
    /// Index into [`SampleRead::runs`].
    pub run: usize,
    /// Samples of the batch.
    pub samples: Range<usize>,
}

/// Which samples to read.
#[derive(Debug, Clone, Copy)]
pub struct SampleRead<'a> {
    /// Sorted, not overlapping.
    pub runs: &'a [SampleRun],
    pub columns: Columns,
    /// [`crate::DatasetMeta::n_stacks`]: every rank is below it.
    pub n_stacks: u32,
}

impl SampleRead<'_> {
    /// The rows of the sample table that the read covers, for [`OpenTable::ranges`].
    pub fn rows(&self) -> Vec<Range<u64>> {
        let mut rows: Vec<Range<u64>> = Vec::new();
        for run in self.runs.iter().filter(|run| run.n > 0) {
            let end = run.start.saturating_add(u64::from(run.n));
            match rows.last_mut() {
                Some(last) if last.end == run.start => last.end = end,
                _ => rows.push(run.start..end),
            }
        }
        rows
    }
}

/// Hands every sample of the runs to `visit`, in order, in batches of up to 64 Ki whose `stack`
/// is the stack rank. `span` and `trace` are filled if they were asked for and the table has them.
/// The pieces say which part of the batch belongs to which run; a run may go on in the next batch.
///
/// # Errors
/// Pages were not fetched or are damaged, or a rank is not below `n_stacks`.
pub fn decode_samples(
    (open, fetched): (&OpenTable, &Fetched),
    read: SampleRead<'_>,
    visit: &mut impl FnMut(&SampleBatch, &[RunPiece]),
) -> Result<(), BlockError> {
    let mut cursor = RunCursor {
        runs: read.runs,
        run: 0,
        done: 0,
        rank: 0,
    };
    let mut pieces = Vec::new();
    let table = open.table();
    open.read((&read.rows(), read.columns), fetched, &mut |batch| {
        let mut samples = sample_columns(table, batch)?;
        cursor.cut(samples.len(), &mut pieces);
        for piece in &pieces {
            cursor.resolve(table, &mut samples.stack, piece, read.n_stacks)?;
        }
        visit(&samples, &pieces);
        Ok(())
    })
}

/// Walks the runs along the batches.
struct RunCursor<'a> {
    runs: &'a [SampleRun],
    run: usize,
    /// Samples of the current run that are behind.
    done: u32,
    /// The rank that the first piece of a batch goes on from.
    rank: u64,
}

impl RunCursor<'_> {
    /// Divides the next `n` samples among the runs.
    fn cut(&mut self, n: usize, pieces: &mut Vec<RunPiece>) {
        pieces.clear();
        if self.done == 0 {
            self.rank = 0;
        }
        let mut at = 0;
        while at < n
            && let Some(run) = self.runs.get(self.run)
        {
            let left = (run.n - self.done) as usize;
            let end = n.min(at + left);
            if at < end {
                pieces.push(RunPiece {
                    run: self.run,
                    samples: at..end,
                });
            }
            if end - at == left {
                self.run += 1;
                self.done = 0;
            } else {
                self.done += (end - at) as u32;
            }
            at = end;
        }
    }

    /// Turns the differences of a piece into ranks. They never fall within a run, so the last one
    /// is the largest.
    fn resolve(
        &mut self,
        table: Table,
        stack: &mut [u32],
        piece: &RunPiece,
        n_stacks: u32,
    ) -> Result<(), BlockError> {
        // Only the first piece of a batch may go on with a run of the batch before.
        let mut rank = if piece.samples.start == 0 {
            self.rank
        } else {
            0
        };
        for delta in &mut stack[piece.samples.clone()] {
            rank += u64::from(*delta);
            *delta = rank as u32;
        }
        self.rank = rank;
        if rank < u64::from(n_stacks) {
            return Ok(());
        }
        Err(BlockError::damaged(
            table,
            format!("stack rank {rank} is outside the dataset's {n_stacks} stacks"),
        ))
    }
}

/// The decoded columns; `stack` holds the differences as they are stored.
pub(crate) fn sample_columns(table: Table, batch: RecordBatch) -> Result<SampleBatch, BlockError> {
    let schema = batch.schema();
    let mut samples = SampleBatch::default();
    let (mut stack, mut value) = (false, false);
    let (_, columns, _) = batch.into_parts();
    for (field, column) in schema.fields().iter().zip(columns) {
        match field.name().as_str() {
            RANK_DELTA => {
                samples.stack = take::<UInt32Type>(table, column)?;
                stack = true;
            }
            VALUE => {
                samples.value = take::<Int64Type>(table, column)?;
                value = true;
            }
            SPAN_ID => samples.span = take::<UInt64Type>(table, column)?,
            TRACE_ID => samples.trace = traces(table, &column)?,
            _ => {}
        }
    }
    if stack && value {
        Ok(samples)
    } else {
        Err(missing(table, if stack { VALUE } else { RANK_DELTA }))
    }
}

/// The values of a column, without a copy where the batch was their only owner.
fn take<T: ArrowPrimitiveType>(table: Table, column: ArrayRef) -> Result<Vec<T::Native>, BlockError>
where
    T::Native: ArrowNativeType,
{
    let array = column
        .as_primitive_opt::<T>()
        .cloned()
        .ok_or_else(|| missing(table, "of samples"))?;
    drop(column);
    let (_, values, _) = array.into_parts();
    match values.into_inner().into_vec::<T::Native>() {
        Ok(values) => Ok(values),
        Err(shared) => Ok(shared.typed_data::<T::Native>().to_vec()),
    }
}

fn traces(table: Table, column: &ArrayRef) -> Result<Vec<[u8; 16]>, BlockError> {
    let array: &FixedSizeBinaryArray = column
        .as_any()
        .downcast_ref()
        .ok_or_else(|| missing(table, TRACE_ID))?;
    let (whole, _) = array.value_data().as_chunks::<16>();
    whole
        .get(array.offset()..array.offset() + array.len())
        .map(<[[u8; 16]]>::to_vec)
        .ok_or_else(|| missing(table, TRACE_ID))
}
