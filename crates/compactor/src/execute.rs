//! Carrying out one job: read the slices, merge dataset by dataset, put the outputs, commit.
//!
//! # Invariants
//! - Nothing counts before the commit, and the commit counts only if every slice that was read is
//!   still live and nothing of its tenants was deleted since the plan: a job that dies anywhere, or
//!   loses to another, leaves objects that nothing refers to, and nothing else.
//! - The same job gives the same outputs (M4). Memory follows from the settings alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use scoria_block::{
    BlockError, BlockMeta, BlockSpec, BlockWriter, Columns, DatasetMeta, EncodedBlock, MergeError,
    MergeInput, MergeRules, MergeScope, Merged, OpenTable, Resends, Sources, Table, merge_run,
    merged_id, merged_streams,
};
use scoria_model::{BlockId, ShardSet, TenantId};
use scoria_query::deletion::{Deletion, Hidden};
use scoria_storage::block_store::{BlockReadError, Purpose};
use scoria_storage::{BlockStore, Catalogue, CatalogueState, CommitError, StoreError, Txn};

use crate::pieces::dataset_bytes;
use crate::plan::{InputSlices, Job};

/// Tables of one dataset that are fetched side by side, and datasets as well.
const FETCHES: usize = 4;

/// Shares of a job's memory: what is fetched of one dataset's inputs, what its symbols and profiles
/// take, and what is encoded before an output ends. The rest is for rows under way.
const FETCHED_PART: u64 = 5;
const HELD_PART: u64 = 4;
const ENCODED_PART: u64 = 5;

/// What a job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Done {
    pub(crate) outputs: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) profiles: u64,
    pub(crate) samples: u64,
    pub(crate) doubles: u64,
    pub(crate) resent: u64,
    pub(crate) dropped: u64,
}

/// Why a job did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    /// The slices are gone or something was deleted: plan anew.
    #[error("another was first: {0}")]
    Lost(String),
    /// One input cannot be merged, whatever is tried.
    #[error("block {block} cannot be merged: {why}")]
    BadInput {
        block: BlockId,
        slice: (TenantId, ShardSet),
        why: String,
    },
    /// The store is in trouble; the same job may be tried later.
    #[error(transparent)]
    Read(Box<BlockReadError>),
    #[error(transparent)]
    Write(#[from] StoreError),
    #[error(transparent)]
    Commit(Box<CommitError>),
    #[error(transparent)]
    Output(BlockError),
    #[error("the deletion {id} cannot be applied: {why}")]
    Deletion { id: String, why: String },
    #[error("merging ended early")]
    Interrupted,
}

/// What jobs are carried out with.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    pub(crate) catalogue: Catalogue,
    pub(crate) blocks: BlockStore,
    pub(crate) memory_bytes: u64,
    /// Labels by which roll-ups are kept apart.
    pub(crate) rollup_labels: Arc<[Arc<str>]>,
}

/// One dataset of one block.
#[derive(Debug, Clone)]
struct Unit {
    block: Arc<BlockMeta>,
    dataset: usize,
}

impl Unit {
    fn dataset(&self) -> &DatasetMeta {
        &self.block.datasets[self.dataset]
    }

    fn slice(&self) -> (TenantId, ShardSet) {
        (self.dataset().tenant.clone(), self.dataset().shard())
    }
}

/// What is left of a dataset's inputs.
struct Waiting {
    tenant: TenantId,
    service: Arc<str>,
    /// In order of time.
    units: Vec<Unit>,
    /// The first that no output holds.
    next: usize,
    deletions: Vec<Arc<Deletion>>,
    /// The writes that the outputs so far hold.
    resends: Resends,
}

/// A job on the version that it was checked against.
struct Run {
    state: Arc<CatalogueState>,
    level: u8,
    inputs: Vec<InputSlices>,
    metas: Vec<Arc<BlockMeta>>,
    scope: Vec<(TenantId, ShardSet)>,
    waiting: Vec<Waiting>,
    /// What the content depends on beside the inputs.
    rules: Vec<u128>,
}

