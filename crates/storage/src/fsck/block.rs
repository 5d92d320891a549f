//! One block, every byte: its manifest, the checksum of each table, every row decoded, and the
//! totals of profiles against the sums of their samples.

use std::sync::Arc;

use bytes::Bytes;
use scoria_block::{
    BlockError, BlockMeta, Columns, DatasetMeta, Fetched, OpenTable, ProfileRows, SampleRead,
    SampleRun, Sources, Table, check_rollups, decode_profiles, decode_samples, decode_series,
    decode_symbols,
};

use super::{Finding, FindingKind};
use crate::block_store::{BlockReadError, BlockStore};
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;

/// Memory for the sums of one hour of a profile type that roll-ups are compared with.
const SUMS_BYTES: u64 = 256 << 20;

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockFigures {
    pub objects: u64,
    pub bytes: u64,
    pub profiles: u64,
    pub samples: u64,
}

impl BlockFigures {
    /// Adds up what was read of several blocks.
    pub fn add(&mut self, other: &Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.profiles += other.profiles;
        self.samples += other.samples;
    }
}

pub(super) struct CheckedBlock {
    pub(super) figures: BlockFigures,
    pub(super) findings: Vec<Finding>,
}

impl CheckedBlock {
    fn add(&mut self, meta: &BlockMeta, kind: FindingKind, (key, what): (String, String)) {
        self.findings.push(Finding {
            kind,
            key,
            block: Some(meta.id),
            what,
        });
    }
}

/// Checks one live block.
///
/// # Errors
/// The store is unreachable: that is no finding about the block.
pub(super) async fn check(
    blocks: &BlockStore,
    meta: &Arc<BlockMeta>,
) -> Result<CheckedBlock, StoreError> {
    let mut checked = CheckedBlock {
        figures: BlockFigures::default(),
        findings: Vec::new(),
    };
    let manifest = keys::manifest(meta.id).to_string();
    match blocks.read_manifest(meta.id).await {
        Ok(kept) => {
            checked.figures.objects += 1;
            if kept != **meta {
                let what = "it differs from what the catalogue says of the block".to_owned();
                checked.add(meta, FindingKind::Invariant, (manifest, what));
            }
        }
        Err(error) => note(&mut checked, meta, manifest, error)?,
    }
    let mut tables = Vec::new();
    for table in &meta.tables {
        let key = keys::table(meta.id, table.table).to_string();
        match blocks.read_table(meta, table.table).await {
            Ok(bytes) => {
                checked.figures.objects += 1;
                checked.figures.bytes += bytes.len() as u64;
                tables.push((table.table, bytes));
            }
            Err(error) => note(&mut checked, meta, key, error)?,
        }
    }
    let whole = tables.len() == meta.tables.len();
    let of = Arc::clone(meta);
    let decoded = tokio::task::spawn_blocking(move || decode(&of, tables, whole)).await;
    match decoded {
        Ok(Ok(figures)) => checked.figures.add(&figures),
        Ok(Err(error)) => {
            let key = format!("{}/{}", keys::BLOCKS, meta.id);
            checked.add(meta, FindingKind::Damaged, (key, error));
        }
        Err(error) => {
            let key = format!("{}/{}", keys::BLOCKS, meta.id);
            let what = format!("checking it failed: {error}");
            checked.add(meta, FindingKind::Damaged, (key, what));
        }
    }
    Ok(checked)
}

/// Takes an error about an object for a finding, unless it is the store's.
fn note(
    checked: &mut CheckedBlock,
    meta: &BlockMeta,
    key: String,
    error: BlockReadError,
) -> Result<(), StoreError> {
    let kind = match error {
        BlockReadError::Store(error) if error.kind == StoreErrorKind::NotFound => {
            let what = "the catalogue has its block live, and it is not there".to_owned();
            checked.add(meta, FindingKind::Missing, (key, what));
            return Ok(());
        }
        BlockReadError::Store(error) => return Err(error),
        _ => FindingKind::Damaged,
    };
    checked.add(meta, kind, (key, error.to_string()));
    Ok(())
}

/// Decodes every row. Without all tables only those are decoded that stand alone.
fn decode(
    meta: &BlockMeta,
    tables: Vec<(Table, Bytes)>,
    whole: bool,
) -> Result<BlockFigures, String> {
    let mut sources = Sources::default();
    for (table, bytes) in tables {
        let Some(table_meta) = meta.table(table) else {
            continue;
        };
        let open = OpenTable::new(table_meta).map_err(|e| e.to_string())?;
        sources.insert(Arc::new(open), Fetched::whole(bytes));
    }
    let mut figures = BlockFigures::default();
    if !whole {
        return Ok(figures);
    }
    for dataset in &meta.datasets {
        let name = || format!("dataset {} {:?}", dataset.tenant, dataset.service);
        let said = |e: BlockError| format!("{}: {e}", name());
        decode_series(&sources, dataset).map_err(said)?;
        decode_symbols(&sources, dataset).map_err(said)?;
        let rows = decode_profiles(&sources, meta, dataset).map_err(said)?;
        figures.profiles += rows.len() as u64;
        figures.samples += sums(&sources, dataset, &rows)
            .map_err(said)?
            .map_err(|what| format!("{}: {what}", name()))?;
        check_rollups(&sources, (meta, dataset), SUMS_BYTES).map_err(said)?;
    }
    Ok(figures)
}

/// Reads all samples of a dataset and holds their sums against the totals of their profiles; how
/// many samples there were.
fn sums(
    sources: &Sources,
    dataset: &DatasetMeta,
    rows: &ProfileRows,
) -> Result<Result<u64, String>, BlockError> {
    let mut samples = 0;
    for table in [Table::Samples, Table::Snapshots] {
        let of_table = |at: &usize| {
            let kind = dataset.kinds.get(rows.kind[*at] as usize);
            kind.is_some_and(|kind| Table::of_kind(kind) == table)
        };
        let mut profiles: Vec<usize> = (0..rows.len()).filter(of_table).collect();
        profiles.sort_by_key(|&at| rows.samples_start[at]);
        let runs: Vec<SampleRun> = profiles.iter().map(|&at| rows.run(at)).collect();
        let mut sums = vec![0i64; profiles.len()];
        if let Some((open, fetched)) = sources.get(table) {
            let read = SampleRead {
                runs: &runs,
                columns: Columns::WithSpans,
                n_stacks: dataset.n_stacks,
            };
            decode_samples((open, fetched), read, &mut |batch, pieces| {
                samples += batch.len() as u64;
                for piece in pieces {
                    let values = &batch.value[piece.samples.clone()];
                    let sum = values
                        .iter()
                        .fold(0i64, |sum, value| sum.wrapping_add(*value));
                    sums[piece.run] = sums[piece.run].wrapping_add(sum);
                }
            })?;
        }
        let wrong = profiles
            .iter()
            .zip(&sums)
            .find(|(at, sum)| rows.total[**at] != **sum);
        if let Some((at, sum)) = wrong {
            return Ok(Err(format!(
                "the samples of profile {at} in table {table} sum to {sum}, its total is {}",
                rows.total[*at]
            )));
        }
    }
    Ok(Ok(samples))
}
