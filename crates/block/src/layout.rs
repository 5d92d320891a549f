//! How each table looks as a Parquet file: column names and types, encodings, page sizes.
//!
//! This is the one place that knows it; `docs/FORMATS.md` says the same to readers of the files.
//! Encodings are those that measured smallest on real profiles (`docs/adr/0001-block-tables.md`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::{FORMAT_VERSION, Table};

/// Rows of a page of the sample tables: a page is the least that a read can fetch.
const SAMPLE_PAGE_ROWS: usize = 16 * 1024;
/// Rows of a page of all other tables.
const PAGE_ROWS: usize = 2 * 1024;
const ROW_GROUP_ROWS: usize = 1024 * 1024;
/// A read of one dataset fetches the dictionary of a row group that many datasets share.
const DICTIONARY_BYTES_MAX: usize = 64 * 1024;

/// Rows of a page of columns that queries rarely or never read, so that they need few pages;
/// [`WIDE_PAGE_BYTES`] keeps such a page small where its values differ.
const WIDE_PAGE_ROWS: usize = 128 * 1024;
const WIDE_PAGE_BYTES: usize = 64 * 1024;

pub(crate) const RANK_DELTA: &str = "stack_rank_delta";
pub(crate) const VALUE: &str = "value";
pub(crate) const PROFILE: &str = "profile";
/// What [`PROFILE`] is in a table of added-up samples.
pub(crate) const ROLLUP: &str = "rollup";
pub(crate) const SPAN_ID: &str = "span_id";
pub(crate) const TRACE_ID: &str = "trace_id";
pub(crate) const WRITE_KEY: &str = "write_key";
pub(crate) const ARRIVAL: &str = "arrival";

/// What a profile row is decoded from.
pub(crate) const DECODED_PROFILE_COLUMNS: &[&str] = KEYED_PROFILE_COLUMNS.split_at(N_DECODED).0;
/// How many columns the rest of [`KEYED_PROFILE_COLUMNS`] follows on.
const N_DECODED: usize = KEYED_PROFILE_COLUMNS.len() - 2;

/// What says of a profile row whose it is, of when, and where its samples lie.
pub(crate) const PLACED_PROFILE_COLUMNS: &[&str] =
    &["profile_type", "series", "time", "period", "n_samples"];

/// What a bucket of a roll-up is decoded from.
pub(crate) const DECODED_ROLLUP_COLUMNS: &[&str] = &[
    "profile_type",
    "labels",
    "bucket",
    "width_s",
    "period",
    "profiles",
    "total",
    "n_samples",
];

/// The same with the key of the write, where the table has it.
pub(crate) const KEYED_PROFILE_COLUMNS: &[&str] = &[
    "profile_type",
    "series",
    "time",
    "duration_ns",
    "period",
    "total",
    "n_samples",
    "stream",
    "seq",
    "place",
    WRITE_KEY,
    ARRIVAL,
];

/// How a column turns values into bytes before they are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnEncoding {
    Plain,
    Dictionary,
    Delta,
    ByteStreamSplit,
    DeltaByteArray,
}

impl ColumnEncoding {
    /// The candidates for sample values, tried on every block.
    pub(crate) const FOR_VALUES: [Self; 3] = [Self::Dictionary, Self::Plain, Self::ByteStreamSplit];

    fn apply(
        self,
        properties: WriterPropertiesBuilder,
        column: ColumnPath,
    ) -> WriterPropertiesBuilder {
        let encoding = match self {
            Self::Dictionary => return properties.set_column_dictionary_enabled(column, true),
            Self::Plain => Encoding::PLAIN,
            Self::Delta => Encoding::DELTA_BINARY_PACKED,
            Self::ByteStreamSplit => Encoding::BYTE_STREAM_SPLIT,
            Self::DeltaByteArray => Encoding::DELTA_BYTE_ARRAY,
        };
        properties.set_column_encoding(column, encoding)
    }
}

/// The columns that a table may lack: a sample table has ids only where samples name spans, the
/// profiles have the keys of their writes only as long as one may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OptionalColumns {
    pub(crate) span: bool,
    pub(crate) trace: bool,
    pub(crate) write: bool,
}

