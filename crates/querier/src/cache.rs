//! What queries keep decoded: footers, profile rows and symbols of datasets.
//!
//! Blocks never change, so nothing in here gets old; each cache holds at most its bytes.

use std::sync::Arc;

use scoria_block::{DatasetSymbols, OpenTable, ProfileRows, Table};
use scoria_model::{BlockId, Labels};
use scoria_query::functions::FunctionTree;

/// A dataset by its block and its place in it.
pub(crate) type DatasetKey = (BlockId, usize);

/// Series and profiles of a dataset.
#[derive(Debug)]
pub(crate) struct DatasetIndex {
    pub(crate) series: Vec<Labels>,
    pub(crate) rows: ProfileRows,
}

impl DatasetIndex {
    fn bytes(&self) -> u64 {
        /// All columns of a profile row.
        const ROW: usize = 68;
        let labels: usize = self
            .series
            .iter()
            .flat_map(Labels::iter)
            .map(|label| 64 + label.name.len() + label.value.len())
            .sum();
        (labels + 32 * self.series.len() + ROW * self.rows.len()) as u64
    }
}

/// Symbols of a dataset and what follows from them.
#[derive(Debug)]
pub(crate) struct SymbolIndex {
    pub(crate) decoded: DatasetSymbols,
    pub(crate) functions: FunctionTree,
}

impl SymbolIndex {
    fn bytes(&self) -> u64 {
        self.decoded.symbols.bytes()
            + 4 * self.decoded.nodes.capacity() as u64
            + self.functions.bytes()
    }
}

/// All caches of a querier.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) tables: moka::sync::Cache<(BlockId, Table), Arc<OpenTable>>,
    pub(crate) indexes: moka::sync::Cache<DatasetKey, Arc<DatasetIndex>>,
    pub(crate) symbols: moka::sync::Cache<DatasetKey, Arc<SymbolIndex>>,
}

impl Caches {
    /// Divides `bytes`: half for symbols, a quarter each for profile rows and for footers.
    pub(crate) fn new(bytes: u64) -> Self {
        let weight = |bytes: u64| u32::try_from(bytes + 128).unwrap_or(u32::MAX);
        Self {
            tables: moka::sync::Cache::builder()
                .max_capacity(bytes / 4)
                .weigher(move |_, table: &Arc<OpenTable>| weight(table.memory_bytes()))
                .build(),
            indexes: moka::sync::Cache::builder()
                .max_capacity(bytes / 4)
                .weigher(move |_, index: &Arc<DatasetIndex>| weight(index.bytes()))
                .build(),
            symbols: moka::sync::Cache::builder()
                .max_capacity(bytes / 2)
                .weigher(move |_, symbols: &Arc<SymbolIndex>| weight(symbols.bytes()))
                .build(),
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.tables.weighted_size() + self.indexes.weighted_size() + self.symbols.weighted_size()
    }
}
