//! Merging: datasets of several blocks become one, column by column.
//!
//! ```text
//! inputs ─► symbols into one dictionary, profiles into one list ─► order, ranks
//!                                                                   │
//! sample tables, each read once from front to back ─► new ranks ─► BlockWriter
//!                 and once more, hour by hour ─► sums ─► roll-ups ────────┘
//! ```
//! Symbols and profiles of the inputs are held, samples are not: in the order of the output the
//! samples of each input come in the order in which they lie there.
//!
//! # Invariants
//! - What comes out holds every profile of the inputs once, with its samples (M1): two rows of one
//!   record and place are one profile, and of two records of one write the first counts. What the
//!   caller does not keep is left out.
//! - The output follows from the inputs, their order and the limit alone (M4).
//! - Memory stays within the limit: inputs that do not fit are left for another output.
//! - An error says which input it is about.
//!
//! # What it must not know
//! Where blocks lie, which slices are live, why a profile is not kept.

mod cursor;
mod gather;
mod resends;
mod roll;

use scoria_model::{BlockId, Labels, ProfileType, ShardSet, StreamId, TenantId};
use xxhash_rust::xxh3::Xxh3Default;

use crate::dataset_rows::{DatasetRows, Order};
use crate::sample_writer::RankedSamples;
use crate::{
    BlockError, BlockMeta, BlockWriter, DatasetInput, DatasetMeta, FORMAT_VERSION, MergeScope,
    ProfileRows, SampleBatch, Sources, StreamRange, Table,
};
use gather::Gathered;
pub use resends::Resends;

/// Raised whenever the same inputs give other bytes than before.
const MERGE_VERSION: u32 = 3;

/// A dataset of a block, with all its tables fetched: samples with their spans, profiles with the
/// keys of their writes.
#[derive(Debug, Clone, Copy)]
pub struct MergeInput<'a> {
    pub block: &'a BlockMeta,
    pub dataset: &'a DatasetMeta,
    pub sources: &'a Sources,
}

/// Says which profiles stay, given types, series and rows of a dataset: one flag per row, or none
/// at all if every one stays.
pub type Keep<'a> = &'a dyn Fn(&[ProfileType], &[Labels], &ProfileRows) -> Vec<bool>;

/// What a merge does with its inputs.
#[derive(Clone, Copy)]
pub struct MergeRules<'a> {
    pub keep: Keep<'a>,
    /// Memory for the symbols and profiles of one dataset, in bytes.
    pub bytes_max: u64,
}

impl std::fmt::Debug for MergeRules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergeRules")
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

/// What a merge of datasets did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// How many of the inputs it took, from the first on; at least one.
    pub inputs: usize,
    pub profiles: u64,
    pub samples: u64,
    /// Profiles that stood in the inputs more than once.
    pub doubles: u64,
    /// Profiles of writes that were sent again and had come before (D2).
    pub resent: u64,
    /// Profiles that were not to be kept.
    pub dropped: u64,
}

/// Why datasets were not merged. The writer holds part of them and must be dropped.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error("block {block}: {source}")]
    Input { block: BlockId, source: BlockError },
    #[error(
        "merging {tenant}/{service} of block {block} alone takes {needed} bytes, the limit is {limit}: raise the memory for compaction"
    )]
    TooLarge {
        block: BlockId,
        tenant: String,
        service: String,
        needed: u64,
        limit: u64,
    },
    #[error(transparent)]
    Output(#[from] BlockError),
}