fn required(name: &str, data: DataType) -> Field {
    Field::new(name, data, false)
}

fn nullable(name: &str, data: DataType) -> Field {
    Field::new(name, data, true)
}

/// Profile types repeat for long runs: Arrow keeps them as numbers into a short list.
pub(crate) fn profile_type_data() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

pub(crate) fn time_data() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(Arc::from("UTC")))
}

pub(crate) fn label_fields() -> Fields {
    Fields::from(vec![
        required("key", DataType::Utf8),
        required("value", DataType::Utf8),
    ])
}

pub(crate) fn labels_entry() -> Arc<Field> {
    Arc::new(required("key_value", DataType::Struct(label_fields())))
}

pub(crate) fn line_fields() -> Fields {
    Fields::from(vec![
        nullable("function", DataType::UInt32),
        required("line", DataType::Int64),
    ])
}

pub(crate) fn line_entry() -> Arc<Field> {
    Arc::new(required("element", DataType::Struct(line_fields())))
}

/// The columns of the table of buckets.
fn bucket_fields() -> Vec<Field> {
    use DataType::{Int64, Map, UInt32};
    vec![
        required("dataset", UInt32),
        required("profile_type", profile_type_data()),
        required("labels", Map(labels_entry(), false)),
        required("bucket", time_data()),
        required("width_s", UInt32),
        required("period", Int64),
        required("profiles", UInt32),
        required("total", Int64),
        nullable("n_samples", UInt32),
    ]
}

/// The columns of a table of sums.
fn sum_fields() -> Vec<Field> {
    vec![
        required(RANK_DELTA, DataType::UInt32),
        required(VALUE, DataType::Int64),
        required(ROLLUP, DataType::UInt32),
    ]
}

/// The columns of a table.
pub(crate) fn schema(table: Table, optional: OptionalColumns) -> SchemaRef {
    use DataType::{FixedSizeBinary, Int64, List, Map, UInt32, UInt64, Utf8};
    let fields = match table {
        Table::Series => vec![
            required("dataset", UInt32),
            required("series", UInt32),
            required("labels", Map(labels_entry(), false)),
        ],
        Table::Profiles => {
            let mut fields = vec![
                required("dataset", UInt32),
                required("profile_type", profile_type_data()),
                required("series", UInt32),
                required("time", time_data()),
                required("duration_ns", Int64),
                required("period", Int64),
                required("total", Int64),
                required("n_samples", UInt32),
                required("stream", UInt32),
                required("seq", UInt64),
                required("place", UInt32),
            ];
            if optional.write {
                fields.push(required(WRITE_KEY, FixedSizeBinary(16)));
                fields.push(required(ARRIVAL, time_data()));
            }
            fields
        }
        Table::Samples | Table::Snapshots => {
            let mut fields = vec![
                required(RANK_DELTA, UInt32),
                required(VALUE, Int64),
                required(PROFILE, UInt32),
            ];
            fields.extend(optional.span.then(|| required(SPAN_ID, UInt64)));
            let trace = || required(TRACE_ID, FixedSizeBinary(16));
            fields.extend(optional.trace.then(trace));
            fields
        }
        Table::Rollups => bucket_fields(),
        Table::Rollup5m | Table::Rollup1h => sum_fields(),
        Table::Stacks => vec![
            required("up", UInt32),
            nullable("location", UInt32),
            required("n_samples", UInt32),
        ],
        Table::Locations => vec![
            nullable("mapping", UInt32),
            required("address", UInt64),
            required("lines", List(line_entry())),
        ],
        Table::Functions => vec![
            required("name", UInt32),
            required("system_name", UInt32),
            required("filename", UInt32),
            required("start_line", Int64),
        ],
        Table::Mappings => vec![
            required("start", UInt64),
            required("limit", UInt64),
            required("offset", UInt64),
            required("filename", UInt32),
            required("build_id", UInt32),
            required("flags", UInt32),
        ],
        Table::Strings => vec![required("string", Utf8)],
    };
    Arc::new(Schema::new(fields))
}

