//! Profile rows of a dataset.

use std::collections::HashMap;

use arrow::array::{Array, DictionaryArray, FixedSizeBinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type};

use super::Sources;
use super::columns::{column, missing, values};
use crate::kind_text::kind_text;
use crate::layout::{ARRIVAL, WRITE_KEY};
use crate::{BlockError, BlockMeta, Columns, DatasetMeta, ProfileRows, Table, WriteKey};

const TABLE: Table = Table::Profiles;

/// All profile rows of the dataset, sorted by (kind, series, time). `samples_start` is the row of
/// the table that [`Table::of_kind`] names for the row's kind.
///
/// # Errors
/// The table was not fetched or is damaged, or a row names a type, series, stream or sample that
/// the dataset does not have.
pub fn decode_profiles(
    sources: &Sources,
    block: &BlockMeta,
    dataset: &DatasetMeta,
) -> Result<ProfileRows, BlockError> {
    decode(sources, block, dataset, Columns::Plain)
}

/// The same with the keys of their writes, which blocks of higher levels do not have.
///
/// # Errors
/// As [`decode_profiles`].
pub fn decode_written_profiles(
    sources: &Sources,
    block: &BlockMeta,
    dataset: &DatasetMeta,
) -> Result<ProfileRows, BlockError> {
    decode(sources, block, dataset, Columns::WithWrites)
}

fn decode(
    sources: &Sources,
    block: &BlockMeta,
    dataset: &DatasetMeta,
    columns: Columns,
) -> Result<ProfileRows, BlockError> {
    let mut rows = ProfileRows::default();
    let kinds: HashMap<String, u32> = dataset.kinds.iter().map(kind_text).zip(0..).collect();
    sources.read_columns((TABLE, columns), dataset, &mut |batch| {
        append(batch, &kinds, &mut rows)?;
        append_writes(batch, &mut rows)
    })?;
    let below = |what: &str, column: &[u32], size: u64| match column
        .iter()
        .position(|&v| u64::from(v) >= size)
    {
        Some(at) => Err(BlockError::damaged(
            TABLE,
            format!("{what} {} of row {at} is outside its {size}", column[at]),
        )),
        None => Ok(()),
    };
    below("series", &rows.series, dataset.n_series())?;
    below("stream", &rows.stream, block.streams.len().max(1) as u64)?;
    place_samples(dataset, &mut rows)?;
    Ok(rows)
}

fn append(
    batch: &RecordBatch,
    kinds: &HashMap<String, u32>,
    rows: &mut ProfileRows,
) -> Result<(), BlockError> {
    rows.kind.extend(kinds_column(TABLE, batch, kinds)?);
    let u32s = |name| values::<UInt32Type>(TABLE, batch, name);
    let i64s = |name| values::<Int64Type>(TABLE, batch, name);
    rows.series.extend_from_slice(u32s("series")?);
    rows.time_ns
        .extend_from_slice(values::<TimestampNanosecondType>(TABLE, batch, "time")?);
    rows.duration_ns.extend_from_slice(i64s("duration_ns")?);
    rows.period.extend_from_slice(i64s("period")?);
    rows.total.extend_from_slice(i64s("total")?);
    rows.n_samples.extend_from_slice(u32s("n_samples")?);
    rows.stream.extend_from_slice(u32s("stream")?);
    rows.seq
        .extend_from_slice(values::<UInt64Type>(TABLE, batch, "seq")?);
    rows.place.extend_from_slice(u32s("place")?);
    Ok(())
}

/// The profile type of each row of a batch, as a number out of `kinds`.
pub(super) fn kinds_column(
    table: Table,
    batch: &RecordBatch,
    kinds: &HashMap<String, u32>,
) -> Result<Vec<u32>, BlockError> {
    let types: &DictionaryArray<Int32Type> = column(table, batch, "profile_type")?;
    let texts = types
        .values()
        .as_any()
        .downcast_ref::<StringArray>()
        .ok_or_else(|| missing(table, "profile_type"))?;
    let known: Vec<Option<u32>> = texts
        .iter()
        .map(|text| text.and_then(|text| kinds.get(text)).copied())
        .collect();
    let keys = types.keys().values().iter();
    keys.map(|key| {
        usize::try_from(*key)
            .ok()
            .and_then(|key| known.get(key).copied().flatten())
            .ok_or_else(|| {
                BlockError::damaged(table, "a row has a profile type that its dataset has not")
            })
    })
    .collect()
}

/// Both columns are there, or none.
fn append_writes(batch: &RecordBatch, rows: &mut ProfileRows) -> Result<(), BlockError> {
    if batch.column_by_name(WRITE_KEY).is_none() {
        return Ok(());
    }
    let keys: &FixedSizeBinaryArray = column(TABLE, batch, WRITE_KEY)?;
    let arrivals = values::<TimestampNanosecondType>(TABLE, batch, ARRIVAL)?;
    for (key, &arrival_ns) in keys.iter().zip(arrivals) {
        let key = key
            .and_then(|key| <[u8; 16]>::try_from(key).ok())
            .ok_or_else(|| missing(TABLE, WRITE_KEY))?;
        rows.write.push(WriteKey { key, arrival_ns });
    }
    Ok(())
}

/// Samples follow their profiles, so counts say where each profile's samples start.
fn place_samples(dataset: &DatasetMeta, rows: &mut ProfileRows) -> Result<(), BlockError> {
    let table_of: Vec<Table> = dataset.kinds.iter().map(Table::of_kind).collect();
    let mut next = Table::ALL.map(|table| dataset.rows(table).start);
    for (&kind, &n) in rows.kind.iter().zip(&rows.n_samples) {
        let next = &mut next[table_of[kind as usize].index()];
        rows.samples_start.push(*next);
        // At most 2^32 profiles of 2^32 samples after a start that is inside its table.
        *next = next.saturating_add(u64::from(n));
    }
    for table in [Table::Samples, Table::Snapshots] {
        let (stored, counted) = (dataset.rows(table).end, next[table.index()]);
        if stored != counted {
            return Err(BlockError::damaged(
                TABLE,
                format!(
                    "its rows count {table} up to {counted}, the dataset has them up to {stored}"
                ),
            ));
        }
    }
    Ok(())
}
