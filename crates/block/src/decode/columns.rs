//! Columns of a decoded batch by name and type.

use arrow::array::{Array, ArrowPrimitiveType, PrimitiveArray, RecordBatch};

use crate::{BlockError, Table};

/// The column `name`, which the schema of the table has with this type.
pub(super) fn column<'a, A: Array + 'static>(
    table: Table,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a A, BlockError> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_any().downcast_ref())
        .ok_or_else(|| missing(table, name))
}

pub(super) fn missing(table: Table, name: &str) -> BlockError {
    BlockError::damaged(
        table,
        format!("column {name} is missing or of another type"),
    )
}

/// Values of a column without nulls.
pub(super) fn values<'a, T: ArrowPrimitiveType>(
    table: Table,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a [T::Native], BlockError> {
    Ok(column::<PrimitiveArray<T>>(table, batch, name)?.values())
}
