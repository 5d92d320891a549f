//! The compact form of a block's meta, as entries of the catalogue carry it.
//!
//! ```text
//! u8 version (4 where a merge is numbered, else 3 where there are roll-ups, else 2 where a merge's scope follows the inputs, else 1) | id 16 | u8 level | format | min time | max time - min time
//! inputs: n, ids | roll-ups (from version 3): u8 1 if a scope follows, n, labels
//! scope (version 2, later ones if they say so): run 8 (version 4), part, u8 1 if it is the last, n, (tenant, shards 2)
//! streams: n, (node, incarnation 8, n, from, to - from)
//! tables: n, (u8 table, bytes, rows, checksum 8, n, page checksums 4 each, size of the tail)
//! all tails after each other, compressed with zstd if that makes them smaller
//! tenants: n, texts | profile types: n, 5 texts each
//! datasets: n, (tenant, service, min time - block's, max time - min time,
//!               n, profile types, distinct stacks, rows in each of the tables above,
//!               from version 3: n, (samples, without 5 min sums, without 1 h sums))
//! CRC-32 of everything before, 4 bytes
//! ```
//! Numbers are LEB128 unless a width is given (then little-endian), times are nanoseconds, signed
//! ones are zigzag, texts and compressed bytes have a length before them. Row ranges are stored as counts:
//! datasets follow each other without gaps.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use scoria_model::varint::{Reader, VarintError, put_bytes, put_i64, put_u64};
use scoria_model::{
    BlockId, Incarnation, NodeId, ProfileType, Seq, ShardSet, StreamId, TenantId, Timestamp,
};

use super::{BlockMeta, DatasetMeta, MergeScope, StreamRange, TableMeta};
use crate::{BlockError, FORMAT_VERSION, Rolled, Table};

const PLAIN_VERSION: u8 = 1;
/// With the scope of a merge.
const MERGED_VERSION: u8 = 2;
/// With roll-ups.
const ROLLED_VERSION: u8 = 3;
/// With the number of a merge.
const RUN_VERSION: u8 = 4;
/// Footers name columns over and over: compressed they take a third.
const TAIL_LEVEL: i32 = 9;
/// Footers and page indexes of one block beyond this are damage.
const TAIL_BYTES_MAX: usize = 64 * 1024 * 1024;

impl From<VarintError> for BlockError {
    fn from(error: VarintError) -> Self {
        Self::meta(error.to_string())
    }
}

impl BlockMeta {
    /// Appends the compact form; see the module page of `meta/codec.rs` and `docs/FORMATS.md`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let codec = self.codec();
        out.push(codec);
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.push(self.level);
        put_u64(out, u64::from(self.version));
        put_i64(out, self.min_time.0);
        put_u64(out, distance(self.min_time, self.max_time));
        put_u64(out, self.inputs.len() as u64);
        for input in &self.inputs {
            out.extend_from_slice(&input.0.to_le_bytes());
        }
        if codec >= ROLLED_VERSION {
            out.push(u8::from(self.merge.is_some()));
            put_u64(out, self.rollup_labels.len() as u64);
            for label in &self.rollup_labels {
                put_bytes(out, label.as_bytes());
            }
        }
        if let Some(scope) = &self.merge {
            put_scope(out, scope, codec);
        }
        put_u64(out, self.streams.len() as u64);
        for range in &self.streams {
            put_bytes(out, range.stream.node.0.as_bytes());
            out.extend_from_slice(&range.stream.incarnation.0.to_le_bytes());
            put_u64(out, u64::from(range.stream.n));
            put_u64(out, range.from.0);
            put_u64(out, range.to.0.wrapping_sub(range.from.0));
        }
        put_u64(out, self.tables.len() as u64);
        self.tables.iter().for_each(|table| put_table(out, table));
        put_tails(out, &self.tables);
        self.encode_datasets(out);
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    fn codec(&self) -> u8 {
        if self.merge.as_ref().is_some_and(|scope| scope.run != 0) {
            return RUN_VERSION;
        }
        if !self.rollup_labels.is_empty() || self.tables.iter().any(|t| t.table.is_rollup()) {
            return ROLLED_VERSION;
        }
        match self.merge {
            None => PLAIN_VERSION,
            Some(_) => MERGED_VERSION,
        }
    }

