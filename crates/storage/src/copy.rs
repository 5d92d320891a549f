//! Profiles copied from one store into another that is empty, so that another Scoria opens it as it
//! is.
//!
//! # Invariants
//! - Of blocks of which everything is wanted the objects are copied byte for byte; of others a new
//!   block is written with the profiles that are wanted.
//! - The catalogue of the copy is made from its manifests, last, and its streams are closed: what
//!   only a log of the first store has is not in the copy.
//! - What tenants keep beside profiles is copied as it is, of one tenant or of all.
//! - One block is held in memory at a time, and of other files a few parts. The first store is only
//!   read.
//!
//! # What it must not know
//! Selectors: what is wanted is asked by dataset and by series.

use std::fmt;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use scoria_block::{
    BlockError, BlockMeta, BlockSpec, BlockWriter, Columns, DatasetInput, DatasetMeta,
    EncodedBlock, Fetched, OpenTable, ProfileRows, SampleBatch, SampleRead, SampleRun, Sources,
    Table, decode_profiles, decode_samples, decode_series, decode_symbols,
};
use scoria_model::{BlockId, Labels, ProfileType, TenantId, TimeRange};

use crate::block_store::{BlockReadError, BlockStore, BlockStoreOptions};
use crate::catalogue::{
    Catalogue, CatalogueError, CatalogueOptions, CommitError, Op, Precondition, Txn,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;
use crate::metrics::Metrics;
use crate::rebuild::{self, RebuildError};
use crate::tenant_files::{PART_BYTES, TenantFiles};

/// Says of a series of a dataset whether its profiles of a type are wanted.
pub type Takes = Arc<dyn Fn(&DatasetMeta, &ProfileType, &Labels) -> bool + Send + Sync>;

/// What is copied.
#[derive(Clone)]
pub struct Wanted {
    pub range: TimeRange,
    pub takes: Takes,
    /// Whose files beside profiles are copied; all tenants' for `None`.
    pub tenant: Option<TenantId>,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// What a copy did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Live blocks looked at, of how many.
    pub blocks_done: u64,
    pub blocks: u64,
    /// Blocks in the copy.
    pub blocks_written: u64,
    pub bytes_written: u64,
    pub profiles: u64,
    /// Settings, rules, uploads and executables of tenants.
    pub files: u64,
}

/// Why a copy failed. What was written stays, and is not opened as a catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("the store to copy into has a catalogue already ({key}); copy into an empty one")]
    NotEmpty { key: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] BlockReadError),
    #[error("block {block}: {source}")]
    Block { block: BlockId, source: BlockError },
    #[error("block {block}: working on it failed")]
    Interrupted { block: BlockId },
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Copies what is wanted from `from` to `to`, and calls `progress` after each block.
///
/// # Errors
/// The object or the block at which it failed.
pub async fn copy(
    (from, to): (&Arc<dyn ObjectStore>, &Arc<dyn ObjectStore>),
    wanted: &Wanted,
    options: CatalogueOptions,
    mut progress: impl FnMut(&Copied),
) -> Result<Copied, CopyError> {
    refuse_catalogue(to).await?;
    let source = Catalogue::open(Arc::clone(from), options.clone()).await?;
    let state = source.state();
    let (reader, writer) = (block_store(from), block_store(to));
    let mut copied = Copied {
        blocks: state.blocks().len() as u64,
        ..Copied::default()
    };
    for meta in state.blocks() {
        let live = state.live_datasets(meta).map(|(at, _)| at).collect();
        if let Some(block) = wanted_of(&reader, (meta, live), wanted).await? {
            writer.put_block(&block).await?;
            copied.blocks_written += 1;
            copied.bytes_written += block.meta.bytes;
            copied.profiles += block
                .meta
                .datasets
                .iter()
                .map(|d| d.n_profiles())
                .sum::<u64>();
        }
        copied.blocks_done += 1;
        progress(&copied);
    }
    for deletion in state.deletions() {
        let mut bytes = Vec::new();
        deletion.tombstone.encode(&mut bytes);
        let key = keys::tombstone(deletion.tombstone.id);
        to.put(&key, bytes.into())
            .await
            .map_err(|source| StoreError::new("write", &key, source))?;
    }
    copied.files = copy_files(from, to, wanted.tenant.as_ref()).await?;
    let plan = rebuild::plan(to).await?;
    rebuild::replace(to, plan, options.clone()).await?;
    close_streams(to, options).await?;
    Ok(copied)
}

fn block_store(store: &Arc<dyn ObjectStore>) -> BlockStore {
    let options = BlockStoreOptions {
        metrics: Metrics::unregistered(),
        cache_bytes: 0,
        coalesce_gap: 0,
    };
    BlockStore::new(Arc::clone(store), options)
}

