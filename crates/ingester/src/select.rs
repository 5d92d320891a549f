//! Answering a query from the heads.
//!
//! # Invariants
//! - The generations are chosen and their heads snapshotted before anything is computed, so that
//!   each record counts once whatever is flushed meanwhile.
//! - Memory of the answer is accounted as it grows; nothing is answered that does not fit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use scoria_block::{ProfileRow, ProfileRows, SampleBatch, WriteKey};
use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, Permit, TenantId};
use scoria_query::deletion::{Deletion, Hidden};
use scoria_query::exec::{DatasetRows, ExecError, Executor, ScanStats};
use scoria_query::scan::Scan;
use scoria_query::select;
use scoria_query::wire::{self, WireError};

use crate::head::HeadSnapshot;
use crate::head::functions::TreeMemory;
use crate::tails::View;

/// What was deleted on demand, by tenant.
pub(crate) type Deletions = HashMap<TenantId, Vec<Arc<Deletion>>>;

/// A question that can be worked on by an ordinary thread.
pub(crate) struct Selection {
    scan: Scan,
    deletions: Deletions,
    /// Snapshots with [`scoria_model::StreamId::hash64`] of their stream.
    heads: Vec<(u64, HeadSnapshot)>,
    trees: TreeMemory,
    permit: Permit,
}

/// The answer as it travels.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) partial: Vec<u8>,
    pub(crate) stats: ScanStats,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectError {
    #[error(transparent)]
    Memory(#[from] BudgetExceeded),
    #[error("the heads contradict themselves: {0}")]
    Exec(#[from] ExecError),
    #[error("the answer cannot be encoded: {0}")]
    Encode(#[from] WireError),
    #[error("the answer has {actual} bytes, more than the {limit} that the caller takes")]
    TooLarge { actual: u64, limit: u64 },
    #[error("the caller went away")]
    Cancelled,
}

impl Selection {
    /// Takes the snapshots. The view must not be older than the request.
    pub(crate) fn of(
        (scan, deletions): (Scan, Deletions),
        tenants: &[TenantId],
        view: &View,
        (budget, trees): (&ByteBudget, &TreeMemory),
    ) -> Self {
        let mut heads = Vec::new();
        for generation in &view.generations {
            let hash = generation.stream.hash64();
            let taken = generation.snapshot_of(tenants).into_iter();
            heads.extend(taken.filter(|h| may_match(&scan, h)).map(|h| (hash, h)));
        }
        Self {
            scan,
            deletions,
            heads,
            trees: trees.clone(),
            permit: budget.nothing(),
        }
    }

    /// Computes the answer; `cancelled` is looked at between datasets and between the profiles of
    /// one.
    pub(crate) fn run(
        mut self,
        cancelled: &AtomicBool,
        bytes_max: u64,
    ) -> Result<Answer, SelectError> {
        let mut executor = Executor::new(self.scan.clone());
        for (stream, head) in std::mem::take(&mut self.heads) {
            if cancelled.load(Ordering::Relaxed) {
                return Err(SelectError::Cancelled);
            }
            let deletions = self.deletions.get(head.tenant());
            let deletions = deletions.map_or(&[][..], Vec::as_slice);
            let rows = rows_in_range(&self.scan, &head, deletions);
            self.hold(executor.bytes() + work_bytes(&executor, &head, &rows))?;
            let of = (stream, &head, &self.trees);
            add(&mut executor, of, &rows, cancelled).map_err(|error| {
                if cancelled.load(Ordering::Relaxed) {
                    return SelectError::Cancelled;
                }
                error.into()
            })?;
        }
        self.hold(executor.bytes() * 2)?;
        let (partial, stats) = executor.finish()?;
        let partial = wire::encode_partial(&partial)?;
        let actual = partial.len() as u64;
        if bytes_max != 0 && actual > bytes_max {
            return Err(SelectError::TooLarge {
                actual,
                limit: bytes_max,
            });
        }
        Ok(Answer { partial, stats })
    }

    fn hold(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        let held = self.permit.bytes();
        if bytes > held {
            return self.permit.grow(bytes - held);
        }
        self.permit.shrink_to(bytes);
        Ok(())
    }
}

/// Row columns; a total and a function node for each node of the stack tree; and the function tree,
/// which has each name twice and is no larger than the symbols.
fn work_bytes(executor: &Executor, head: &HeadSnapshot, rows: &ProfileRows) -> u64 {
    let symbols = head.symbols();
    let of_stacks = match executor.wants_samples() {
        true => symbols.nodes_len() as u64 * 24 + symbols.bytes(),
        false => 0,
    };
    rows.len() as u64 * 80 + of_stacks
}

fn may_match(scan: &Scan, head: &HeadSnapshot) -> bool {
    let in_range = |(first, last)| scan.range.overlaps(first, last);
    head.times().is_some_and(in_range) && select::service_matches(&scan.matchers, head.service())
}

fn rows_in_range(scan: &Scan, head: &HeadSnapshot, deletions: &[Arc<Deletion>]) -> ProfileRows {
    let hidden = Hidden::of(deletions, head.kinds(), head.series());
    let (start, end) = (scan.range.start_ns(), scan.range.end_ns());
    let rows = head.rows().iter().flat_map(|chunk| chunk.iter());
    rows.filter(|row| start <= row.time_ns && row.time_ns <= end)
        .filter(|row| !hidden.hides(row.kind, row.series, row.time_ns))
        .map(|row| ProfileRow {
            write: WriteKey::NONE,
            ..row
        })
        .collect()
}

fn add(
    executor: &mut Executor,
    (stream, head, trees): (u64, &HeadSnapshot, &TreeMemory),
    rows: &ProfileRows,
    cancelled: &AtomicBool,
) -> Result<(), ExecError> {
    let functions = executor.wants_samples().then(|| head.functions(trees));
    let samples = |at: usize, batch: &mut SampleBatch| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(SelectError::Cancelled.to_string());
        }
        head.samples(&rows.row(at), batch)
            .map_err(|error| error.to_string())
    };
    executor.add_rows(&DatasetRows {
        symbols: head.symbols(),
        functions: functions.as_deref(),
        series: head.series(),
        kinds: head.kinds(),
        rows,
        streams: &[stream],
        samples: &samples,
    })
}
