//! Buckets of a dataset's roll-ups.

use std::collections::HashMap;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::datatypes::{Int64Type, TimestampNanosecondType, UInt32Type};
use scoria_model::Labels;

use super::Sources;
use super::columns::{column, values};
use super::profiles::kinds_column;
use super::series::{SharedTexts, labels_column};
use crate::kind_text::kind_text;
use crate::{BlockError, DatasetMeta, ProfileRow, Resolution, RollupRows, Table};

const TABLE: Table = Table::Rollups;

/// All buckets of the dataset, sorted by (kind, hour, resolution, bucket).
///
/// # Errors
/// The table was not fetched or is damaged, or a row names a type, a width or samples that the
/// dataset does not have.
pub fn decode_rollups(sources: &Sources, dataset: &DatasetMeta) -> Result<RollupRows, BlockError> {
    let kinds: HashMap<String, u32> = dataset.kinds.iter().map(kind_text).zip(0..).collect();
    let mut reading = Reading {
        kinds,
        known: HashMap::new(),
        next: Resolution::ALL.map(|resolution| dataset.rows(resolution.table()).start),
        out: RollupRows::default(),
    };
    sources.read(TABLE, dataset, &mut |batch| reading.append(batch))?;
    for resolution in Resolution::ALL {
        let table = resolution.table();
        let (stored, counted) = (dataset.rows(table).end, reading.next[resolution.index()]);
        if stored != counted {
            return Err(BlockError::damaged(
                TABLE,
                format!(
                    "its rows count {table} up to {counted}, the dataset has them up to {stored}"
                ),
            ));
        }
    }
    Ok(reading.out)
}

struct Reading {
    kinds: HashMap<String, u32>,
    /// The number of each set of labels.
    known: HashMap<Labels, u32>,
    /// The next row of sums, by resolution.
    next: [u64; 2],
    out: RollupRows,
}

impl Reading {
    fn append(&mut self, batch: &RecordBatch) -> Result<(), BlockError> {
        let kinds = kinds_column(TABLE, batch, &self.kinds)?;
        let labels = labels_column(TABLE, batch, &mut SharedTexts::default())?;
        let bucket = values::<TimestampNanosecondType>(TABLE, batch, "bucket")?;
        let width = values::<UInt32Type>(TABLE, batch, "width_s")?;
        let period = values::<Int64Type>(TABLE, batch, "period")?;
        let profiles = values::<UInt32Type>(TABLE, batch, "profiles")?;
        let total = values::<Int64Type>(TABLE, batch, "total")?;
        let n_samples: &UInt32Array = column(TABLE, batch, "n_samples")?;
        for (at, labels) in labels.into_iter().enumerate() {
            let resolution = Resolution::of_seconds(width[at])
                .filter(|resolution| resolution.bucket_of(bucket[at]) == bucket[at])
                .ok_or_else(|| {
                    let what = format!("a bucket of {} s at {} ns", width[at], bucket[at]);
                    BlockError::damaged(TABLE, what)
                })?;
            let written = n_samples.is_valid(at);
            let n = if written { n_samples.value(at) } else { 0 };
            let next = &mut self.next[resolution.index()];
            let number = self.known.len() as u32;
            let series = *self.known.entry(labels).or_insert_with_key(|labels| {
                self.out.labels.push(labels.clone());
                number
            });
            self.out.rows.push(ProfileRow {
                kind: kinds[at],
                series,
                time_ns: bucket[at],
                period: period[at],
                total: total[at],
                samples_start: *next,
                n_samples: n,
                ..ProfileRow::default()
            });
            *next = next.saturating_add(u64::from(n));
            self.out.resolution.push(resolution);
            self.out.profiles.push(profiles[at]);
            self.out.written.push(written);
        }
        Ok(())
    }
}
