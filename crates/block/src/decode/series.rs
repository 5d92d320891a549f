//! Series of a dataset.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, MapArray, RecordBatch, StringArray};
use scoria_model::{Label, Labels};

use super::Sources;
use super::columns::{column, missing};
use crate::{BlockError, DatasetMeta, Table};

const TABLE: Table = Table::Series;

/// The labels of every series of the dataset; `series` of a profile row points here.
///
/// # Errors
/// The table was not fetched, or is damaged.
pub fn decode_series(sources: &Sources, dataset: &DatasetMeta) -> Result<Vec<Labels>, BlockError> {
    let mut series = Vec::new();
    let mut known = SharedTexts::default();
    sources.read(TABLE, dataset, &mut |batch| {
        series.extend(labels_column(TABLE, batch, &mut known)?);
        Ok(())
    })?;
    Ok(series)
}

/// The sets of labels of a batch.
pub(super) fn labels_column(
    table: Table,
    batch: &RecordBatch,
    known: &mut SharedTexts,
) -> Result<Vec<Labels>, BlockError> {
    let maps: &MapArray = column(table, batch, "labels")?;
    let texts = |array: &dyn Array, name| {
        array
            .as_any()
            .downcast_ref::<StringArray>()
            .cloned()
            .ok_or_else(|| missing(table, name))
    };
    let keys = texts(maps.keys(), "labels.key")?;
    let values = texts(maps.values(), "labels.value")?;
    let ends = maps.value_offsets().windows(2);
    let sets = ends.map(|ends| {
        let pairs = ends[0] as usize..ends[1] as usize;
        let labels = pairs.map(|at| Label {
            name: known.share(keys.value(at)),
            value: known.share(values.value(at)),
        });
        labels.collect()
    });
    Ok(sets.collect())
}

/// Texts that series have in common, each held once: names come with every series, and most values
/// with many.
#[derive(Default)]
pub(super) struct SharedTexts(HashSet<Arc<str>>);

impl SharedTexts {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = Arc::from(text);
        self.0.insert(Arc::clone(&shared));
        shared
    }
}
