//! A block: some hours of profiles of some datasets as a handful of ordinary Parquet files.

mod dataset_rows;
mod error;
mod kind_text;
mod layout;
mod meta;
mod pages;
mod rank;
mod rows;
mod sample_writer;
mod table;
mod table_writer;
mod writer;

pub use error::BlockError;
pub use meta::{BlockMeta, DatasetMeta, FORMAT_VERSION, StreamRange, TableMeta};
pub use rows::{ProfileRow, ProfileRows, SampleBatch};
pub use table::{Table, TableNameError};
pub use writer::{BlockSpec, BlockWriter, DatasetInput, EncodedBlock};
