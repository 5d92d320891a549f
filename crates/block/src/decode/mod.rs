//! From fetched pages to rows: series, profiles, symbols and samples of one dataset.
//!
//! Everything that a row points at is checked here, once, so that what comes out can be walked
//! without further checks.

mod columns;
mod placed;
mod profiles;
mod rollups;
mod samples;
mod series;
mod symbols;

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::{BlockError, Columns, DatasetMeta, Fetched, OpenTable, Table};

pub use placed::{RowsOfKind, decode_placed_profiles, rows_of_kinds};
pub use profiles::{decode_profiles, decode_written_profiles};
pub use rollups::decode_rollups;
pub(crate) use samples::sample_columns;
pub use samples::{RunPiece, SampleRead, SampleRun, decode_samples};
pub use series::decode_series;
pub(crate) use symbols::decode_counted_symbols;
pub use symbols::{DatasetSymbols, decode_symbols};

/// What has been fetched of the tables of one block.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    tables: [Option<(Arc<OpenTable>, Fetched)>; Table::COUNT],
}

impl Sources {
    /// Adds a table, in place of what was there of it.
    pub fn insert(&mut self, open: Arc<OpenTable>, fetched: Fetched) {
        let at = open.table().index();
        self.tables[at] = Some((open, fetched));
    }

    pub fn get(&self, table: Table) -> Option<(&Arc<OpenTable>, &Fetched)> {
        let (open, fetched) = self.tables[table.index()].as_ref()?;
        Some((open, fetched))
    }

    /// Decodes the dataset's rows of a table.
    fn read(
        &self,
        table: Table,
        dataset: &DatasetMeta,
        visit: &mut dyn FnMut(&RecordBatch) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        self.read_columns((table, Columns::Plain), dataset, visit)
    }

    fn read_columns(
        &self,
        (table, columns): (Table, Columns),
        dataset: &DatasetMeta,
        visit: &mut dyn FnMut(&RecordBatch) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let rows = dataset.rows(table);
        if rows.is_empty() {
            return Ok(());
        }
        let (open, fetched) = self.get(table).ok_or(BlockError::NotFetched {
            table,
            start: 0,
            end: 0,
        })?;
        open.read((&[rows], columns), fetched, &mut |batch| visit(&batch))
    }
}

/// The number of rows, as a length to reserve; the rows themselves are checked to be in the table.
fn reserve(dataset: &DatasetMeta, table: Table) -> usize {
    let rows = dataset.rows(table);
    usize::try_from(rows.end.saturating_sub(rows.start)).unwrap_or(usize::MAX)
}
