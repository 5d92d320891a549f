//! `manifest.json`: the same meta as the catalogue's entry, readable without us.
//!
//! `{"xxh3": "<16 hex digits>", "block": {…}}`: the checksum is over the bytes of the value of
//! `block` as they stand, so that a flipped digit is noticed as surely as a flipped brace.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use scoria_model::{BlockId, ProfileType, Seq, ShardSet, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::{BlockMeta, DatasetMeta, MergeScope, StreamRange, TableMeta};
use crate::{BlockError, FORMAT_VERSION, Rolled, Table};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    xxh3: String,
    #[serde(borrow)]
    block: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockDoc {
    format: u32,
    id: String,
    level: u8,
    min_time_ns: i64,
    max_time_ns: i64,
    tables: Vec<TableDoc>,
    datasets: Vec<DatasetDoc>,
    streams: Vec<StreamDoc>,
    inputs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    merge: Option<MergeDoc>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rollup_labels: Vec<String>,
}

/// Only the version, which must be known before the rest can be understood.
#[derive(Deserialize)]
struct VersionDoc {
    format: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableDoc {
    table: String,
    file: String,
    bytes: u64,
    rows: u64,
    xxh3: String,
    page_crc32: Vec<u32>,
    tail_base64: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetDoc {
    tenant: String,
    service: String,
    min_time_ns: i64,
    max_time_ns: i64,
    profile_types: Vec<[String; 5]>,
    n_stacks: u32,
    /// Start and end of its rows, by table.
    rows: BTreeMap<String, [u64; 2]>,
    /// By profile type: samples, and those without sums of 5 minutes and of an hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rolled: Vec<[u64; 3]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamDoc {
    stream: String,
    from_seq: u64,
    to_seq: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MergeDoc {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    part: u32,
    last: bool,
    slices: Vec<SliceDoc>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SliceDoc {
    tenant: String,
    /// One bit per shard.
    shards: u16,
}

impl BlockMeta {
    /// The bytes of `manifest.json`.
    ///
    /// # Errors
    /// Only if the JSON encoder refuses.
    pub fn to_manifest(&self) -> Result<Bytes, BlockError> {
        let refused = |e: serde_json::Error| BlockError::meta(e.to_string());
        let block = serde_json::to_string(&self.to_doc()).map_err(refused)?;
        let xxh3 = hex(xxh3_64(block.as_bytes()));
        let block = RawValue::from_string(block).map_err(refused)?;
        let envelope = Envelope {
            xxh3,
            block: &block,
        };
        Ok(Bytes::from(serde_json::to_vec(&envelope).map_err(refused)?))
    }

    /// Reads `manifest.json` and checks it against itself.
    ///
    /// # Errors
    /// [`BlockError::Meta`] for damage of any kind, [`BlockError::Version`] for a newer version.
    pub fn from_manifest(bytes: &[u8]) -> Result<Self, BlockError> {
        let refused = |e: serde_json::Error| BlockError::meta(e.to_string());
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(refused)?;
        let text = envelope.block.get();
        let computed = hex(xxh3_64(text.as_bytes()));
        if computed != envelope.xxh3 {
            return Err(BlockError::meta(format!(
                "its checksum is {}, its bytes give {computed}",
                envelope.xxh3
            )));
        }
        let version: VersionDoc = serde_json::from_str(text).map_err(refused)?;
        if version.format > u64::from(FORMAT_VERSION) {
            return Err(BlockError::Version {
                version: version.format,
                supported: FORMAT_VERSION,
            });
        }
        let doc: BlockDoc = serde_json::from_str(text).map_err(refused)?;
        let meta = doc.into_meta()?;
        meta.check()?;
        Ok(meta)
    }

    fn to_doc(&self) -> BlockDoc {
        BlockDoc {
            format: self.version,
            id: self.id.to_string(),
            level: self.level,
            min_time_ns: self.min_time.0,
            max_time_ns: self.max_time.0,
            tables: self.tables.iter().map(TableDoc::from_meta).collect(),
            datasets: self.datasets.iter().map(DatasetDoc::from_meta).collect(),
            streams: self
                .streams
                .iter()
                .map(|range| StreamDoc {
                    stream: range.stream.to_string(),
                    from_seq: range.from.0,
                    to_seq: range.to.0,
                })
                .collect(),
            inputs: self.inputs.iter().map(BlockId::to_string).collect(),
            merge: self.merge.as_ref().map(MergeDoc::from_scope),
            rollup_labels: self.rollup_labels.iter().map(|l| l.to_string()).collect(),
        }
    }
}

fn hex(value: u64) -> String {
    format!("{value:016x}")
}

fn block_id(text: &str) -> Result<BlockId, BlockError> {
    text.parse()
        .map_err(|e: scoria_model::ids::BlockIdError| BlockError::meta(e.to_string()))
}

impl BlockDoc {
    fn into_meta(self) -> Result<BlockMeta, BlockError> {
        let tables = self
            .tables
            .into_iter()
            .map(TableDoc::into_meta)
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = tables
            .iter()
            .try_fold(0u64, |sum, table| sum.checked_add(table.bytes))
            .ok_or_else(|| BlockError::meta("table sizes overflow"))?;
        let stream = |doc: StreamDoc| {
            let stream = doc
                .stream
                .parse()
                .map_err(|e: scoria_model::ids::StreamIdError| BlockError::meta(e.to_string()))?;
            Ok(StreamRange {
                stream,
                from: Seq(doc.from_seq),
                to: Seq(doc.to_seq),
            })
        };
        let mut datasets: Vec<DatasetMeta> = Vec::with_capacity(self.datasets.len());
        for doc in self.datasets {
            let before = datasets.last().map(|dataset| &dataset.rows);
            let dataset = doc.into_meta(before)?;
            datasets.push(dataset);
        }
        Ok(BlockMeta {
            id: block_id(&self.id)?,
            level: self.level,
            version: self.format,
            min_time: Timestamp(self.min_time_ns),
            max_time: Timestamp(self.max_time_ns),
            bytes,
            tables,
            datasets,
            streams: self
                .streams
                .into_iter()
                .map(stream)
                .collect::<Result<_, BlockError>>()?,
            inputs: self
                .inputs
                .iter()
                .map(|text| block_id(text))
                .collect::<Result<_, _>>()?,
            merge: self.merge.map(MergeDoc::into_scope).transpose()?,
            rollup_labels: self.rollup_labels.into_iter().map(Arc::from).collect(),
        })
    }
}

impl MergeDoc {
    fn from_scope(scope: &MergeScope) -> Self {
        let slices = scope.slices.iter().map(|(tenant, shards)| SliceDoc {
            tenant: tenant.to_string(),
            shards: shards.bits(),
        });
        Self {
            run: (scope.run != 0).then(|| hex(scope.run)),
            part: scope.part,
            last: scope.last,
            slices: slices.collect(),
        }
    }

    fn into_scope(self) -> Result<MergeScope, BlockError> {
        let slice = |doc: SliceDoc| {
            let tenant =
                TenantId::parse(&doc.tenant).map_err(|e| BlockError::meta(e.to_string()))?;
            Ok((tenant, ShardSet::from_bits(doc.shards)))
        };
        let run = match &self.run {
            None => 0,
            Some(text) => u64::from_str_radix(text, 16)
                .map_err(|e| BlockError::meta(format!("run {text:?} of its merge: {e}")))?,
        };
        Ok(MergeScope {
            run,
            slices: self
                .slices
                .into_iter()
                .map(slice)
                .collect::<Result<_, BlockError>>()?,
            part: self.part,
            last: self.last,
        })
    }
}

impl TableDoc {
    fn from_meta(meta: &TableMeta) -> Self {
        Self {
            table: meta.table.to_string(),
            file: meta.table.file_name().to_owned(),
            bytes: meta.bytes,
            rows: meta.rows,
            xxh3: hex(meta.checksum),
            page_crc32: meta.page_checksums.clone(),
            tail_base64: BASE64_STANDARD.encode(&meta.tail),
        }
    }

    fn into_meta(self) -> Result<TableMeta, BlockError> {
        let table: Table = self
            .table
            .parse()
            .map_err(|e: crate::TableNameError| BlockError::meta(e.to_string()))?;
        let checksum = u64::from_str_radix(&self.xxh3, 16)
            .map_err(|e| BlockError::meta(format!("checksum {:?} of {table}: {e}", self.xxh3)))?;
        let tail = BASE64_STANDARD
            .decode(&self.tail_base64)
            .map_err(|e| BlockError::meta(format!("tail of {table}: {e}")))?;
        Ok(TableMeta {
            table,
            bytes: self.bytes,
            rows: self.rows,
            checksum,
            page_checksums: self.page_crc32,
            tail: Bytes::from(tail),
        })
    }
}

impl DatasetDoc {
    fn from_meta(meta: &DatasetMeta) -> Self {
        let part = |text: &Arc<str>| text.to_string();
        Self {
            tenant: meta.tenant.to_string(),
            service: meta.service.to_string(),
            min_time_ns: meta.min_time.0,
            max_time_ns: meta.max_time.0,
            profile_types: meta
                .kinds
                .iter()
                .map(|kind| {
                    [
                        part(&kind.name),
                        part(&kind.sample_type),
                        part(&kind.sample_unit),
                        part(&kind.period_type),
                        part(&kind.period_unit),
                    ]
                })
                .collect(),
            n_stacks: meta.n_stacks,
            rows: Table::ALL
                .into_iter()
                .map(|table| (table, meta.rows(table)))
                .filter(|(_, rows)| rows.start < rows.end)
                .map(|(table, rows)| (table.to_string(), [rows.start, rows.end]))
                .collect(),
            rolled: meta
                .rolled
                .iter()
                .map(|of| [of.samples, of.unrolled[0], of.unrolled[1]])
                .collect(),
        }
    }

    /// `before` are the rows of the dataset before: a table that is not named has none here.
    fn into_meta(
        self,
        before: Option<&[std::ops::Range<u64>; Table::COUNT]>,
    ) -> Result<DatasetMeta, BlockError> {
        let start = |table: Table| before.map_or(0, |rows| rows[table.index()].end);
        let mut rows = Table::ALL.map(|table| start(table)..start(table));
        for (name, [start, end]) in &self.rows {
            let table: Table = name
                .parse()
                .map_err(|e: crate::TableNameError| BlockError::meta(e.to_string()))?;
            rows[table.index()] = *start..*end;
        }
        let tenant = TenantId::parse(&self.tenant).map_err(|e| BlockError::meta(e.to_string()))?;
        Ok(DatasetMeta {
            tenant,
            service: Arc::from(self.service),
            min_time: Timestamp(self.min_time_ns),
            max_time: Timestamp(self.max_time_ns),
            rows,
            kinds: self
                .profile_types
                .iter()
                .map(|[name, st, su, pt, pu]| ProfileType::new(name, (st, su), (pt, pu)))
                .collect(),
            n_stacks: self.n_stacks,
            rolled: self
                .rolled
                .iter()
                .map(|&[samples, fine, coarse]| Rolled {
                    samples,
                    unrolled: [fine, coarse],
                })
                .collect(),
        })
    }
}
