//! Runs a scan over decoded data: the same code for heads, whose samples come as nodes of the
//! stack tree, and for blocks, whose samples come as ranks.
//!
//! A head is added in one call, [`Executor::add_rows`]. A block is added in steps, because its
//! samples have to be fetched in between: [`select::rows`], then [`Executor::add_profiles`] if
//! the scan does not want samples, else [`Executor::start`], [`SampleRun::add`] for each decoded
//! batch, and [`Executor::finish_run`].
//!
//! # Invariants
//! - Each sample is added once, without hashing; symbols are looked at per stack, not per sample.
//!
//! # What it must not know
//! Where data lies, tenants, and how answers are shown.

mod labels;
mod points;
mod row_totals;

use std::sync::Arc;

use scoria_block::{ProfileRows, SampleBatch};
use scoria_model::{Labels, ProfileType, Timestamp};
use scoria_symbols::{Symbols, SymbolsError};

use crate::functions::FunctionTree;
use crate::merge::{
    FunctionTotals, Merger, OutsideStacks, Partial, Period, ProfilePartial, SampleFilter,
    StackTotals, TreePartial,
};
use crate::scan::{Scan, StackFilter, What};
use crate::select::{self, DatasetView};

pub use labels::{labels_without_series, needs_no_series};
use points::{Valued, add_points, add_values};
use row_totals::RowTotals;

/// Samples that are gathered before they are added up.
const BATCH_SAMPLES: usize = 64 * 1024;
/// Samples of up to so many stacks are added up by stack, which looks up one table instead of two
/// and takes a third of the time; the sums become those of function nodes at the end. It is two
/// megabytes of sums that this holds beside those. Where there are more stacks, samples are added to
/// function nodes at once.
const FEW_STACKS: usize = if cfg!(test) { 3 } else { 1 << 18 };

/// Why a scan could not be carried out over some data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    #[error(transparent)]
    OutsideStacks(#[from] OutsideStacks),
    #[error("the selected profiles have {expected} samples, but {seen} came")]
    SampleCount { expected: u64, seen: u64 },
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
    /// The caller could not hand out the samples of a profile.
    #[error("the samples of profile {row} cannot be read: {reason}")]
    Samples { row: usize, reason: String },
}

/// What a scan looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanStats {
    /// Profiles that were selected.
    pub profiles: u64,
    /// Samples that were read.
    pub samples: u64,
    pub spans: SpanStats,
}

/// What a scan saw that asks for the samples of spans: enough to say why it found none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanStats {
    /// Profiles whose samples were looked at.
    pub profiles: u64,
    /// Samples that belong to any span.
    pub samples: u64,
    /// The longest period of these profiles, in the unit of their period type; 0 if none says.
    pub period: i64,
}

impl SpanStats {
    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        self.profiles += other.profiles;
        self.samples += other.samples;
        self.period = self.period.max(other.period);
    }
}

impl ScanStats {
    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        self.profiles += other.profiles;
        self.samples += other.samples;
        self.spans.merge(other.spans);
    }
}

/// One dataset as a head holds it.
#[derive(Clone, Copy)]
pub struct DatasetRows<'a> {
    pub symbols: &'a Symbols,
    /// The function tree of `symbols`, where it is kept; otherwise it is built for the occasion.
    pub functions: Option<&'a FunctionTree>,
    /// Series labels as they are stored.
    pub series: &'a [Labels],
    pub kinds: &'a [ProfileType],
    pub rows: &'a ProfileRows,
    /// [`scoria_model::StreamId::hash64`] of each stream that the rows point to.
    pub streams: &'a [u64],
    /// Appends the samples of a row to a batch, or says why it cannot; a sample's stack is a node
    /// of `symbols`.
    pub samples: &'a dyn Fn(usize, &mut SampleBatch) -> Result<(), String>,
}

impl std::fmt::Debug for DatasetRows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatasetRows")
            .field("kinds", &self.kinds)
            .field("n_series", &self.series.len())
            .field("n_rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

/// What the stack numbers of samples stand for.
#[derive(Debug, Clone, Copy)]
pub struct Stacks<'a> {
    pub symbols: &'a Symbols,
    /// The function tree of `symbols`.
    pub functions: &'a FunctionTree,
    /// The node of each stack; `None` if stacks are nodes.
    pub nodes: Option<&'a [u32]>,
    /// The function node of each stack.
    pub function_of: &'a [u32],
}

impl Stacks<'_> {
    fn len(&self) -> usize {
        self.nodes
            .map_or_else(|| self.symbols.nodes_len(), <[u32]>::len)
    }

    /// Which function nodes a call site takes; `None` for all.
    fn below(&self, call_site: &[Arc<str>]) -> Option<Vec<bool>> {
        (!call_site.is_empty()).then(|| self.functions.below(call_site))
    }

    /// Whether a node's function node is among those of [`Stacks::below`].
    fn is_below(&self, below: Option<&[bool]>, node: u32) -> bool {
        let Some(below) = below else {
            return true;
        };
        let at = self.functions.node_of().get(node as usize);
        at.is_some_and(|&at| below[at as usize])
    }

    /// Which stacks a call site takes; `None` for all.
    fn counting(&self, call_site: &[Arc<str>]) -> Option<Vec<bool>> {
        let below = self.below(call_site)?;
        let counts = |&at: &u32| below.get(at as usize).copied().unwrap_or_default();
        Some(self.function_of.iter().map(counts).collect())
    }
}

