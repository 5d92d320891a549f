//! What can be wrong with symbols that come from outside.

use scoria_model::varint::VarintError;

/// Names the first thing that breaks an invariant of the crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SymbolsError {
    #[error("the {table} of a symbol delta: {source}")]
    Varint {
        table: &'static str,
        source: VarintError,
    },
    #[error("{table} {at}: {field} {value} is outside its table of {size}")]
    Index {
        table: &'static str,
        at: usize,
        field: &'static str,
        value: u64,
        size: usize,
    },
    #[error("string {at} is not UTF-8")]
    Utf8 { at: usize },
    #[error("{table} {at} repeats entry {first}")]
    Repeated {
        table: &'static str,
        at: usize,
        first: u32,
    },
    #[error("node {at} has the parent {parent}, which does not come before it")]
    Order { at: usize, parent: u32 },
    #[error("the first node is not a root: its parent and location must be absent")]
    Root,
    #[error("string 0 is {text:?}; it must be the empty string")]
    FirstString { text: String },
    #[error("column {column} has {actual} entries where the table has {expected}")]
    Length {
        column: &'static str,
        actual: usize,
        expected: usize,
    },
    #[error("{column}: the ends fall or do not reach the last entry")]
    Ends { column: &'static str },
    #[error("the {table} table would grow to {size} entries; ids reach to {limit}")]
    Full {
        table: &'static str,
        size: u64,
        limit: u32,
    },
}