    fn encode_datasets(&self, out: &mut Vec<u8>) {
        let with_rollups = self.codec() >= ROLLED_VERSION;
        let number = |at: usize| at as u64;
        let mut tenants: BTreeMap<&TenantId, u64> = BTreeMap::new();
        let mut kinds: BTreeMap<&ProfileType, u64> = BTreeMap::new();
        for dataset in &self.datasets {
            tenants.insert(&dataset.tenant, 0);
            dataset.kinds.iter().for_each(|kind| {
                kinds.insert(kind, 0);
            });
        }
        put_u64(out, tenants.len() as u64);
        for (at, (tenant, id)) in tenants.iter_mut().enumerate() {
            *id = number(at);
            put_bytes(out, tenant.as_str().as_bytes());
        }
        put_u64(out, kinds.len() as u64);
        for (at, (kind, id)) in kinds.iter_mut().enumerate() {
            *id = number(at);
            kind_texts(kind)
                .iter()
                .for_each(|text| put_bytes(out, text.as_bytes()));
        }
        put_u64(out, self.datasets.len() as u64);
        for dataset in &self.datasets {
            put_u64(out, tenants[&dataset.tenant]);
            put_bytes(out, dataset.service.as_bytes());
            put_u64(out, distance(self.min_time, dataset.min_time));
            put_u64(out, distance(dataset.min_time, dataset.max_time));
            put_u64(out, dataset.kinds.len() as u64);
            dataset
                .kinds
                .iter()
                .for_each(|kind| put_u64(out, kinds[kind]));
            put_u64(out, u64::from(dataset.n_stacks));
            for table in &self.tables {
                let rows = dataset.rows(table.table);
                put_u64(out, rows.end.wrapping_sub(rows.start));
            }
            if with_rollups {
                put_u64(out, dataset.rolled.len() as u64);
                for rolled in &dataset.rolled {
                    put_u64(out, rolled.samples);
                    rolled.unrolled.iter().for_each(|&n| put_u64(out, n));
                }
            }
        }
    }

    /// Reads the compact form and checks it against itself.
    ///
    /// # Errors
    /// [`BlockError::Meta`] for damage of any kind, [`BlockError::Version`] for a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let (body, crc) = bytes
            .split_last_chunk::<4>()
            .ok_or_else(|| BlockError::meta("shorter than its checksum"))?;
        let (stored, computed) = (u32::from_le_bytes(*crc), crc32fast::hash(body));
        if stored != computed {
            return Err(BlockError::meta(format!(
                "its checksum is {stored:08x}, its bytes give {computed:08x}"
            )));
        }
        let mut reader = Reader::new(body);
        let codec = reader.u8()?;
        if !(PLAIN_VERSION..=RUN_VERSION).contains(&codec) {
            return Err(BlockError::Version {
                version: u64::from(codec),
                supported: u32::from(RUN_VERSION),
            });
        }
        let meta = decode_body(&mut reader, codec)?;
        if !reader.is_empty() {
            return Err(BlockError::meta(format!(
                "{} bytes are left over",
                reader.rest().len()
            )));
        }
        meta.check()?;
        Ok(meta)
    }
}

fn put_table(out: &mut Vec<u8>, table: &TableMeta) {
    out.push(table.table as u8);
    put_u64(out, table.bytes);
    put_u64(out, table.rows);
    out.extend_from_slice(&table.checksum.to_le_bytes());
    put_u64(out, table.page_checksums.len() as u64);
    for crc in &table.page_checksums {
        out.extend_from_slice(&crc.to_le_bytes());
    }
    put_u64(out, table.tail.len() as u64);
}

fn put_tails(out: &mut Vec<u8>, tables: &[TableMeta]) {
    let tails: Vec<u8> = tables.iter().flat_map(|t| &t.tail).copied().collect();
    match zstd::bulk::compress(&tails, TAIL_LEVEL) {
        Ok(packed) if packed.len() < tails.len() => put_bytes(out, &packed),
        _ => put_bytes(out, &tails),
    }
}

fn kind_texts(kind: &ProfileType) -> [&str; 5] {
    [
        &kind.name,
        &kind.sample_type,
        &kind.sample_unit,
        &kind.period_type,
        &kind.period_unit,
    ]
}

fn distance(from: Timestamp, to: Timestamp) -> u64 {
    to.0.wrapping_sub(from.0) as u64
}

