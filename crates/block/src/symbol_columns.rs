//! Symbol tables of a dataset as Arrow columns, in the order of the table's schema.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, ListArray, StringArray, StructArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use scoria_symbols::{NONE, SymbolTables};

use crate::layout;
use crate::table_writer::encode_error;
use crate::{BlockError, Table};

/// How many levels to climb from the node before to reach a node's parent.
fn levels_up(parents: &[u32]) -> Vec<u32> {
    let mut depth = Vec::with_capacity(parents.len());
    let mut up = Vec::with_capacity(parents.len());
    for &parent in parents {
        match depth.get(parent as usize).zip(depth.last()) {
            Some((&above, &before)) => {
                up.push(before - above);
                depth.push(above + 1);
            }
            None => {
                up.push(0);
                depth.push(0u32);
            }
        }
    }
    up
}

/// The columns of [`Table::Stacks`].
pub(crate) fn stack_columns(tables: &SymbolTables, n_samples: &[u32]) -> Vec<ArrayRef> {
    vec![
        Arc::new(UInt32Array::from(levels_up(&tables.node_parent))),
        Arc::new(optional(&tables.node_location)),
        Arc::new(UInt32Array::from(n_samples.to_vec())),
    ]
}

/// [`NONE`] becomes null.
fn optional(column: &[u32]) -> UInt32Array {
    let nulls: NullBuffer = column
        .iter()
        .map(|&v| v != NONE)
        .collect::<Vec<bool>>()
        .into();
    UInt32Array::new(
        ScalarBuffer::from(column.to_vec()),
        Some(nulls).filter(|nulls| nulls.null_count() > 0),
    )
}

/// The columns of [`Table::Locations`].
pub(crate) fn location_columns(tables: &SymbolTables) -> Result<Vec<ArrayRef>, BlockError> {
    let functions: Vec<u32> = tables.lines.iter().map(|line| line.function).collect();
    let numbers = tables.lines.iter().map(|line| line.line);
    let lines = StructArray::try_new(
        layout::line_fields(),
        vec![
            Arc::new(optional(&functions)),
            Arc::new(Int64Array::from_iter_values(numbers)),
        ],
        None,
    );
    let mut last = 0;
    let lengths = OffsetBuffer::from_lengths(tables.location_lines_end.iter().map(|&end| {
        let n = end - last;
        last = end;
        n as usize
    }));
    let lines = lines
        .and_then(|lines| ListArray::try_new(layout::line_entry(), lengths, Arc::new(lines), None))
        .map_err(|e| encode_error(Table::Locations, &e))?;
    Ok(vec![
        Arc::new(optional(&tables.location_mapping)),
        Arc::new(UInt64Array::from(tables.location_address.clone())),
        Arc::new(lines),
    ])
}

/// The columns of [`Table::Functions`].
pub(crate) fn function_columns(tables: &SymbolTables) -> Vec<ArrayRef> {
    let rows = || tables.functions.iter();
    vec![
        Arc::new(UInt32Array::from_iter_values(rows().map(|f| f.name))),
        Arc::new(UInt32Array::from_iter_values(rows().map(|f| f.system_name))),
        Arc::new(UInt32Array::from_iter_values(rows().map(|f| f.filename))),
        Arc::new(Int64Array::from_iter_values(rows().map(|f| f.start_line))),
    ]
}

/// The columns of [`Table::Mappings`].
pub(crate) fn mapping_columns(tables: &SymbolTables) -> Vec<ArrayRef> {
    let rows = || tables.mappings.iter();
    vec![
        Arc::new(UInt64Array::from_iter_values(rows().map(|m| m.start))),
        Arc::new(UInt64Array::from_iter_values(rows().map(|m| m.limit))),
        Arc::new(UInt64Array::from_iter_values(rows().map(|m| m.offset))),
        Arc::new(UInt32Array::from_iter_values(rows().map(|m| m.filename))),
        Arc::new(UInt32Array::from_iter_values(rows().map(|m| m.build_id))),
        Arc::new(UInt32Array::from_iter_values(rows().map(|m| m.flags))),
    ]
}

/// The column of [`Table::Strings`].
pub(crate) fn string_columns(tables: &SymbolTables) -> Vec<ArrayRef> {
    let strings = &tables.strings;
    let texts = (0..strings.len() as u32).map(|at| String::from_utf8_lossy(strings.get(at)));
    vec![Arc::new(StringArray::from_iter_values(texts))]
}