impl Executor {
    /// Carries `job` out on the newest version that this process knows.
    pub(crate) async fn run(&self, job: &Job) -> Result<Done, JobError> {
        let run = self.prepare(job)?;
        let mut done = Done::default();
        let Run {
            state,
            level,
            inputs,
            metas,
            scope,
            mut waiting,
            rules,
        } = run;
        let ids: Vec<BlockId> = metas.iter().map(|meta| meta.id).collect();
        let streams = merged_streams(metas.iter().map(|meta| &**meta));
        let spans = metas.iter().any(|meta| may_name_spans(meta));
        let mut outputs: Vec<Arc<BlockMeta>> = Vec::new();
        let run = merge_run(level, &ids, &scope, &rules);
        let mut part = 0;
        while waiting
            .iter()
            .any(|dataset| dataset.next < dataset.units.len())
        {
            let scope = MergeScope {
                slices: scope.clone(),
                run,
                part,
                last: false,
            };
            let writer = BlockWriter::new(BlockSpec {
                id: free_id(&state, level, &ids, &scope, &rules),
                level,
                streams: streams.clone(),
                inputs: ids.clone(),
                merge: Some(scope),
                rollup_labels: self.rollup_labels.to_vec(),
            });
            let mut writer = writer.map_err(JobError::Output)?;
            if !spans {
                writer.without_spans();
            }
            for dataset in &mut waiting {
                if writer.encoded_bytes() > self.memory_bytes / ENCODED_PART {
                    break;
                }
                if dataset.next < dataset.units.len() {
                    writer = self.merge(writer, dataset, &mut done).await?;
                }
            }
            let ended = waiting.iter().all(|d| d.next >= d.units.len());
            outputs.extend(self.put(writer, ended, &mut done).await?);
            part += 1;
        }
        done.outputs = outputs.len() as u64;
        let txn = Txn::replace(inputs, outputs, state.version());
        match self.catalogue.commit(txn).await {
            Ok(_) => Ok(done),
            Err(CommitError::Conflict(unmet)) => Err(JobError::Lost(unmet.to_string())),
            Err(error) => Err(JobError::Commit(Box::new(error))),
        }
    }

    /// Looks the inputs up and sorts out what to merge with what.
    fn prepare(&self, job: &Job) -> Result<Run, JobError> {
        let state = self.catalogue.state();
        let mut metas = Vec::new();
        let mut datasets: BTreeMap<(TenantId, Arc<str>), Vec<Unit>> = BTreeMap::new();
        for (block, slices) in &job.inputs {
            let meta = state
                .block(*block)
                .ok_or_else(|| JobError::Lost(format!("block {block} is not live")))?;
            for (tenant, shards) in slices {
                if !state.live_shards(*block, tenant).contains(*shards) {
                    return Err(JobError::Lost(format!(
                        "of {tenant} in {block} not all is live"
                    )));
                }
                for (at, dataset) in meta.datasets.iter().enumerate() {
                    if dataset.tenant == *tenant && shards.contains(dataset.shard()) {
                        let key = (tenant.clone(), Arc::clone(&dataset.service));
                        datasets.entry(key).or_default().push(Unit {
                            block: Arc::clone(meta),
                            dataset: at,
                        });
                    }
                }
            }
            metas.push(Arc::clone(meta));
        }
        let mut rules = vec![u128::from(self.memory_bytes)];
        let mut waiting = Vec::new();
        for ((tenant, service), mut units) in datasets {
            units.sort_by_key(|unit| (unit.dataset().min_time, unit.block.id));
            let deletions = deletions_of(&state, &tenant)?;
            waiting.push(Waiting {
                tenant,
                service,
                units,
                next: 0,
                deletions,
                resends: Resends::default(),
            });
        }
        let scope = job.scope();
        let applied = state.deletions().filter(|deletion| {
            scope
                .iter()
                .any(|(tenant, _)| *tenant == deletion.tombstone.tenant)
        });
        rules.extend(applied.map(|deletion| deletion.tombstone.id.0));
        let labels = self.rollup_labels.join("\0");
        rules.extend((!labels.is_empty()).then_some(labels.len() as u128));
        rules.extend(labels.as_bytes().chunks(16).map(|part| {
            let mut number = [0; 16];
            number[..part.len()].copy_from_slice(part);
            u128::from_le_bytes(number)
        }));
        Ok(Run {
            level: job.level,
            inputs: job.inputs.clone(),
            metas,
            scope,
            waiting,
            rules,
            state,
        })
    }

