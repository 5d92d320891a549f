//! Profile rows of some types of a dataset, of which only those are kept that a reader wants: what
//! a question needs that roll-ups answer but for its ends.
//!
//! # Invariants
//! - Where the rows and samples of a type lie follows from the roll-ups and the meta; what is read
//!   there has to agree with both.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::{Int64Type, TimestampNanosecondType, UInt32Type};

use super::Sources;
use super::columns::values;
use super::profiles::kinds_column;
use crate::kind_text::kind_text;
use crate::{
    BlockError, Columns, DatasetMeta, ProfileRow, ProfileRows, Resolution, RollupRows, Table,
};

const TABLE: Table = Table::Profiles;

/// Where the profiles of one type of a dataset and their samples lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsOfKind {
    /// Index into the dataset's profile types.
    pub kind: u32,
    /// Rows of the table of profiles.
    pub profiles: Range<u64>,
    /// Rows of the table that [`Table::of_kind`] names.
    pub samples: Range<u64>,
}

/// Where the rows of each type lie in a dataset that has roll-ups, whose buckets count the profiles
/// of every type.
///
/// # Errors
/// Roll-ups and meta do not agree on the number of rows.
pub fn rows_of_kinds(
    dataset: &DatasetMeta,
    rollups: &RollupRows,
) -> Result<Vec<RowsOfKind>, BlockError> {
    let mut counts = vec![0u64; dataset.kinds.len()];
    for (at, &kind) in rollups.rows.kind.iter().enumerate() {
        if rollups.resolution[at] == Resolution::Hour {
            counts[kind as usize] += u64::from(rollups.profiles[at]);
        }
    }
    let samples_of = |kind: usize| dataset.rolled.get(kind).map_or(0, |rolled| rolled.samples);
    let mut next = Table::ALL.map(|table| dataset.rows(table).start);
    let mut take = |table: Table, n: u64| {
        let start = next[table.index()];
        next[table.index()] = start.saturating_add(n);
        start..next[table.index()]
    };
    let rows: Vec<RowsOfKind> = (0u32..)
        .zip(dataset.kinds.iter().zip(&counts))
        .map(|(kind, (of, &n))| RowsOfKind {
            kind,
            profiles: take(TABLE, n),
            samples: take(Table::of_kind(of), samples_of(kind as usize)),
        })
        .collect();
    for table in [TABLE, Table::Samples, Table::Snapshots] {
        let (stored, counted) = (dataset.rows(table).end, next[table.index()]);
        if stored != counted {
            return Err(BlockError::damaged(
                Table::Rollups,
                format!(
                    "its rows count {table} up to {counted}, the dataset has them up to {stored}"
                ),
            ));
        }
    }
    Ok(rows)
}

/// The profile rows of some types, sorted by (kind, series, time), as far as `wants` takes their
/// type and time. [`Columns::Placed`] of `rows` must have been fetched; what these lack is 0.
///
/// # Errors
/// The rows were not fetched or are damaged, are of another type or series than the dataset has
/// there, or have more or fewer samples.
pub fn decode_placed_profiles(
    sources: &Sources,
    (dataset, rows): (&DatasetMeta, &[RowsOfKind]),
    wants: &mut dyn FnMut(u32, i64) -> bool,
) -> Result<ProfileRows, BlockError> {
    let kinds: HashMap<String, u32> = dataset.kinds.iter().map(kind_text).zip(0..).collect();
    let mut out = ProfileRows::default();
    for of_kind in rows.iter().filter(|of_kind| !of_kind.profiles.is_empty()) {
        let (open, fetched) = sources.get(TABLE).ok_or(BlockError::NotFetched {
            table: TABLE,
            start: of_kind.profiles.start,
            end: of_kind.profiles.end,
        })?;
        let range = std::slice::from_ref(&of_kind.profiles);
        let mut next = of_kind.samples.start;
        open.read((range, Columns::Placed), fetched, &mut |batch| {
            let found = kinds_column(TABLE, &batch, &kinds)?;
            if let Some(other) = found.iter().find(|kind| **kind != of_kind.kind) {
                let what = format!(
                    "a row of type {other} lies among those of type {}",
                    of_kind.kind
                );
                return Err(BlockError::damaged(TABLE, what));
            }
            append(
                &batch,
                (dataset, of_kind.kind),
                (&mut next, wants),
                &mut out,
            )
        })?;
        if next != of_kind.samples.end {
            return Err(BlockError::damaged(
                TABLE,
                format!(
                    "the rows of type {} count samples up to {next}, the dataset has them up to {}",
                    of_kind.kind, of_kind.samples.end
                ),
            ));
        }
    }
    Ok(out)
}

fn append(
    batch: &RecordBatch,
    (dataset, kind): (&DatasetMeta, u32),
    (next, wants): (&mut u64, &mut dyn FnMut(u32, i64) -> bool),
    out: &mut ProfileRows,
) -> Result<(), BlockError> {
    let series = values::<UInt32Type>(TABLE, batch, "series")?;
    let time = values::<TimestampNanosecondType>(TABLE, batch, "time")?;
    let period = values::<Int64Type>(TABLE, batch, "period")?;
    let n_samples = values::<UInt32Type>(TABLE, batch, "n_samples")?;
    for (at, &n_samples) in n_samples.iter().enumerate() {
        let samples_start = *next;
        *next = next.saturating_add(u64::from(n_samples));
        if !wants(kind, time[at]) {
            continue;
        }
        if u64::from(series[at]) >= dataset.n_series() {
            return Err(BlockError::damaged(
                TABLE,
                format!(
                    "series {} of a row is outside its {}",
                    series[at],
                    dataset.n_series()
                ),
            ));
        }
        out.push(ProfileRow {
            kind,
            series: series[at],
            time_ns: time[at],
            period: period[at],
            samples_start,
            n_samples,
            ..ProfileRow::default()
        });
    }
    Ok(())
}