fn decode_body(reader: &mut Reader<'_>, codec: u8) -> Result<BlockMeta, BlockError> {
    let id = block_id(reader)?;
    let level = reader.u8()?;
    let version = reader.u64()?;
    if version > u64::from(FORMAT_VERSION) {
        return Err(BlockError::Version {
            version,
            supported: FORMAT_VERSION,
        });
    }
    let min_time = Timestamp(reader.i64()?);
    let max_time = later(min_time, reader.u64()?)?;
    let inputs = list(reader, block_id)?;
    let mut has_scope = codec == MERGED_VERSION;
    let mut rollup_labels = Vec::new();
    if codec >= ROLLED_VERSION {
        has_scope = flag(reader)?;
        rollup_labels = list(reader, |reader| Ok(Arc::from(text(reader)?)))?;
    }
    let merge = has_scope.then(|| read_scope(reader, codec)).transpose()?;
    let streams = list(reader, stream_range)?;
    let (mut tables, tail_sizes): (Vec<_>, Vec<_>) = list(reader, table_meta)?.into_iter().unzip();
    take_tails(reader, &mut tables, &tail_sizes)?;
    let tenants = list(reader, |reader| {
        TenantId::parse(text(reader)?).map_err(|e| BlockError::meta(e.to_string()))
    })?;
    let kinds = list(reader, profile_type)?;
    let mut starts = [0; Table::COUNT];
    let datasets = list(reader, |reader| {
        let tenant = pick(&tenants, reader.u64()?, "tenant")?;
        let service = Arc::from(text(reader)?);
        let from = later(min_time, reader.u64()?)?;
        let to = later(from, reader.u64()?)?;
        let of_dataset = list(reader, |reader| pick(&kinds, reader.u64()?, "profile type"))?;
        let n_stacks = reader.u32()?;
        let mut rows = starts.map(|start: u64| start..start);
        for table in &tables {
            let at = table.table.index();
            rows[at].end = starts[at]
                .checked_add(reader.u64()?)
                .ok_or_else(|| BlockError::meta("row counts overflow"))?;
            starts[at] = rows[at].end;
        }
        let rolled = match codec {
            ROLLED_VERSION.. => list(reader, rolled)?,
            _ => Vec::new(),
        };
        Ok(DatasetMeta {
            tenant,
            service,
            min_time: from,
            max_time: to,
            rows,
            kinds: of_dataset,
            n_stacks,
            rolled,
        })
    })?;
    let bytes = tables
        .iter()
        .try_fold(0u64, |sum, table| sum.checked_add(table.bytes))
        .ok_or_else(|| BlockError::meta("table sizes overflow"))?;
    Ok(BlockMeta {
        id,
        level,
        version: version as u32,
        min_time,
        max_time,
        bytes,
        tables,
        datasets,
        streams,
        inputs,
        merge,
        rollup_labels,
    })
}

fn rolled(reader: &mut Reader<'_>) -> Result<Rolled, BlockError> {
    Ok(Rolled {
        samples: reader.u64()?,
        unrolled: [reader.u64()?, reader.u64()?],
    })
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, BlockError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(BlockError::meta(format!("a yes or no is {found}"))),
    }
}

fn put_scope(out: &mut Vec<u8>, scope: &MergeScope, codec: u8) {
    if codec >= RUN_VERSION {
        out.extend_from_slice(&scope.run.to_le_bytes());
    }
    put_u64(out, u64::from(scope.part));
    out.push(u8::from(scope.last));
    put_u64(out, scope.slices.len() as u64);
    for (tenant, shards) in &scope.slices {
        put_bytes(out, tenant.as_str().as_bytes());
        out.extend_from_slice(&shards.bits().to_le_bytes());
    }
}

fn read_scope(reader: &mut Reader<'_>, codec: u8) -> Result<MergeScope, BlockError> {
    let run = match codec {
        RUN_VERSION.. => u64::from_le_bytes(fixed(reader)?),
        _ => 0,
    };
    let part = reader.u32()?;
    let last = flag(reader)?;
    let slices = list(reader, |reader| {
        let tenant = TenantId::parse(text(reader)?).map_err(|e| BlockError::meta(e.to_string()))?;
        Ok((
            tenant,
            ShardSet::from_bits(u16::from_le_bytes(fixed(reader)?)),
        ))
    })?;
    Ok(MergeScope {
        slices,
        run,
        part,
        last,
    })
}

