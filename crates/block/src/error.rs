//! What can be wrong with a block, or with what is to become one.

use crate::Table;

/// Storage adds the path of the object; here the table is as far as a name goes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Bytes of a table contradict its checksums, its schema or other tables.
    #[error("table {table} is damaged: {what}")]
    Damaged { table: Table, what: String },
    /// A read needs bytes that were not planned, or planned and not fetched.
    #[error("table {table}: bytes {start}..{end} are needed but were not fetched")]
    NotFetched { table: Table, start: u64, end: u64 },
    /// Rows were asked for that the table does not have.
    #[error("table {table}: rows {start}..{end} are beyond its {rows} rows")]
    Rows {
        table: Table,
        start: u64,
        end: u64,
        rows: u64,
    },
    /// The manifest or the catalogue's form of it is damaged.
    #[error("block meta is damaged: {what}")]
    Meta { what: String },
    /// A block of a version that this program does not know.
    #[error(
        "block format version {version} is not supported; this program reads versions up to {supported}: upgrade it"
    )]
    Version { version: u64, supported: u32 },
    /// The rows handed to a writer contradict each other.
    #[error("dataset {tenant}/{service} cannot be written: {what}")]
    Input {
        tenant: String,
        service: String,
        what: String,
    },
    /// The Parquet encoder refused.
    #[error("table {table} cannot be encoded: {what}")]
    Encode { table: Table, what: String },
}

impl BlockError {
    /// A table that does not say what it should.
    pub fn damaged(table: Table, what: impl Into<String>) -> Self {
        Self::Damaged {
            table,
            what: what.into(),
        }
    }

    pub(crate) fn meta(what: impl Into<String>) -> Self {
        Self::Meta { what: what.into() }
    }
}