    /// Adds as much of a dataset as fits to the output.
    async fn merge(
        &self,
        mut writer: BlockWriter,
        dataset: &mut Waiting,
        done: &mut Done,
    ) -> Result<BlockWriter, JobError> {
        let units = self.next_units(dataset);
        let slice = units[0].slice();
        // Boxed, since the compiler cannot tell that a stream of them may change threads.
        let fetches: Vec<BoxFuture<'_, Result<(Sources, u64), JobError>>> =
            units.iter().map(|unit| self.fetch(unit).boxed()).collect();
        let fetched: Vec<(Sources, u64)> = futures::stream::iter(fetches)
            .buffered(FETCHES)
            .try_collect()
            .await?;
        done.bytes_read += fetched.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let (tenant, service) = (dataset.tenant.clone(), Arc::clone(&dataset.service));
        let deletions = dataset.deletions.clone();
        let bytes_max = self.memory_bytes / HELD_PART;
        let mut resends = std::mem::take(&mut dataset.resends);
        let work = move || -> Result<(BlockWriter, Merged, Resends), MergeError> {
            let inputs: Vec<MergeInput<'_>> = units
                .iter()
                .zip(&fetched)
                .map(|(unit, (sources, _))| MergeInput {
                    block: &unit.block,
                    dataset: unit.dataset(),
                    sources,
                })
                .collect();
            let keep: scoria_block::Keep<'_> =
                &|kinds, series, rows| Hidden::of(&deletions, kinds, series).keep(rows);
            let rules = MergeRules { keep, bytes_max };
            let merged = writer.add_merged((&tenant, &service), &inputs, rules, &mut resends)?;
            Ok((writer, merged, resends))
        };
        let merged = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| JobError::Interrupted)?;
        let (writer, merged, resends) = merged.map_err(|error| match error {
            MergeError::Input { block, source } => JobError::BadInput {
                block,
                slice,
                why: source.to_string(),
            },
            MergeError::TooLarge { block, .. } => JobError::BadInput {
                block,
                slice,
                why: error.to_string(),
            },
            MergeError::Output(error) => JobError::Output(error),
        })?;
        dataset.resends = resends;
        dataset.next += merged.inputs.max(1);
        done.profiles += merged.profiles;
        done.samples += merged.samples;
        done.doubles += merged.doubles;
        done.resent += merged.resent;
        done.dropped += merged.dropped;
        Ok(writer)
    }

    /// The next inputs that fit; at least one.
    fn next_units(&self, dataset: &Waiting) -> Vec<Unit> {
        let limit = self.memory_bytes / FETCHED_PART;
        let mut bytes = 0;
        let mut taken = Vec::new();
        for unit in &dataset.units[dataset.next..] {
            bytes +=
                dataset_bytes(&unit.block, unit.dataset()) + held_open(&unit.block, unit.dataset());
            if bytes > limit && !taken.is_empty() {
                break;
            }
            taken.push(unit.clone());
        }
        taken
    }

    /// Everything of one dataset, and its bytes.
    async fn fetch(&self, unit: &Unit) -> Result<(Sources, u64), JobError> {
        let block = unit.block.id;
        let limit = self.memory_bytes / FETCHED_PART * 2;
        let bytes = dataset_bytes(&unit.block, unit.dataset());
        if bytes > limit {
            return Err(JobError::BadInput {
                block,
                slice: unit.slice(),
                why: format!(
                    "{}/{} has {bytes} stored bytes in it, more than the {limit} that a job reads at a time: raise compactor.memory",
                    unit.dataset().tenant,
                    unit.dataset().service
                ),
            });
        }
        let mut sources = Sources::default();
        let mut bytes = 0;
        // Roll-ups are made anew, from what is left once doubles and deletions are out.
        let tables = unit.block.tables.iter();
        for meta in tables.filter(|meta| !meta.table.is_rollup()) {
            let rows = unit.dataset().rows(meta.table);
            if rows.is_empty() {
                continue;
            }
            let bad = |error: BlockError| JobError::BadInput {
                block,
                slice: unit.slice(),
                why: error.to_string(),
            };
            let open = OpenTable::new(meta).map_err(bad)?;
            let ranges = open.ranges(&[rows], columns_of(meta.table)).map_err(bad)?;
            let fetched = self
                .blocks
                .fetch(&unit.block, meta.table, &ranges, Purpose::Compact)
                .await
                .map_err(|error| unreadable(unit, error))?;
            let (fetched, stats) = fetched.into_parts();
            bytes += stats.bytes_fetched;
            sources.insert(Arc::new(open), fetched);
        }
        Ok((sources, bytes))
    }

    /// Encodes and puts an output; `None` if everything in it was deleted.
    async fn put(
        &self,
        mut writer: BlockWriter,
        ended: bool,
        done: &mut Done,
    ) -> Result<Option<Arc<BlockMeta>>, JobError> {
        if writer.is_empty() {
            return Ok(None);
        }
        if ended {
            writer.ends_merge();
        }
        let encoded: EncodedBlock = tokio::task::spawn_blocking(move || writer.finish())
            .await
            .map_err(|_| JobError::Interrupted)?
            .map_err(JobError::Output)?;
        self.blocks.put_block(&encoded).await?;
        done.bytes_written += encoded.meta.bytes;
        Ok(Some(Arc::new(encoded.meta)))
    }
}

