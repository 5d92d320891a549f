//! A block: some hours of profiles of some datasets (tenant, service), as one ordinary Parquet
//! file per table and a manifest. `docs/FORMATS.md` describes the files to those who read them
//! without us; this crate writes them, plans reads of parts of them, and decodes those.
//!
//! ```text
//! heads ──DatasetInput, merges ──MergeInput──► BlockWriter ──► EncodedBlock { tables, meta, manifest }
//!
//! BlockMeta ──OpenTable::new──► ranges(rows, columns) ──► (the store fetches) ──► Fetched
//!                                                                                   │
//! queries ◄── Labels, ProfileRows, Symbols, SampleBatch ◄── decode_* ◄── Sources ◄──┘
//! ```
//!
//! # Invariants
//! - Bytes of a block follow from its input rows and [`FORMAT_VERSION`] alone.
//! - In every table a dataset is one contiguous run of rows, and datasets sort by (tenant,
//!   service); a dataset's rows point only into rows of the same dataset.
//! - Within a dataset profiles sort by (type, series, time) and samples follow their profiles,
//!   sorted by stack rank; stacks stand in pre-order, strings, functions and locations sorted.
//! - A read touches the pages it planned and no others, and decodes a page only after comparing
//!   its checksum; the meta carries footers, page indexes and checksums, so that nothing has to be
//!   discovered and nothing unchecked is believed.
//! - Damage is a [`BlockError`] that names the table, never a wrong answer or a panic.
//!
//! # What it must not know
//! Object stores and their paths, caches, threads, who may see which tenant, what a query asks.

mod dataset_rows;
mod decode;
mod error;
mod fetched;
mod guard;
mod kind_text;
mod layout;
mod merge;
mod meta;
mod open;
mod pages;
mod rank;
mod rollup;
mod rows;
mod sample_writer;
mod symbol_columns;
mod table;
mod table_writer;
mod writer;

pub use decode::{
    DatasetSymbols, RowsOfKind, RunPiece, SampleRead, SampleRun, Sources, decode_placed_profiles,
    decode_profiles, decode_rollups, decode_samples, decode_series, decode_symbols,
    decode_written_profiles, rows_of_kinds,
};
pub use error::BlockError;
pub use fetched::Fetched;
pub use merge::{
    Keep, MergeError, MergeInput, MergeRules, Merged, Resends, merge_run, merged_id, merged_streams,
};
pub use meta::{BlockMeta, DatasetMeta, FORMAT_VERSION, MergeScope, StreamRange, TableMeta};
pub use open::{Columns, OpenTable};
pub use rollup::{ROLLUP_LABELS, Resolution, Rolled, RollupRows, check_rollups};
pub use rows::{ProfileRow, ProfileRows, SampleBatch, WriteKey};
pub use table::{Table, TableNameError};
pub use writer::{BlockSpec, BlockWriter, DatasetInput, EncodedBlock};
