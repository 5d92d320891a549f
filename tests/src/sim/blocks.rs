//! The blocks of simulated cuts: most are a list of what they hold, since writing Parquet takes a
//! hundred times longer than the rest of a schedule; some seeds write and read real ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use scoria_block::{
    BlockError, BlockMeta, BlockSpec, BlockWriter, Columns, DatasetInput, DatasetMeta,
    EncodedBlock, Fetched, OpenTable, SampleBatch, SampleRead, SampleRun, Sources, StreamRange,
    Table, decode_profiles, decode_samples, decode_symbols,
};
use scoria_ingester::head::Heads;
use scoria_model::{BlockId, Seq, StreamId};
use scoria_storage::keys;
use scoria_storage::testing::bare_meta;

use super::bucket::Bucket;
use super::profiles::{PartId, Stored, recognise, stored_in};

/// What a run's blocks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockStyle {
    /// A checksum and what they hold.
    Listed,
    /// The tables of the block crate.
    Parquet,
}

/// A block of a cut, kept until it is committed.
#[derive(Debug, Clone)]
pub struct Built {
    pub meta: Arc<BlockMeta>,
    /// Keys and bytes in the order in which they are put.
    pub objects: Vec<(String, Bytes)>,
}

/// The key of the object that holds a listed block's rows.
fn rows_key(block: BlockId) -> String {
    format!("{}/{block}/rows", keys::BLOCKS)
}

/// Makes the block of the records in `(from, to]`.
///
/// # Errors
/// Says which profile is not what a client sent.
pub fn build(
    style: BlockStyle,
    id: u128,
    heads: &Heads,
    stream: &StreamId,
    (from, to): (Seq, Seq),
) -> Result<Built, String> {
    let stored = stored_in(heads, (from, to))?;
    if style == BlockStyle::Parquet && !stored.is_empty() {
        let encoded = write_tables(id, heads, stream, (from, to));
        return encoded.map(parquet).map_err(|error| error.to_string());
    }
    let meta = bare_meta(id, stream, (from.0, to.0));
    Ok(Built {
        objects: vec![(rows_key(meta.id), encode_rows(&stored))],
        meta: Arc::new(meta),
    })
}

fn parquet(block: EncodedBlock) -> Built {
    let id = block.meta.id;
    let mut objects: Vec<(String, Bytes)> = block
        .tables
        .into_iter()
        .map(|(table, bytes)| (keys::table(id, table).to_string(), bytes))
        .collect();
    objects.push((keys::manifest(id).to_string(), block.manifest));
    Built {
        meta: Arc::new(block.meta),
        objects,
    }
}

fn write_tables(
    id: u128,
    heads: &Heads,
    stream: &StreamId,
    (from, to): (Seq, Seq),
) -> Result<EncodedBlock, BlockError> {
    let mut writer = BlockWriter::new(BlockSpec {
        id: BlockId(id),
        level: 0,
        streams: vec![StreamRange {
            stream: stream.clone(),
            from,
            to,
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    })?;
    for head in heads.iter() {
        let snapshot = head.snapshot();
        let collected = snapshot.collect(|row| row.seq > from.0 && row.seq <= to.0);
        let (profiles, samples) = collected.map_err(|error| BlockError::Input {
            tenant: head.tenant().to_string(),
            service: head.service().to_owned(),
            what: error.to_string(),
        })?;
        writer.add(DatasetInput {
            tenant: head.tenant(),
            service: head.service(),
            symbols: snapshot.symbols(),
            series: snapshot.series(),
            kinds: snapshot.kinds(),
            profiles: &profiles,
            samples: &samples,
        })?;
    }
    writer.finish()
}

/// What a block in the bucket holds.
///
/// # Errors
/// Says what is missing or damaged (C2).
pub fn read(meta: &BlockMeta, bucket: &Bucket) -> Result<Vec<Stored>, String> {
    if meta.tables.is_empty() {
        let key = rows_key(meta.id);
        let bytes = bucket
            .object(&key)
            .ok_or_else(|| format!("{key} is missing"))?;
        return decode_rows(bytes).ok_or_else(|| format!("{key} is damaged"));
    }
    let mut sources = Sources::default();
    for table in &meta.tables {
        let key = keys::table(meta.id, table.table).to_string();
        let bytes = bucket
            .object(&key)
            .ok_or_else(|| format!("{key} is missing"))?;
        let open = OpenTable::new(table).map_err(|error| format!("{key}: {error}"))?;
        sources.insert(Arc::new(open), Fetched::whole(bytes.clone()));
    }
    let mut stored = Vec::new();
    for dataset in &meta.datasets {
        let read = read_dataset(&sources, meta, dataset, &mut stored);
        read.map_err(|what| format!("block {}: {what}", meta.id))?;
    }
    stored.sort_unstable();
    Ok(stored)
}

fn read_dataset(
    sources: &Sources,
    meta: &BlockMeta,
    dataset: &DatasetMeta,
    stored: &mut Vec<Stored>,
) -> Result<(), String> {
    let text = |error: BlockError| error.to_string();
    let rows = decode_profiles(sources, meta, dataset).map_err(text)?;
    let symbols = decode_symbols(sources, dataset).map_err(text)?;
    for table in [Table::Samples, Table::Snapshots] {
        let of_table = |row: &usize| {
            let kind = &dataset.kinds[rows.kind[*row] as usize];
            Table::of_kind(kind) == table
        };
        let by_start: BTreeMap<u64, usize> = (0..rows.len())
            .filter(of_table)
            .map(|row| (rows.samples_start[row], row))
            .collect();
        let Some((open, fetched)) = sources.get(table) else {
            continue;
        };
        let runs: Vec<SampleRun> = by_start.values().map(|&row| rows.run(row)).collect();
        let mut batches = vec![SampleBatch::default(); runs.len()];
        let read = SampleRead {
            runs: &runs,
            columns: Columns::Plain,
            n_stacks: dataset.n_stacks,
        };
        decode_samples((open, fetched), read, &mut |batch, pieces| {
            for piece in pieces {
                for at in piece.samples.clone() {
                    let node = symbols.nodes[batch.stack[at] as usize];
                    batches[piece.run].stack.push(node);
                    batches[piece.run].value.push(batch.value[at]);
                }
            }
        })
        .map_err(text)?;
        for (batch, &row) in batches.iter().zip(by_start.values()) {
            let seq = Seq(rows.seq[row]);
            let part = recognise(batch, &symbols.symbols, rows.total[row])?;
            stored.push(Stored { seq, part });
        }
    }
    Ok(())
}

fn encode_rows(stored: &[Stored]) -> Bytes {
    let mut body = Vec::new();
    for Stored { seq, part } in stored {
        body.extend_from_slice(&seq.0.to_le_bytes());
        body.extend_from_slice(&part.0.to_le_bytes());
    }
    let crc = crc32fast::hash(&body);
    body.extend_from_slice(&crc.to_le_bytes());
    Bytes::from(body)
}

fn decode_rows(bytes: &[u8]) -> Option<Vec<Stored>> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body).to_le_bytes() != *crc {
        return None;
    }
    let (rows, []) = body.as_chunks::<12>() else {
        return None;
    };
    let read = |row: &[u8; 12]| {
        let (seq, part) = row.split_first_chunk::<8>()?;
        Some(Stored {
            seq: Seq(u64::from_le_bytes(*seq)),
            part: PartId(u32::from_le_bytes(part.try_into().ok()?)),
        })
    };
    rows.iter().map(read).collect()
}
