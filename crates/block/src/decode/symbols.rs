//! Symbols of a dataset, and which stack each rank stands for.

use arrow::array::{Array, Int64Array, ListArray, StringArray, StructArray, UInt32Array};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use scoria_symbols::{Function, Line, Mapping, NONE, Strings, SymbolTables, Symbols};

use super::columns::{column, missing, values};
use super::{Sources, reserve};
use crate::rank::nodes_by_rank;
use crate::{BlockError, DatasetMeta, Table};

/// The symbols of a dataset and the way from samples to them.
#[derive(Debug, Clone)]
pub struct DatasetSymbols {
    pub symbols: Symbols,
    /// The node of each stack rank.
    pub nodes: Vec<u32>,
}

/// Reads the tables stacks, locations, functions, mappings and strings of the dataset.
///
/// # Errors
/// A table was not fetched or is damaged, or a row points outside the dataset's rows.
pub fn decode_symbols(
    sources: &Sources,
    dataset: &DatasetMeta,
) -> Result<DatasetSymbols, BlockError> {
    decode_counted_symbols(sources, dataset).map(|(symbols, _)| symbols)
}

/// The symbols, and how many samples each stack has, by rank.
pub(crate) fn decode_counted_symbols(
    sources: &Sources,
    dataset: &DatasetMeta,
) -> Result<(DatasetSymbols, Vec<u32>), BlockError> {
    let mut tables = SymbolTables {
        strings: Strings::default(),
        mappings: Vec::new(),
        functions: Vec::new(),
        location_mapping: Vec::new(),
        location_address: Vec::new(),
        location_lines_end: Vec::new(),
        lines: Vec::new(),
        node_parent: Vec::with_capacity(reserve(dataset, Table::Stacks).min(1 << 20)),
        node_location: Vec::new(),
    };
    read_strings(sources, dataset, &mut tables)?;
    read_mappings(sources, dataset, &mut tables)?;
    read_functions(sources, dataset, &mut tables)?;
    read_locations(sources, dataset, &mut tables)?;
    let n_samples = read_stacks(sources, dataset, &mut tables)?;
    let nodes = nodes_by_rank(&n_samples);
    if nodes.len() != dataset.n_stacks as usize {
        return Err(BlockError::damaged(
            Table::Stacks,
            format!(
                "{} stacks have samples where the dataset has {}",
                nodes.len(),
                dataset.n_stacks
            ),
        ));
    }
    let symbols = Symbols::from_tables(tables)
        .map_err(|e| BlockError::damaged(Table::Stacks, e.to_string()))?;
    let counts = nodes.iter().map(|&node| n_samples[node as usize]).collect();
    Ok((DatasetSymbols { symbols, nodes }, counts))
}

fn read_strings(
    sources: &Sources,
    dataset: &DatasetMeta,
    tables: &mut SymbolTables,
) -> Result<(), BlockError> {
    const TABLE: Table = Table::Strings;
    sources.read(TABLE, dataset, &mut |batch| {
        let texts: &StringArray = column(TABLE, batch, "string")?;
        for text in texts.iter().flatten() {
            tables.strings.bytes.extend_from_slice(text.as_bytes());
            let end = u32::try_from(tables.strings.bytes.len())
                .map_err(|_| BlockError::damaged(TABLE, "more than 4 GiB of text"))?;
            tables.strings.ends.push(end);
        }
        Ok(())
    })
}

fn read_mappings(
    sources: &Sources,
    dataset: &DatasetMeta,
    tables: &mut SymbolTables,
) -> Result<(), BlockError> {
    const TABLE: Table = Table::Mappings;
    sources.read(TABLE, dataset, &mut |batch| {
        let u64s = |name| values::<UInt64Type>(TABLE, batch, name);
        let u32s = |name| values::<UInt32Type>(TABLE, batch, name);
        let (start, limit, offset) = (u64s("start")?, u64s("limit")?, u64s("offset")?);
        let (filename, build_id, flags) = (u32s("filename")?, u32s("build_id")?, u32s("flags")?);
        tables
            .mappings
            .extend((0..batch.num_rows()).map(|at| Mapping {
                start: start[at],
                limit: limit[at],
                offset: offset[at],
                filename: filename[at],
                build_id: build_id[at],
                flags: flags[at],
            }));
        Ok(())
    })
}

