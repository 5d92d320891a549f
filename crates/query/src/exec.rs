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

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use scoria_block::{ProfileRows, SampleBatch};
use scoria_model::{Label, Labels, LabelsBuilder, ProfileId, ProfileType, Timestamp};
use scoria_symbols::{Symbols, SymbolsError};

use crate::functions::FunctionTree;
use crate::merge::{
    Exemplar, GroupKey, LabelsPartial, Merger, OutsideStacks, Partial, Period, Point,
    ProfilePartial, SampleFilter, SeriesPartial, StackTotals, TreePartial,
};
use crate::scan::{Exemplars, Scan, TimeSeries, What};
use crate::select::{self, DatasetView, Projection};

/// Samples that are gathered before they are added up.
const BATCH_SAMPLES: usize = 64 * 1024;

/// Why a scan could not be carried out over some data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    #[error(transparent)]
    OutsideStacks(#[from] OutsideStacks),
    #[error("the selected profiles have {expected} samples, but {seen} came")]
    SampleCount { expected: u64, seen: u64 },
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
}

/// What a scan looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanStats {
    /// Profiles that were selected.
    pub profiles: u64,
    /// Samples that were read.
    pub samples: u64,
}

impl ScanStats {
    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        self.profiles += other.profiles;
        self.samples += other.samples;
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
    /// Appends the samples of a row to a batch; a sample's stack is a node of `symbols`.
    pub samples: &'a dyn Fn(usize, &mut SampleBatch),
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
}

impl Stacks<'_> {
    fn len(&self) -> usize {
        self.nodes
            .map_or_else(|| self.symbols.nodes_len(), <[u32]>::len)
    }

    /// Which function nodes a call site takes; `None` for all.
    fn below(&self, call_site: &[Arc<str>]) -> Option<Vec<bool>> {
        (!call_site.is_empty()).then(|| self.functions.below(self.symbols, call_site))
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
        let below = Some(below.as_slice());
        Some(match self.nodes {
            Some(nodes) => nodes
                .iter()
                .map(|&node| self.is_below(below, node))
                .collect(),
            None => (0..self.len() as u32)
                .map(|node| self.is_below(below, node))
                .collect(),
        })
    }
}

/// Adding up the samples of some rows of one dataset.
#[derive(Debug)]
pub struct SampleRun {
    filter: SampleFilter,
    into: RunInto,
    /// Samples that the rows have.
    expected: u64,
    /// Samples that came.
    seen: u64,
}

#[derive(Debug)]
enum RunInto {
    Stacks(StackTotals),
    Rows(RowTotals),
}

/// One sum per row, of the samples whose stack counts.
#[derive(Debug)]
struct RowTotals {
    /// Which stacks count; `None` for all.
    counts: Option<Vec<bool>>,
    n_stacks: usize,
    /// Samples of each row that are still to come.
    left: Vec<u32>,
    totals: Vec<i64>,
    /// The row that the next sample belongs to, unless nothing is left of it.
    row: usize,
}

impl RowTotals {
    fn add(&mut self, batch: &SampleBatch, filter: &SampleFilter) -> Result<(), OutsideStacks> {
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
            }
            // Samples beyond the last row are noticed when the run ends.
            let Some(left) = self.left.get_mut(self.row) else {
                return Ok(());
            };
            *left -= 1;
            let counts = self.counts.as_ref().is_none_or(|c| c[stack as usize]);
            if counts && filter.passes(batch, sample) {
                let total = &mut self.totals[self.row];
                *total = total.saturating_add(batch.value[sample]);
            }
        }
        Ok(())
    }
}

impl SampleRun {
    /// Adds a batch. Batches come in the order of the rows that the run was started with and hold
    /// the samples of these rows and no others.
    ///
    /// # Errors
    /// [`OutsideStacks`]: the data is damaged and the run must be given up.
    pub fn add(&mut self, batch: &SampleBatch) -> Result<(), OutsideStacks> {
        self.seen += batch.len() as u64;
        match &mut self.into {
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
        wants_samples(&self.scan)
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
        };
        let mut run = self.start(&view, &rows, &stacks);
        let mut batch = SampleBatch::default();
        for &row in &rows {
            (data.samples)(row as usize, &mut batch);
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
            Merger::Labels(labels) => add_labels(labels, &self.scan, view, rows),
            Merger::Stats(stats) => {
                let times = rows.iter().map(|&row| view.rows.time_ns[row as usize]);
                if let (Some(oldest), Some(newest)) = (times.clone().min(), times.max()) {
                    stats.add(Timestamp(oldest), Timestamp(newest));
                }
            }
            Merger::Series(series) => {
                if let What::TimeSeries(wanted) = &self.scan.what {
                    let total = |at: usize| view.rows.total[rows[at] as usize];
                    add_points(series, wanted, view, rows, &total);
                }
            }
            Merger::Tree(_) | Merger::Profile(_) => {}
        }
    }

