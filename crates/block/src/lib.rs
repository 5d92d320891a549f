//! A block: some hours of profiles of some datasets as a handful of ordinary Parquet files.

mod error;
mod meta;
mod rows;
mod table;

pub use error::BlockError;
pub use meta::{BlockMeta, DatasetMeta, FORMAT_VERSION, StreamRange, TableMeta};
pub use rows::{ProfileRow, ProfileRows, SampleBatch};
pub use table::{Table, TableNameError};
