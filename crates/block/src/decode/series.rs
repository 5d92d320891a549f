//! Series of a dataset.

use arrow::array::{Array, MapArray, StringArray};
use scoria_model::Labels;

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
    sources.read(TABLE, dataset, &mut |batch| {
        series.reserve(batch.num_rows());
        let maps: &MapArray = column(TABLE, batch, "labels")?;
        let texts = |array: &dyn Array, name| {
            array
                .as_any()
                .downcast_ref::<StringArray>()
                .cloned()
                .ok_or_else(|| missing(TABLE, name))
        };
        let keys = texts(maps.keys(), "labels.key")?;
        let values = texts(maps.values(), "labels.value")?;
        for ends in maps.value_offsets().windows(2) {
            let pairs = ends[0] as usize..ends[1] as usize;
            series.push(Labels::from_pairs(
                pairs.map(|at| (keys.value(at), values.value(at))),
            ));
        }
        Ok(())
    })?;
    Ok(series)
}