impl BlockWriter {
    /// Adds one dataset of the block, merged from `inputs` as far as they fit. `resends` belongs to
    /// the dataset: it goes from one output of a merge to the next.
    ///
    /// # Errors
    /// [`MergeError::Input`] names the input that is damaged, [`MergeError::TooLarge`] the first
    /// input if not even that fits; other errors are those of [`BlockWriter::add`].
    pub fn add_merged(
        &mut self,
        (tenant, service): (&TenantId, &str),
        inputs: &[MergeInput<'_>],
        rules: MergeRules<'_>,
        resends: &mut Resends,
    ) -> Result<Merged, MergeError> {
        self.check_order(tenant, service)?;
        let mut gathered = Gathered::of(inputs, &self.spec().streams, rules, resends.bytes())?;
        let mut merged = Merged {
            inputs: gathered.inputs.len(),
            dropped: gathered.dropped,
            ..Merged::default()
        };
        if gathered.rows.is_empty() {
            return Ok(merged);
        }
        let symbols = gathered.dictionary.snapshot();
        let (kinds, series) = (
            std::mem::take(&mut gathered.kinds),
            std::mem::take(&mut gathered.series),
        );
        let profiles = std::mem::take(&mut gathered.rows);
        let input = DatasetInput {
            tenant,
            service,
            symbols: &symbols,
            series: &series,
            kinds: &kinds,
            profiles: &profiles,
            samples: &SampleBatch::default(),
        };
        let mut order = Order::of(&input);
        let doubles = take_doubles(&mut order, &profiles);
        gathered.subtract(&doubles, &profiles, &kinds)?;
        let resent = resends.take(&mut order.order, &profiles);
        gathered.subtract(&resent, &profiles, &kinds)?;
        merged.doubles = doubles.len() as u64;
        merged.resent = resent.len() as u64;
        merged.profiles = order.order.len() as u64;
        let n_samples = order
            .order
            .iter()
            .map(|&at| profiles.n_samples[at as usize]);
        merged.samples = n_samples.map(u64::from).sum();
        let rows = DatasetRows::arrange(&input, order, &gathered.hits);
        gathered.rank(&rows);
        let tables: Vec<Table> = kinds.iter().map(Table::of_kind).collect();
        let mut failed = None;
        let mut fill = |at: usize, out: &mut RankedSamples| {
            let table = tables[profiles.kind[at] as usize];
            let run = profiles.run(at);
            gathered.fill(at, table, run, out).map_err(|error| {
                let what = error.to_string();
                failed = Some(error);
                BlockError::damaged(table, what)
            })
        };
        let begun = self.begin((tenant, service), &rows, &mut fill);
        let begun = match (failed, begun) {
            (Some(error), _) => return Err(error),
            (None, begun) => begun?,
        };
        let rolled = roll::roll_up(self, (&gathered, &rows, &profiles), rules)?;
        self.end((tenant, service), &rows, (begun, rolled));
        Ok(merged)
    }
}

/// Takes rows that stand a second time for the same record and place out of the order. In order
/// they stand side by side.
fn take_doubles(order: &mut Order, profiles: &ProfileRows) -> Vec<u32> {
    let identity = |at: u32| {
        let at = at as usize;
        (
            order.kind_of[at],
            order.series_of[at],
            profiles.time_ns[at],
            (profiles.stream[at], profiles.seq[at], profiles.place[at]),
        )
    };
    let mut doubles = Vec::new();
    let mut kept: Vec<u32> = Vec::with_capacity(order.order.len());
    for &at in &order.order {
        match kept.last() {
            Some(&last) if identity(last) == identity(at) => doubles.push(at),
            _ => kept.push(at),
        }
    }
    order.order = kept;
    doubles
}

/// The stream ranges of a block that is merged from `inputs`: sorted, with what touches joined.
pub fn merged_streams<'a>(inputs: impl IntoIterator<Item = &'a BlockMeta>) -> Vec<StreamRange> {
    let ranges = inputs.into_iter().flat_map(|meta| &meta.streams);
    let mut ranges: Vec<StreamRange> = ranges.cloned().collect();
    ranges.sort_unstable_by(|a, b| (&a.stream, a.from, a.to).cmp(&(&b.stream, b.from, b.to)));
    let mut joined: Vec<StreamRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.stream == range.stream && range.from <= last.to => {
                last.to = last.to.max(range.to);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// Which of `ranges` a range of an input became part of.
fn place_of(ranges: &[StreamRange], range: &StreamRange) -> Option<u32> {
    let holds = |r: &StreamRange| {
        let stream: &StreamId = &r.stream;
        *stream == range.stream && r.from <= range.from && range.to <= r.to
    };
    ranges.iter().position(holds).map(|at| at as u32)
}

/// The number of a merge, for [`MergeScope::run`]: the same inputs, slices and rules give the same
/// number and the same outputs to every process. `rules` stands for all that the content depends
/// on beside the inputs.
pub fn merge_run(
    level: u8,
    inputs: &[BlockId],
    slices: &[(TenantId, ShardSet)],
    rules: &[u128],
) -> u64 {
    // 0 is that of merges from before they were numbered.
    hash_of(level, inputs, slices, rules).digest().max(1)
}

/// The id of a merge's output: the same inputs, scope and rules give the same id to every process,
/// and the same bytes. A caller whose id was given up before changes `rules` to get another.
pub fn merged_id(level: u8, inputs: &[BlockId], scope: &MergeScope, rules: &[u128]) -> BlockId {
    let mut hash = hash_of(level, inputs, &scope.slices, rules);
    hash.update(&scope.part.to_le_bytes());
    // The time of a ULID: that of the newest input.
    let millis = inputs.iter().map(|id| id.0 >> 80).max().unwrap_or_default();
    BlockId(millis << 80 | hash.digest128() & ((1 << 80) - 1))
}

fn hash_of(
    level: u8,
    inputs: &[BlockId],
    slices: &[(TenantId, ShardSet)],
    rules: &[u128],
) -> Xxh3Default {
    let mut hash = Xxh3Default::new();
    for number in [FORMAT_VERSION, MERGE_VERSION, u32::from(level)] {
        hash.update(&number.to_le_bytes());
    }
    for id in inputs.iter().map(|id| id.0).chain(rules.iter().copied()) {
        hash.update(&id.to_le_bytes());
    }
    for (tenant, shards) in slices {
        hash.update(tenant.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(&shards.bits().to_le_bytes());
    }
    hash
}