/// Copies what tenants keep beside profiles; of how many files.
async fn copy_files(
    from: &Arc<dyn ObjectStore>,
    to: &Arc<dyn ObjectStore>,
    tenant: Option<&TenantId>,
) -> Result<u64, StoreError> {
    let whose = tenant.map(TenantId::as_str);
    let folder = Path::from_iter([keys::TENANTS].into_iter().chain(whose));
    let files = TenantFiles::new(Arc::clone(to), Metrics::unregistered());
    let mut listed = from.list(Some(&folder));
    let mut copied = 0;
    loop {
        let next = listed.try_next().await;
        match next.map_err(|source| StoreError::new("list", &folder, source))? {
            None => return Ok(copied),
            Some(object) => copied += u64::from(copy_file(from, &files, &object).await?),
        }
    }
}

/// Copies one file; false if it was deleted since it was listed.
async fn copy_file(
    from: &Arc<dyn ObjectStore>,
    to: &TenantFiles,
    object: &ObjectMeta,
) -> Result<bool, StoreError> {
    let key = &object.location;
    let unread = |source| StoreError::new("read", key, source);
    let found = match from.get(key).await.map_err(unread) {
        Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if found.meta.size <= PART_BYTES as u64 {
        to.put(key, found.bytes().await.map_err(unread)?).await?;
        return Ok(true);
    }
    // One that fails on the way leaves nothing that can be read.
    let mut upload = to.start(key.clone()).await?;
    let mut body = found.into_stream();
    while let Some(bytes) = body.try_next().await.map_err(unread)? {
        upload.append(bytes).await?;
    }
    upload.finish().await?;
    Ok(true)
}

async fn refuse_catalogue(to: &Arc<dyn ObjectStore>) -> Result<(), CopyError> {
    for folder in [keys::LOG, keys::SNAPSHOT] {
        let folder = Path::from(folder);
        let mut listed = to.list(Some(&folder));
        let first = listed
            .try_next()
            .await
            .map_err(|source| StoreError::new("list", &folder, source))?;
        if let Some(object) = first {
            let key = object.location.to_string();
            return Err(CopyError::NotEmpty { key });
        }
    }
    Ok(())
}

/// No ingester serves the copy's streams, and what their logs have is not part of it.
async fn close_streams(
    to: &Arc<dyn ObjectStore>,
    options: CatalogueOptions,
) -> Result<(), CopyError> {
    let catalogue = Catalogue::open(Arc::clone(to), options).await?;
    let mut txn = Txn::new();
    for (stream, state) in catalogue.state().open_streams() {
        let (stream, epoch, at) = (stream.clone(), state.epoch, state.committed);
        txn = txn
            .require(Precondition::StreamAt {
                stream: stream.clone(),
                epoch,
                committed: at,
            })
            .then(Op::CloseStream { stream, epoch, at });
    }
    if !txn.ops.is_empty() {
        catalogue.commit(txn).await?;
    }
    Ok(())
}

/// The part of a block that is wanted, as a block; `None` when that is nothing.
async fn wanted_of(
    blocks: &BlockStore,
    (meta, live): (&Arc<BlockMeta>, Vec<usize>),
    wanted: &Wanted,
) -> Result<Option<EncodedBlock>, CopyError> {
    if !wanted.range.overlaps(meta.min_time, meta.max_time) {
        return Ok(None);
    }
    let mut tables = Vec::new();
    for table in &meta.tables {
        tables.push((table.table, blocks.read_table(meta, table.table).await?));
    }
    let (of, wanted) = (Arc::clone(meta), wanted.clone());
    let block = meta.id;
    let filtered = tokio::task::spawn_blocking(move || filter((&of, &live), tables, &wanted)).await;
    filtered
        .map_err(|_| CopyError::Interrupted { block })?
        .map_err(|source| CopyError::Block { block, source })
}

fn filter(
    (meta, live): (&BlockMeta, &[usize]),
    tables: Vec<(Table, bytes::Bytes)>,
    wanted: &Wanted,
) -> Result<Option<EncodedBlock>, BlockError> {
    let mut sources = Sources::default();
    for (table, bytes) in &tables {
        if let Some(table_meta) = meta.table(*table) {
            let open = Arc::new(OpenTable::new(table_meta)?);
            sources.insert(open, Fetched::whole(bytes.clone()));
        }
    }
    let mut writer = BlockWriter::new(BlockSpec {
        id: renamed(meta.id),
        level: meta.level,
        streams: meta.streams.clone(),
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    })?;
    let mut everything = live.len() == meta.datasets.len();
    for dataset in live.iter().filter_map(|&at| meta.datasets.get(at)) {
        let rows = decode_profiles(&sources, meta, dataset)?;
        let series = decode_series(&sources, dataset)?;
        let takes = |at: usize| {
            let row = rows.row(at);
            let time = scoria_model::Timestamp(row.time_ns);
            let kind = dataset.kinds.get(row.kind as usize);
            let labels = series.get(row.series as usize);
            let wanted_by = |(kind, labels)| (wanted.takes)(dataset, kind, labels);
            wanted.range.contains(time) && kind.zip(labels).is_some_and(wanted_by)
        };
        let taken: Vec<usize> = (0..rows.len()).filter(|&at| takes(at)).collect();
        everything &= taken.len() == rows.len();
        if taken.is_empty() {
            continue;
        }
        let symbols = decode_symbols(&sources, dataset)?;
        let (profiles, samples) = taken_rows(&sources, dataset, (&rows, &taken), &symbols.nodes)?;
        writer.add(DatasetInput {
            tenant: &dataset.tenant,
            service: &dataset.service,
            symbols: &symbols.symbols,
            series: &series,
            kinds: &dataset.kinds,
            profiles: &profiles,
            samples: &samples,
        })?;
    }
    if everything {
        // What it was merged from is not in the copy.
        let meta = BlockMeta {
            inputs: Vec::new(),
            merge: None,
            ..meta.clone()
        };
        return Ok(Some(EncodedBlock {
            manifest: meta.to_manifest()?,
            meta,
            tables,
        }));
    }
    match writer.is_empty() {
        true => Ok(None),
        false => writer.finish().map(Some),
    }
}

/// An id of the same time, since other bytes must not have the name of the old ones.
fn renamed(id: BlockId) -> BlockId {
    const RANDOM: u128 = (1 << 80) - 1;
    BlockId(id.0 & !RANDOM | uuid::Uuid::new_v4().as_u128() & RANDOM)
}

/// The taken profiles and their samples by node, as a writer takes them.
fn taken_rows(
    sources: &Sources,
    dataset: &DatasetMeta,
    (rows, taken): (&ProfileRows, &[usize]),
    nodes: &[u32],
) -> Result<(ProfileRows, SampleBatch), BlockError> {
    let mut profiles = ProfileRows::default();
    let mut samples = SampleBatch::default();
    for table in [Table::Samples, Table::Snapshots] {
        let of_table = |at: &&usize| {
            let kind = dataset.kinds.get(rows.kind[**at] as usize);
            kind.is_some_and(|kind| Table::of_kind(kind) == table)
        };
        let mut of_table: Vec<usize> = taken.iter().filter(of_table).copied().collect();
        of_table.sort_by_key(|&at| rows.samples_start[at]);
        let runs: Vec<SampleRun> = of_table.iter().map(|&at| rows.run(at)).collect();
        for &at in &of_table {
            let mut row = rows.row(at);
            // In the order of the runs, samples follow each other without gaps.
            row.samples_start = profiles.len().checked_sub(1).map_or(0, |last| {
                profiles.samples_start[last] + u64::from(profiles.n_samples[last])
            });
            profiles.push(row);
        }
        if let Some((open, fetched)) = sources.get(table) {
            let read = SampleRead {
                runs: &runs,
                columns: Columns::WithSpans,
                n_stacks: dataset.n_stacks,
            };
            decode_samples((open, fetched), read, &mut |batch, _| {
                push_all(&mut samples, batch, nodes);
            })?;
        }
    }
    Ok((profiles, samples))
}

/// Appends a batch, with the node of each stack in place of its rank.
fn push_all(samples: &mut SampleBatch, batch: &SampleBatch, nodes: &[u32]) {
    for at in 0..batch.len() {
        let rank = batch.stack[at] as usize;
        samples
            .stack
            .push(nodes.get(rank).copied().unwrap_or(u32::MAX));
        samples.value.push(batch.value[at]);
        samples.span.push(batch.span_of(at));
        samples.trace.push(batch.trace_of(at));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn what_tenants_keep_is_copied_byte_for_byte() {
        let [from, to, one]: [Arc<dyn ObjectStore>; 3] =
            std::array::from_fn(|_| Arc::new(InMemory::new()) as _);
        let [a, b] = ["a", "b"].map(|name| TenantId::parse(name).unwrap());
        let small = keys::debug_info_metadata(&a, "id");
        let large = keys::debug_info_exe(&a, "id");
        let other = keys::ad_hoc(&b, "x");
        // More than two parts, of which none is like another.
        let body: Vec<u8> = (0..2 * PART_BYTES as u32 / 4 + 5)
            .flat_map(u32::to_le_bytes)
            .collect();
        let bodies = [
            (&small, Bytes::from_static(b"known")),
            (&large, Bytes::from(body)),
            (&other, Bytes::new()),
        ];
        for (key, body) in &bodies {
            from.put(key, body.clone().into()).await.unwrap();
        }
        assert_eq!(copy_files(&from, &to, None).await.unwrap(), 3);
        for (key, body) in &bodies {
            let copied = to.get(key).await.unwrap().bytes().await.unwrap();
            assert!(copied == *body, "{key}");
        }
        assert_eq!(copy_files(&from, &one, Some(&b)).await.unwrap(), 1);
        assert!(one.get(&small).await.is_err());
        assert_eq!(one.get(&other).await.unwrap().meta.size, 0);
    }
}