    /// Begins to add up the samples of selected rows.
    pub fn start(&self, view: &DatasetView<'_>, rows: &[u32], stacks: &Stacks<'_>) -> SampleRun {
        let n_samples = |&row: &u32| view.rows.n_samples[row as usize];
        let filter = self.scan.what.filter();
        let into = match &self.scan.what {
            What::TimeSeries(series) => RunInto::Rows(RowTotals {
                counts: stacks.counting(&series.filter.call_site),
                n_stacks: stacks.len(),
                left: rows.iter().map(n_samples).collect(),
                totals: vec![0; rows.len()],
                row: 0,
            }),
            _ => RunInto::Stacks(StackTotals::new(stacks.len())),
        };
        SampleRun {
            filter: filter.map(SampleFilter::new).unwrap_or_default(),
            into,
            expected: rows.iter().map(|row| u64::from(n_samples(row))).sum(),
            seen: 0,
        }
    }

    /// Takes in what a run added up. `view`, `rows` and `stacks` are those it was started with.
    ///
    /// # Errors
    /// [`ExecError::SampleCount`] if other samples came than the rows have.
    pub fn finish_run(
        &mut self,
        run: SampleRun,
        view: &DatasetView<'_>,
        rows: &[u32],
        stacks: &Stacks<'_>,
    ) -> Result<(), ExecError> {
        let SampleRun { expected, seen, .. } = run;
        if expected != seen {
            return Err(ExecError::SampleCount { expected, seen });
        }
        self.stats.profiles += rows.len() as u64;
        self.stats.samples += seen;
        match (&mut self.merger, &self.scan.what, run.into) {
            (Merger::Tree(tree), What::Tree(filter), RunInto::Stacks(totals)) => {
                tree.add(&TreePartial::fold(
                    (stacks.symbols, stacks.functions),
                    totals.as_slice(),
                    stacks.nodes,
                    stacks.below(&filter.call_site).as_deref(),
                ));
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
            (Merger::Series(series), What::TimeSeries(wanted), RunInto::Rows(totals)) => {
                let with_value = rows.iter().copied().zip(totals.totals);
                let (rows, totals): (Vec<u32>, Vec<i64>) =
                    with_value.filter(|&(_, total)| total != 0).unzip();
                add_points(series, wanted, view, &rows, &|at| totals[at]);
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

/// Whether a scan needs samples, or profile rows are enough.
pub fn wants_samples(scan: &Scan) -> bool {
    match &scan.what {
        What::Tree(_) | What::Profile(_) => true,
        What::TimeSeries(series) => !series.filter.takes_whole_profiles(),
        What::LabelNames | What::LabelValues(_) | What::Series(_) | What::Stats => false,
    }
}

fn period_of(view: &DatasetView<'_>, rows: &[u32]) -> Period {
    rows.iter()
        .map(|&row| Period::Known(view.rows.period[row as usize]))
        .fold(Period::Unknown, Period::and)
}

fn add_labels(into: &mut LabelsPartial, scan: &Scan, view: &DatasetView<'_>, rows: &[u32]) {
    let mut seen: HashSet<(u32, u32), FixedState> = HashSet::default();
    let mut last = None;
    let projection = Projection::of(scan);
    for &row in rows {
        let pair = (view.rows.kind[row as usize], view.rows.series[row as usize]);
        if last == Some(pair) || !seen.insert(pair) {
            continue;
        }
        last = Some(pair);
        // Selected rows have a kind and a series inside their tables.
        let (kind, series) = (&view.kinds[pair.0 as usize], &view.series[pair.1 as usize]);
        add_label_set(into, scan, projection.as_ref(), (kind, series));
    }
}

/// Takes in the labels of one series and type.
fn add_label_set(
    into: &mut LabelsPartial,
    scan: &Scan,
    projection: Option<&Projection>,
    (kind, series): (&ProfileType, &Labels),
) {
    match (&scan.what, projection) {
        (What::LabelNames, _) => {
            for label in &kind.labels_with_derived(series) {
                if !into.texts.contains(&label.name) {
                    into.texts.insert(Arc::clone(&label.name));
                }
            }
        }
        (What::LabelValues(name), _) => {
            if let Some(value) = select::label_value(kind, series, name)
                && !into.texts.contains(&*value)
            {
                into.texts.insert(Arc::from(&*value));
            }
        }
        (_, Some(projection)) => into.sets.extend(projection.apply(kind, series)),
        (_, None) => {}
    }
}

/// What the catalogue alone says of the labels of a dataset: for scans that ask only for labels
/// which follow from service and profile type, of profiles known to be in range.
pub fn labels_without_series(
    scan: &Scan,
    service: &str,
    kinds: &[ProfileType],
) -> Option<LabelsPartial> {
    let known = crate::scan::is_known_without_series;
    let projection = Projection::of(scan);
    let asked_known = match (&scan.what, &projection) {
        (What::LabelValues(name), _) => known(name),
        (_, Some(projection)) => {
            !projection.names().is_empty() && projection.names().iter().all(|name| known(name))
        }
        _ => false,
    };
    if !asked_known || !scan.matchers.iter().all(|m| known(&m.name)) {
        return None;
    }
    let mut labels = LabelsPartial::default();
    if !select::service_matches(&scan.matchers, service) {
        return Some(labels);
    }
    let series = Labels::from_pairs([(scoria_model::labels::names::SERVICE_NAME, service)]);
    let matching = select::matching_kinds(&scan.matchers, kinds);
    for (kind, _) in kinds.iter().zip(matching).filter(|(_, m)| *m) {
        add_label_set(&mut labels, scan, projection.as_ref(), (kind, &series));
    }
    Some(labels)
}

/// Adds profiles to their points; `value` gives that of the n-th of `rows`.
fn add_points(
    into: &mut SeriesPartial,
    wanted: &TimeSeries,
    view: &DatasetView<'_>,
    rows: &[u32],
    value: &dyn Fn(usize) -> i64,
) {
    let mut groups = Groups::default();
    let mut points: Vec<BTreeMap<i64, Point>> = Vec::new();
    let mut candidates: HashMap<(u32, i64, ProfileId, i64), Candidate, FixedState> =
        HashMap::default();
    for (at, &row) in rows.iter().enumerate() {
        let row = row as usize;
        let time = Timestamp(view.rows.time_ns[row]);
        let Some(edge) = wanted.buckets.edge_of(time) else {
            continue;
        };
        let group = groups.of_row(view, row, &wanted.group_by);
        if points.len() <= group as usize {
            points.resize_with(group as usize + 1, BTreeMap::new);
        }
        points[group as usize]
            .entry(edge)
            .or_default()
            .add(value(at));
        if wanted.exemplars == Exemplars::Individual {
            let id = view.profile_id(row);
            let labels = &view.series[view.rows.series[row] as usize];
            candidates
                .entry((group, edge, id, time.millis()))
                .or_insert_with(|| Candidate::new(labels))
                .add(labels, value(at));
        }
    }
    for ((group, edge, profile, time_ms), candidate) in candidates {
        let without = |name: &str| wanted.group_by.iter().any(|by| &**by == name);
        let mut labels = LabelsBuilder::from_labels(&candidate.labels);
        labels.retain(|label| !without(&label.name));
        points[group as usize]
            .entry(edge)
            .or_default()
            .offer(Exemplar {
                profile,
                time_ms,
                value: candidate.value,
                labels: labels.build(),
            });
    }
    for (key, points) in groups.keys.into_iter().zip(points) {
        into.merge(SeriesPartial {
            groups: BTreeMap::from([(key, points)]),
        });
    }
}

/// A profile on its way to becoming an exemplar: what its series have in common.
struct Candidate {
    value: i64,
    labels: Labels,
}

impl Candidate {
    fn new(labels: &Labels) -> Self {
        Self {
            value: 0,
            labels: labels.clone(),
        }
    }

    fn add(&mut self, labels: &Labels, value: i64) {
        self.value = self.value.saturating_add(value);
        if self.labels != *labels {
            let mut shared = LabelsBuilder::from_labels(&self.labels);
            shared.retain(|label| labels.get(&label.name) == Some(&*label.value));
            self.labels = shared.build();
        }
    }
}

/// Numbers for groups, found once per (type, series).
#[derive(Default)]
struct Groups {
    keys: Vec<GroupKey>,
    by_key: HashMap<GroupKey, u32, FixedState>,
    by_pair: HashMap<(u32, u32), u32, FixedState>,
    last: Option<((u32, u32), u32)>,
}

impl Groups {
    fn of_row(&mut self, view: &DatasetView<'_>, row: usize, group_by: &[Arc<str>]) -> u32 {
        let pair = (view.rows.kind[row], view.rows.series[row]);
        if let Some((known, group)) = self.last
            && known == pair
        {
            return group;
        }
        let group = match self.by_pair.get(&pair) {
            Some(&group) => group,
            None => {
                let (kind, series) = (&view.kinds[pair.0 as usize], &view.series[pair.1 as usize]);
                let key: Vec<Label> = select::group_key(kind, series, group_by);
                let next = self.keys.len() as u32;
                let group = *self.by_key.entry(key.clone()).or_insert(next);
                if group == next {
                    self.keys.push(key);
                }
                self.by_pair.insert(pair, group);
                group
            }
        };
        self.last = Some((pair, group));
        group
    }
}

#[cfg(test)]
mod tests;