/// Adding up the samples of some rows of one dataset.
#[derive(Debug)]
pub struct SampleRun<'a> {
    filter: SampleFilter,
    into: RunInto<'a>,
    /// Samples that the rows have.
    expected: u64,
    /// Samples that came.
    seen: u64,
    /// Samples of any span that came, where the scan asks for some.
    of_spans: u64,
}

#[derive(Debug)]
enum RunInto<'a> {
    /// With the node of each stack.
    Functions(FunctionTotals, &'a [u32]),
    Stacks(StackTotals),
    Rows(RowTotals),
}

impl SampleRun<'_> {
    /// Adds a batch. Batches come in the order of the rows that the run was started with and hold
    /// the samples of these rows and no others.
    ///
    /// # Errors
    /// [`OutsideStacks`]: the data is damaged and the run must be given up.
    pub fn add(&mut self, batch: &SampleBatch) -> Result<(), OutsideStacks> {
        self.seen += batch.len() as u64;
        if !self.filter.is_open() {
            let of_spans = batch.span.iter().filter(|&&span| span != 0);
            self.of_spans += of_spans.count() as u64;
        }
        match &mut self.into {
            RunInto::Functions(totals, node_of) => totals.add(batch, &self.filter, node_of),
            RunInto::Stacks(totals) => totals.add(batch, &self.filter),
            RunInto::Rows(rows) => rows.add(batch, &self.filter),
        }
    }
}

/// One scan over any number of datasets.
#[derive(Debug)]
pub struct Executor {
    scan: Scan,
    merger: Merger,
    stats: ScanStats,
}

impl Executor {
    pub fn new(scan: Scan) -> Self {
        let merger = Merger::new(&scan.what);
        Self {
            scan,
            merger,
            stats: ScanStats::default(),
        }
    }

    pub fn scan(&self) -> &Scan {
        &self.scan
    }

    /// Whether samples are needed, or profile rows are enough.
    pub fn wants_samples(&self) -> bool {
        self.scan.what.wants_samples()
    }

    /// Takes in one dataset of a head.
    ///
    /// # Errors
    /// [`ExecError::OutsideStacks`] if samples and symbols do not belong together.
    pub fn add_rows(&mut self, data: &DatasetRows<'_>) -> Result<(), ExecError> {
        let view = DatasetView {
            series: data.series,
            kinds: data.kinds,
            rows: data.rows,
            streams: data.streams,
        };
        let rows = select::rows(&self.scan, &view);
        if rows.is_empty() {
            return Ok(());
        }
        if !self.wants_samples() {
            self.add_profiles(&view, &rows);
            return Ok(());
        }
        let built;
        let functions = match data.functions {
            Some(functions) => functions,
            None => {
                built = FunctionTree::of(data.symbols);
                &built
            }
        };
        let stacks = Stacks {
            symbols: data.symbols,
            functions,
            nodes: None,
            function_of: functions.node_of(),
        };
        let mut run = self.start(&view, &rows, &stacks);
        let mut batch = SampleBatch::default();
        for &row in &rows {
            let row = row as usize;
            (data.samples)(row, &mut batch).map_err(|reason| ExecError::Samples { row, reason })?;
            if batch.len() >= BATCH_SAMPLES {
                run.add(&batch)?;
                batch.clear();
            }
        }
        run.add(&batch)?;
        self.finish_run(run, &view, &rows, &stacks)
    }

    /// Takes in selected rows of a dataset for a scan that does not want samples.
    pub fn add_profiles(&mut self, view: &DatasetView<'_>, rows: &[u32]) {
        self.stats.profiles += rows.len() as u64;
        match &mut self.merger {
            Merger::Labels(labels) => labels::add_labels(labels, &self.scan, view, rows),
            Merger::Stats(stats) => {
                let times = rows.iter().map(|&row| view.rows.time_ns[row as usize]);
                if let (Some(oldest), Some(newest)) = (times.clone().min(), times.max()) {
                    stats.add(Timestamp(oldest), Timestamp(newest));
                }
            }
            Merger::Series(_) | Merger::Values(_) => self.add_valued(&Valued {
                view,
                rows,
                value: &|at| Some(view.rows.total[rows[at] as usize]),
                spans: &[],
            }),
            Merger::Tree(_) | Merger::Profile(_) => {}
        }
    }

    fn add_valued(&mut self, valued: &Valued<'_>) {
        match (&mut self.merger, &self.scan.what) {
            (Merger::Series(series), What::TimeSeries(wanted)) => {
                add_points(series, wanted, valued);
            }
            (Merger::Values(values), What::Heatmap(wanted)) => {
                add_values(values, wanted, valued);
            }
            _ => {}
        }
    }