/// The encodings of columns that are neither plain nor dictionary-encoded.
fn encodings(table: Table) -> &'static [(&'static [&'static str], ColumnEncoding)] {
    use ColumnEncoding::{ByteStreamSplit, Delta, DeltaByteArray};
    match table {
        Table::Series => &[(&["series"], Delta)],
        Table::Profiles => &[
            (&["series"], Delta),
            (&["time"], ByteStreamSplit),
            (&["duration_ns"], ByteStreamSplit),
            (&["n_samples"], ByteStreamSplit),
            (&["seq"], Delta),
            (&["place"], Delta),
            (&[ARRIVAL], Delta),
        ],
        Table::Samples | Table::Snapshots => &[
            (&[RANK_DELTA], ByteStreamSplit),
            (&[PROFILE], ByteStreamSplit),
        ],
        Table::Rollups => &[(&["bucket"], Delta), (&["n_samples"], ByteStreamSplit)],
        Table::Rollup5m | Table::Rollup1h => &[
            (&[RANK_DELTA], ByteStreamSplit),
            (&[ROLLUP], ByteStreamSplit),
        ],
        Table::Stacks => &[
            (&["up"], ByteStreamSplit),
            (&["location"], ByteStreamSplit),
            (&["n_samples"], ByteStreamSplit),
        ],
        Table::Locations => &[
            (&["address"], Delta),
            (&["lines", "list", "element", "function"], Delta),
            (&["lines", "list", "element", "line"], Delta),
        ],
        Table::Functions => &[
            (&["name"], Delta),
            (&["system_name"], Delta),
            (&["start_line"], Delta),
        ],
        Table::Mappings => &[],
        Table::Strings => &[(&["string"], DeltaByteArray)],
    }
}

fn path(names: &[&str]) -> ColumnPath {
    ColumnPath::new(names.iter().map(|&name| name.to_owned()).collect())
}

/// How a table is written; `value` is the encoding of sample values.
pub(crate) fn properties(
    table: Table,
    value: ColumnEncoding,
) -> Result<WriterProperties, ParquetError> {
    let level = if table == Table::Strings { 9 } else { 3 };
    let page_rows = if table.has_samples() {
        SAMPLE_PAGE_ROWS
    } else {
        PAGE_ROWS
    };
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("scoria block {FORMAT_VERSION}"))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(false)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_data_page_row_count_limit(page_rows)
        .set_write_batch_size(page_rows.min(1024))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    let fixed = encodings(table);
    for &(names, encoding) in fixed {
        properties = encoding.apply(properties, path(names));
    }
    for column in dictionary_columns(table) {
        properties = ColumnEncoding::Dictionary.apply(properties, path(column));
    }
    if table.has_samples() {
        properties = value.apply(properties, path(&[VALUE]));
        for column in [PROFILE, ROLLUP, SPAN_ID, TRACE_ID] {
            properties = properties
                .set_column_data_page_row_count_limit(path(&[column]), WIDE_PAGE_ROWS)
                .set_column_data_page_size_limit(path(&[column]), WIDE_PAGE_BYTES);
        }
    }
    Ok(properties.build())
}

fn dictionary_columns(table: Table) -> &'static [&'static [&'static str]] {
    match table {
        Table::Series => &[
            &["dataset"],
            &["labels", "key_value", "key"],
            &["labels", "key_value", "value"],
        ],
        Table::Profiles => &[
            &["dataset"],
            &["profile_type"],
            &["period"],
            &["stream"],
            &[WRITE_KEY],
        ],
        Table::Samples | Table::Snapshots => &[&[SPAN_ID], &[TRACE_ID]],
        Table::Rollups => &[
            &["dataset"],
            &["profile_type"],
            &["labels", "key_value", "key"],
            &["labels", "key_value", "value"],
            &["width_s"],
            &["period"],
        ],
        Table::Stacks | Table::Mappings | Table::Strings | Table::Rollup5m | Table::Rollup1h => &[],
        Table::Locations => &[&["mapping"]],
        Table::Functions => &[&["filename"]],
    }
}
