//! Sums per profile rather than per stack, and per span in it where spans are told apart.

use scoria_block::SampleBatch;

use crate::merge::{OutsideStacks, SampleFilter};

/// One sum per row, of the samples whose stack counts.
#[derive(Debug)]
pub(super) struct RowTotals {
    /// Which stacks count; `None` for all.
    counts: Option<Vec<bool>>,
    n_stacks: usize,
    /// Samples of each row that are still to come.
    left: Vec<u32>,
    totals: Vec<i64>,
    /// The row that the next sample belongs to, unless nothing is left of it.
    row: usize,
    spans: Option<Spans>,
}

/// The sum of one span in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanTotal {
    /// Position of the row among those of the run.
    pub(super) at: u32,
    pub(super) span: u64,
    pub(super) trace: [u8; 16],
    pub(super) value: i64,
}

/// Sums per row and span. A row's are put together when it ends, by sorting: nothing is hashed.
#[derive(Debug, Default)]
struct Spans {
    totals: Vec<SpanTotal>,
    /// Where those of the current row begin.
    open: usize,
}

impl Spans {
    fn add(&mut self, total: SpanTotal) {
        // Samples of a span often stand together.
        if let Some(last) = self.totals[self.open..].last_mut()
            && (last.span, last.trace) == (total.span, total.trace)
        {
            last.value = last.value.saturating_add(total.value);
            return;
        }
        self.totals.push(total);
    }

    fn close(&mut self) {
        let row = &mut self.totals[self.open..];
        row.sort_unstable_by_key(|total| (total.span, total.trace));
        let mut kept = self.open;
        for at in self.open + 1..self.totals.len() {
            let total = self.totals[at];
            let last = &mut self.totals[kept];
            if (last.span, last.trace) == (total.span, total.trace) {
                last.value = last.value.saturating_add(total.value);
            } else {
                kept += 1;
                self.totals[kept] = total;
            }
        }
        if self.open < self.totals.len() {
            self.totals.truncate(kept + 1);
        }
        self.open = self.totals.len();
    }
}

impl RowTotals {
    /// For rows with these numbers of samples. `counts` says which of `n_stacks` stacks count.
    pub(super) fn new(left: Vec<u32>, n_stacks: usize, counts: Option<Vec<bool>>) -> Self {
        Self {
            counts,
            n_stacks,
            totals: vec![0; left.len()],
            left,
            row: 0,
            spans: None,
        }
    }

    /// The same, and spans are told apart.
    pub(super) fn with_spans(self) -> Self {
        Self {
            spans: Some(Spans::default()),
            ..self
        }
    }

    pub(super) fn add(
        &mut self,
        batch: &SampleBatch,
        filter: &SampleFilter,
    ) -> Result<(), OutsideStacks> {
        for sample in 0..batch.len() {
            let stack = batch.stack[sample];
            if stack as usize >= self.n_stacks {
                return Err(OutsideStacks {
                    stack,
                    n_stacks: self.n_stacks,
                });
            }
            while self.left.get(self.row) == Some(&0) {
                self.row += 1;
                if let Some(spans) = &mut self.spans {
                    spans.close();
                }
            }
            // Samples beyond the last row are noticed when the run ends.
            let Some(left) = self.left.get_mut(self.row) else {
                return Ok(());
            };
            *left -= 1;
            let counts = self.counts.as_ref().is_none_or(|c| c[stack as usize]);
            if counts && filter.passes(batch, sample) {
                let value = batch.value[sample];
                let total = &mut self.totals[self.row];
                *total = total.saturating_add(value);
                let span = batch.span_of(sample);
                if let Some(spans) = &mut self.spans
                    && span != 0
                {
                    spans.add(SpanTotal {
                        at: self.row as u32,
                        span,
                        trace: batch.trace_of(sample),
                        value,
                    });
                }
            }
        }
        Ok(())
    }

    /// The sum of each row, and those of each row's spans in the order of the rows.
    pub(super) fn finish(mut self) -> (Vec<i64>, Vec<SpanTotal>) {
        if let Some(spans) = &mut self.spans {
            spans.close();
        }
        let spans = self.spans.map(|spans| spans.totals);
        (self.totals, spans.unwrap_or_default())
    }
}