fn list<T>(
    reader: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, BlockError>,
) -> Result<Vec<T>, BlockError> {
    let n = reader.count()?;
    // Not reserved in one go: an entry of a hostile list can be far larger than its bytes.
    let mut out = Vec::new();
    for _ in 0..n {
        out.push(one(reader)?);
    }
    Ok(out)
}

fn pick<T: Clone>(list: &[T], at: u64, what: &str) -> Result<T, BlockError> {
    usize::try_from(at)
        .ok()
        .and_then(|at| list.get(at))
        .cloned()
        .ok_or_else(|| BlockError::meta(format!("{what} {at} is outside its {}", list.len())))
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, BlockError> {
    std::str::from_utf8(reader.bytes()?).map_err(|_| BlockError::meta("a text is not UTF-8"))
}

fn later(from: Timestamp, by: u64) -> Result<Timestamp, BlockError> {
    from.0
        .checked_add_unsigned(by)
        .map(Timestamp)
        .ok_or_else(|| BlockError::meta("a time overflows"))
}

fn fixed<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], BlockError> {
    let bytes = reader.take(N)?;
    <[u8; N]>::try_from(bytes).map_err(|_| BlockError::meta("the bytes end inside a value"))
}

fn block_id(reader: &mut Reader<'_>) -> Result<BlockId, BlockError> {
    Ok(BlockId(u128::from_le_bytes(fixed(reader)?)))
}

fn stream_range(reader: &mut Reader<'_>) -> Result<StreamRange, BlockError> {
    let stream = StreamId {
        node: NodeId(Arc::from(text(reader)?)),
        incarnation: Incarnation(u64::from_le_bytes(fixed(reader)?)),
        n: reader.u32()?,
    };
    let from = reader.u64()?;
    let to = from
        .checked_add(reader.u64()?)
        .ok_or_else(|| BlockError::meta("a sequence number overflows"))?;
    Ok(StreamRange {
        stream,
        from: Seq(from),
        to: Seq(to),
    })
}

/// A table without its tail, and the size of that.
fn table_meta(reader: &mut Reader<'_>) -> Result<(TableMeta, u64), BlockError> {
    let number = reader.u8()?;
    let table = pick(&Table::ALL, u64::from(number), "table")?;
    let bytes = reader.u64()?;
    let rows = reader.u64()?;
    let checksum = u64::from_le_bytes(fixed(reader)?);
    let page_checksums = list(reader, |reader| Ok(u32::from_le_bytes(fixed(reader)?)))?;
    let meta = TableMeta {
        table,
        bytes,
        rows,
        checksum,
        page_checksums,
        tail: Bytes::new(),
    };
    Ok((meta, reader.u64()?))
}

fn take_tails(
    reader: &mut Reader<'_>,
    tables: &mut [TableMeta],
    sizes: &[u64],
) -> Result<(), BlockError> {
    let size = sizes
        .iter()
        .try_fold(0u64, |sum, &size| sum.checked_add(size))
        .and_then(|size| usize::try_from(size).ok())
        .filter(|&size| size <= TAIL_BYTES_MAX)
        .ok_or_else(|| {
            BlockError::meta(format!("its tails are larger than {TAIL_BYTES_MAX} bytes"))
        })?;
    let packed = reader.bytes()?;
    let tails = if packed.len() == size {
        packed.to_vec()
    } else {
        zstd::bulk::decompress(packed, size)
            .map_err(|e| BlockError::meta(format!("its tails cannot be decompressed: {e}")))?
    };
    if tails.len() != size {
        return Err(BlockError::meta(format!(
            "its tails are {} bytes where {size} are announced",
            tails.len()
        )));
    }
    let tails = Bytes::from(tails);
    let mut at = 0;
    for (table, &size) in tables.iter_mut().zip(sizes) {
        let end = at + size as usize;
        table.tail = tails.slice(at..end);
        at = end;
    }
    Ok(())
}

fn profile_type(reader: &mut Reader<'_>) -> Result<ProfileType, BlockError> {
    let mut texts = [""; 5];
    for part in &mut texts {
        *part = text(reader)?;
    }
    let [name, sample_type, sample_unit, period_type, period_unit] = texts;
    Ok(ProfileType::new(
        name,
        (sample_type, sample_unit),
        (period_type, period_unit),
    ))
}
