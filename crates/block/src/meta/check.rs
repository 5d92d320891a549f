//! What must hold of a meta that came from outside, beyond being readable.

use super::{BlockMeta, DatasetMeta};
use crate::{BlockError, Table};

impl BlockMeta {
    /// Checks the invariants of the module page and that times, sizes and types agree.
    pub(super) fn check(&self) -> Result<(), BlockError> {
        let sorted = self.tables.is_sorted_by(|a, b| a.table < b.table);
        if !sorted {
            return Err(BlockError::meta("its tables are not in order"));
        }
        let sizes = self
            .tables
            .iter()
            .try_fold(0u64, |sum, table| sum.checked_add(table.bytes));
        if sizes != Some(self.bytes) {
            return Err(BlockError::meta(format!(
                "it claims {} bytes, its tables give {sizes:?}",
                self.bytes
            )));
        }
        for table in &self.tables {
            if table.rows == 0 || table.tail.len() as u64 > table.bytes {
                return Err(BlockError::meta(format!(
                    "table {} of {} bytes has {} rows and a tail of {} bytes",
                    table.table,
                    table.bytes,
                    table.rows,
                    table.tail.len()
                )));
            }
        }
        let ordered = |a: &DatasetMeta, b: &DatasetMeta| {
            (&a.tenant, a.service.as_ref()) < (&b.tenant, b.service.as_ref())
        };
        if !self.datasets.is_sorted_by(ordered) {
            return Err(BlockError::meta("its datasets are not in order"));
        }
        if let Some(scope) = &self.merge {
            let ordered = scope.slices.is_sorted_by(|(a, _), (b, _)| a < b);
            let inside = |d: &DatasetMeta| {
                let of_tenant = scope.slices.binary_search_by(|(t, _)| t.cmp(&d.tenant));
                of_tenant.is_ok_and(|at| scope.slices[at].1.contains(d.shard()))
            };
            if !ordered || !self.datasets.iter().all(inside) {
                return Err(BlockError::meta(format!(
                    "the scope of its merge is out of order or does not hold its datasets (part {})",
                    scope.part
                )));
            }
        }
        self.datasets
            .iter()
            .try_for_each(|dataset| self.check_dataset(dataset))?;
        Table::ALL
            .into_iter()
            .try_for_each(|table| self.check_rows(table))
    }

    fn check_dataset(&self, dataset: &DatasetMeta) -> Result<(), BlockError> {
        let name = || format!("dataset {}/{}", dataset.tenant, dataset.service);
        let inside = self.min_time <= dataset.min_time
            && dataset.min_time <= dataset.max_time
            && dataset.max_time <= self.max_time;
        if !inside {
            return Err(BlockError::meta(format!(
                "{} reaches from {} to {}, the block from {} to {}",
                name(),
                dataset.min_time,
                dataset.max_time,
                self.min_time,
                self.max_time
            )));
        }
        if dataset.kinds.is_empty() || !dataset.kinds.is_sorted_by(|a, b| a < b) {
            return Err(BlockError::meta(format!(
                "{} has no profile types or has them out of order",
                name()
            )));
        }
        let has_rollups = !dataset.rows(Table::Rollups).is_empty();
        let possible = dataset
            .rolled
            .iter()
            .all(|of| of.unrolled.iter().all(|&n| n <= of.samples));
        if dataset.rolled.len() != if has_rollups { dataset.kinds.len() } else { 0 } || !possible {
            return Err(BlockError::meta(format!(
                "{} has roll-ups of {:?} with {} profile types",
                name(),
                dataset.rolled,
                dataset.kinds.len()
            )));
        }
        let stacks = dataset.rows(Table::Stacks);
        if u64::from(dataset.n_stacks) > stacks.end.saturating_sub(stacks.start) {
            return Err(BlockError::meta(format!(
                "{} has {} distinct stacks in a tree of rows {stacks:?}",
                name(),
                dataset.n_stacks
            )));
        }
        Ok(())
    }

    /// The row ranges of the datasets must cover the table without gaps.
    fn check_rows(&self, table: Table) -> Result<(), BlockError> {
        let mut next = 0;
        for dataset in &self.datasets {
            let rows = dataset.rows(table);
            if rows.start != next || rows.end < rows.start {
                return Err(BlockError::meta(format!(
                    "dataset {}/{} has rows {rows:?} of table {table}, where {next} comes next",
                    dataset.tenant, dataset.service
                )));
            }
            next = rows.end;
        }
        let rows = self.table(table).map_or(0, |meta| meta.rows);
        if next == rows {
            return Ok(());
        }
        Err(BlockError::meta(format!(
            "its datasets have {next} rows of table {table}, the table has {rows}"
        )))
    }
}
