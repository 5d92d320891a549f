//! Takes the roll-ups of one dataset, hour by hour, and puts them into the tables of a block.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::Int32Type;
use scoria_model::Labels;

use super::hour::{Added, Hour};
use super::{Resolution, Rolled};
use crate::dataset_rows::{kinds_array, labels_array};
use crate::layout;
use crate::sample_writer::{Sample, SampleWriter};
use crate::table_writer::{TableWriter, encode_error};
use crate::{BlockError, Table};

/// The tables of roll-ups, and the rows of one dataset on their way there.
pub(crate) struct RollupSink<'a> {
    /// Its number in the block.
    dataset: u32,
    index: &'a mut TableWriter,
    sums: &'a mut [SampleWriter; 2],
    /// The labels that the rows point to.
    labels: &'a [Labels],
    rows: Rows,
    rolled: Vec<Rolled>,
    /// Whether any sums were written.
    any: bool,
}

#[derive(Default)]
struct Rows {
    kind: Vec<i32>,
    labels: Vec<u32>,
    bucket: Vec<i64>,
    width_s: Vec<u32>,
    period: Vec<i64>,
    profiles: Vec<u32>,
    total: Vec<i64>,
    n_samples: Vec<Option<u32>>,
}

impl<'a> RollupSink<'a> {
    pub(crate) fn new(
        index: &'a mut TableWriter,
        sums: &'a mut [SampleWriter; 2],
        (dataset, labels, n_kinds): (u32, &'a [Labels], usize),
    ) -> Self {
        Self {
            dataset,
            index,
            sums,
            labels,
            rows: Rows::default(),
            rolled: vec![Rolled::default(); n_kinds],
            any: false,
        }
    }

    /// Takes an hour of the type at `kind`; types come in order and hours in order of time.
    pub(crate) fn add(&mut self, kind: usize, hour: &Hour) -> Result<(), BlockError> {
        let rolled = &mut self.rolled[kind];
        rolled.samples += hour.samples;
        for resolution in Resolution::ALL {
            let at = resolution.index();
            if hour.worth[at] {
                self.any = true;
            } else {
                rolled.unrolled[at] += hour.samples;
            }
        }
        for resolution in Resolution::ALL {
            let at = resolution.index();
            for (&(bucket, labels, period), added) in &hour.buckets[at] {
                let sums = hour.worth[at].then_some(added);
                self.push_sums(resolution, sums)?;
                self.rows.kind.push(kind as i32);
                self.rows.labels.push(labels);
                self.rows.bucket.push(bucket);
                self.rows.width_s.push(resolution.seconds());
                self.rows.period.push(period);
                self.rows.profiles.push(added.profiles);
                self.rows.total.push(added.total);
                self.rows
                    .n_samples
                    .push(sums.map(|added| added.sums.len() as u32));
            }
        }
        Ok(())
    }

    fn push_sums(
        &mut self,
        resolution: Resolution,
        added: Option<&Added>,
    ) -> Result<(), BlockError> {
        let Some(added) = added else {
            return Ok(());
        };
        let row = self.index.rows() + self.rows.kind.len() as u64;
        let row = u32::try_from(row)
            .map_err(|_| BlockError::meta("the block has too many buckets of roll-ups"))?;
        let writer = &mut self.sums[resolution.index()];
        let mut last = 0;
        for &(rank, value) in &added.sums {
            writer.push(Sample {
                rank_delta: rank - last,
                value,
                profile: row,
                span: 0,
                trace: [0; 16],
            });
            last = rank;
        }
        writer.encode_full()
    }

    /// Writes the rows of the dataset; how much of each type they stand for, or nothing if no sums
    /// were worth writing.
    pub(crate) fn finish(
        self,
        kinds: &[scoria_model::ProfileType],
    ) -> Result<Vec<Rolled>, BlockError> {
        if !self.any {
            return Ok(Vec::new());
        }
        let n = self.rows.kind.len();
        let rows = self.rows;
        let labels = rows.labels.iter().map(|&at| &self.labels[at as usize]);
        let labels = labels_array(Table::Rollups, labels)?;
        let texts = Arc::new(kinds_array(kinds));
        let types = DictionaryArray::<Int32Type>::try_new(Int32Array::from(rows.kind), texts)
            .map_err(|e| encode_error(Table::Rollups, &e))?;
        let bucket =
            TimestampNanosecondArray::from(rows.bucket).with_data_type(layout::time_data());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(vec![self.dataset; n])),
            Arc::new(types),
            Arc::new(labels),
            Arc::new(bucket),
            Arc::new(UInt32Array::from(rows.width_s)),
            Arc::new(Int64Array::from(rows.period)),
            Arc::new(UInt32Array::from(rows.profiles)),
            Arc::new(Int64Array::from(rows.total)),
            Arc::new(UInt32Array::from(rows.n_samples)),
        ];
        self.index.write(columns)?;
        Ok(self.rolled)
    }
}