/// What an input takes beside its stored bytes while it is read: footers of its tables, parsed, and
/// a batch of samples, decoded. Of many small inputs that is nearly all.
fn held_open(block: &BlockMeta, dataset: &DatasetMeta) -> u64 {
    /// A table without its footer, and a byte of a footer once it is parsed.
    const TABLE: u64 = 4 << 10;
    const FOOTER_BYTE: u64 = 6;
    /// Samples that are decoded at a time, each with its span and as a page and as a column.
    const BATCH: u64 = 16 << 10;
    const SAMPLE: u64 = 24;
    let tables = block.tables.iter();
    let read = tables.filter(|of| !of.table.is_rollup() && !dataset.rows(of.table).is_empty());
    read.map(|of| {
        let rows = dataset.rows(of.table);
        let batch = if of.table.has_samples() {
            (rows.end - rows.start).min(BATCH) * SAMPLE
        } else {
            0
        };
        TABLE + FOOTER_BYTE * of.tail.len() as u64 + batch
    })
    .sum()
}

/// Whether a sample of the block may name a span. One whose tables cannot be opened is refused by
/// name when it is read.
fn may_name_spans(meta: &BlockMeta) -> bool {
    let tables = [Table::Samples, Table::Snapshots];
    let samples = meta.tables.iter().filter(|of| tables.contains(&of.table));
    samples
        .map(OpenTable::new)
        .any(|open| open.is_ok_and(|open| open.has_spans()))
}

/// Samples are merged with their spans, profiles with the keys of their writes.
fn columns_of(table: Table) -> Columns {
    match table {
        Table::Samples | Table::Snapshots => Columns::WithSpans,
        Table::Profiles => Columns::WithWrites,
        _ => Columns::Plain,
    }
}

fn unreadable(unit: &Unit, error: BlockReadError) -> JobError {
    match error.is_unavailable() {
        true => JobError::Read(Box::new(error)),
        false => JobError::BadInput {
            block: unit.block.id,
            slice: unit.slice(),
            why: error.to_string(),
        },
    }
}

/// The tenant's deletions, ready to be applied.
fn deletions_of(state: &CatalogueState, tenant: &TenantId) -> Result<Vec<Arc<Deletion>>, JobError> {
    let of_tenant = state.deletions().filter(|d| d.tombstone.tenant == *tenant);
    of_tenant
        .map(|deletion| {
            let tombstone = &deletion.tombstone;
            Deletion::new(&tombstone.selector, tombstone.before)
                .map(Arc::new)
                .map_err(|error| JobError::Deletion {
                    id: tombstone.id.to_string(),
                    why: error.to_string(),
                })
        })
        .collect()
}

/// The output's id; another one if that was given up before, or lives already.
fn free_id(
    state: &CatalogueState,
    level: u8,
    inputs: &[BlockId],
    scope: &MergeScope,
    rules: &[u128],
) -> BlockId {
    let mut rules = rules.to_vec();
    loop {
        let id = merged_id(level, inputs, scope, &rules);
        if !state.is_garbage(id) && state.block(id).is_none() {
            return id;
        }
        rules.push(id.0);
    }
}