fn read_functions(
    sources: &Sources,
    dataset: &DatasetMeta,
    tables: &mut SymbolTables,
) -> Result<(), BlockError> {
    const TABLE: Table = Table::Functions;
    sources.read(TABLE, dataset, &mut |batch| {
        let u32s = |name| values::<UInt32Type>(TABLE, batch, name);
        let (name, system_name, filename) =
            (u32s("name")?, u32s("system_name")?, u32s("filename")?);
        let start_line = values::<Int64Type>(TABLE, batch, "start_line")?;
        tables
            .functions
            .extend((0..batch.num_rows()).map(|at| Function {
                name: name[at],
                system_name: system_name[at],
                filename: filename[at],
                start_line: start_line[at],
            }));
        Ok(())
    })
}

fn read_locations(
    sources: &Sources,
    dataset: &DatasetMeta,
    tables: &mut SymbolTables,
) -> Result<(), BlockError> {
    const TABLE: Table = Table::Locations;
    sources.read(TABLE, dataset, &mut |batch| {
        let mapping: &UInt32Array = column(TABLE, batch, "mapping")?;
        tables
            .location_mapping
            .extend(mapping.iter().map(|id| id.unwrap_or(NONE)));
        tables
            .location_address
            .extend_from_slice(values::<UInt64Type>(TABLE, batch, "address")?);
        let lists: &ListArray = column(TABLE, batch, "lines")?;
        let lines: &StructArray = lists
            .values()
            .as_any()
            .downcast_ref()
            .ok_or_else(|| missing(TABLE, "lines"))?;
        let field = |name| {
            lines
                .column_by_name(name)
                .ok_or_else(|| missing(TABLE, "lines"))
        };
        let (function, number) = (field("function")?, field("line")?);
        let function: &UInt32Array = function
            .as_any()
            .downcast_ref()
            .ok_or_else(|| missing(TABLE, "lines.function"))?;
        let number: &Int64Array = number
            .as_any()
            .downcast_ref()
            .ok_or_else(|| missing(TABLE, "lines.line"))?;
        for ends in lists.value_offsets().windows(2) {
            for at in ends[0] as usize..ends[1] as usize {
                tables.lines.push(Line {
                    function: if function.is_null(at) {
                        NONE
                    } else {
                        function.value(at)
                    },
                    line: number.value(at),
                });
            }
            let end = u32::try_from(tables.lines.len())
                .map_err(|_| BlockError::damaged(TABLE, "more than 2^32 lines"))?;
            tables.location_lines_end.push(end);
        }
        Ok(())
    })
}

/// Puts the tree into `tables`; the samples of each node.
fn read_stacks(
    sources: &Sources,
    dataset: &DatasetMeta,
    tables: &mut SymbolTables,
) -> Result<Vec<u32>, BlockError> {
    const TABLE: Table = Table::Stacks;
    let mut n_samples = Vec::new();
    // The node before and its ancestors, the root first.
    let mut path: Vec<u32> = Vec::new();
    sources.read(TABLE, dataset, &mut |batch| {
        let location: &UInt32Array = column(TABLE, batch, "location")?;
        n_samples.extend_from_slice(values::<UInt32Type>(TABLE, batch, "n_samples")?);
        tables
            .node_location
            .extend(location.iter().map(|id| id.unwrap_or(NONE)));
        for &up in values::<UInt32Type>(TABLE, batch, "up")? {
            let node = tables.node_parent.len();
            let depth = path.len().checked_sub(up as usize);
            let parent = match depth {
                Some(0) if node == 0 => NONE,
                Some(depth) if depth > 0 => {
                    path.truncate(depth);
                    path[depth - 1]
                }
                _ => {
                    return Err(BlockError::damaged(
                        TABLE,
                        format!("node {node} climbs {up} levels from depth {}", path.len()),
                    ));
                }
            };
            let node = u32::try_from(node)
                .map_err(|_| BlockError::damaged(TABLE, "more than 2^32 nodes"))?;
            tables.node_parent.push(parent);
            path.push(node);
        }
        Ok(())
    })?;
    Ok(n_samples)
}