    /// Begins to add up the samples of selected rows.
    pub fn start<'s>(
        &self,
        view: &DatasetView<'_>,
        rows: &[u32],
        stacks: &Stacks<'s>,
    ) -> SampleRun<'s> {
        let n_samples = |&row: &u32| view.rows.n_samples[row as usize];
        let filter = self.scan.what.filter();
        let into = match &self.scan.what {
            What::TimeSeries(_) | What::Heatmap(_) => {
                let counts = filter.and_then(|filter| stacks.counting(&filter.call_site));
                let left = rows.iter().map(n_samples).collect();
                let totals = RowTotals::new(left, stacks.len(), counts);
                RunInto::Rows(if self.scan.what.collects_spans() {
                    totals.with_spans()
                } else {
                    totals
                })
            }
            What::Tree(_) if stacks.len() > FEW_STACKS => {
                let totals = FunctionTotals::new(stacks.functions.len());
                RunInto::Functions(totals, stacks.function_of)
            }
            _ => RunInto::Stacks(StackTotals::new(stacks.len())),
        };
        SampleRun {
            filter: filter.map(SampleFilter::new).unwrap_or_default(),
            into,
            expected: rows.iter().map(|row| u64::from(n_samples(row))).sum(),
            seen: 0,
            of_spans: 0,
        }
    }

    /// Takes in what a run added up. `view`, `rows` and `stacks` are those it was started with.
    ///
    /// # Errors
    /// [`ExecError::SampleCount`] if other samples came than the rows have.
    pub fn finish_run(
        &mut self,
        run: SampleRun<'_>,
        view: &DatasetView<'_>,
        rows: &[u32],
        stacks: &Stacks<'_>,
    ) -> Result<(), ExecError> {
        self.finish_rolled(run, (view, rows, stacks), rows.len() as u64)
    }

    /// As [`finish_run`](Self::finish_run), for rows that are not profiles but sums of `profiles`
    /// profiles. Only scans that add stacks up can be answered by them.
    ///
    /// # Errors
    /// As `finish_run`.
    pub fn finish_rolled(
        &mut self,
        run: SampleRun<'_>,
        (view, rows, stacks): (&DatasetView<'_>, &[u32], &Stacks<'_>),
        profiles: u64,
    ) -> Result<(), ExecError> {
        let SampleRun { expected, seen, .. } = run;
        if !run.filter.is_open() {
            let periods = rows.iter().map(|&row| view.rows.period[row as usize]);
            self.stats.spans.merge(SpanStats {
                profiles,
                samples: run.of_spans,
                period: periods.max().unwrap_or_default(),
            });
        }
        if expected != seen {
            return Err(ExecError::SampleCount { expected, seen });
        }
        self.stats.profiles += profiles;
        self.stats.samples += seen;
        match (&mut self.merger, &self.scan.what, run.into) {
            (Merger::Tree(tree), What::Tree(filter), RunInto::Functions(totals, _)) => {
                tree.take(tree_of(totals, filter, stacks));
            }
            (Merger::Tree(tree), What::Tree(filter), RunInto::Stacks(totals)) => {
                let n_nodes = stacks.functions.len();
                let totals = FunctionTotals::of_stacks(&totals, stacks.function_of, n_nodes)?;
                tree.take(tree_of(totals, filter, stacks));
            }
            (Merger::Profile(profile), What::Profile(filter), RunInto::Stacks(totals)) => {
                let below = stacks.below(&filter.call_site);
                profile.add(&ProfilePartial::of_totals(
                    stacks.symbols,
                    totals.as_slice(),
                    stacks.nodes,
                    |node| stacks.is_below(below.as_deref(), node),
                    period_of(view, rows),
                ));
            }
            (_, _, RunInto::Rows(totals)) => {
                let (totals, spans) = totals.finish();
                self.add_valued(&Valued {
                    view,
                    rows,
                    value: &|at| Some(totals[at]).filter(|&total| total != 0),
                    spans: &spans,
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Memory that the answer takes so far.
    pub fn bytes(&self) -> u64 {
        self.merger.bytes()
    }

    /// The answer.
    ///
    /// # Errors
    /// [`ExecError::Symbols`] if symbols contradict themselves.
    pub fn finish(self) -> Result<(Partial, ScanStats), ExecError> {
        Ok((self.merger.finish()?, self.stats))
    }
}

fn tree_of(totals: FunctionTotals, filter: &StackFilter, stacks: &Stacks<'_>) -> TreePartial {
    let below = stacks.below(&filter.call_site);
    TreePartial::of_sums(stacks.functions, totals, below.as_deref())
}

fn period_of(view: &DatasetView<'_>, rows: &[u32]) -> Period {
    rows.iter()
        .map(|&row| Period::Known(view.rows.period[row as usize]))
        .fold(Period::Unknown, Period::and)
}

#[cfg(test)]
mod tests;
