//! What can be wrong with a request. All of it is the client's to mend.

use scoria_model::ids::ProfileIdError;
use scoria_model::profile_type::ProfileTypeError;

use crate::selector::SelectorError;

/// Why a request was refused; a client gets it as `invalid_argument`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error(
        "missing time range in the query: start is {start_ms} and end is {end_ms}; both are needed, in Unix milliseconds"
    )]
    MissingRange { start_ms: i64, end_ms: i64 },
    #[error("invalid time range in the query: start {start_ms} is after end {end_ms}")]
    StartAfterEnd { start_ms: i64, end_ms: i64 },
    #[error(
        "the query time range exceeds the limit max_query_length: it is {actual} long, allowed are {allowed}; shorten the range or have the limit raised"
    )]
    TooLong { actual: String, allowed: String },
    #[error(
        "max_nodes is {actual}, the limit max_flamegraph_nodes_max allows {allowed}; ask for fewer nodes"
    )]
    MaxNodes { actual: i64, allowed: u64 },
    #[error("max_nodes is {actual}; it must not be negative")]
    NegativeMaxNodes { actual: i64 },
    #[error("the label name is missing")]
    MissingLabelName,
    #[error("span_selector and trace_id_selector cannot be combined; give one of them")]
    SpansAndTraces,
    #[error("span id {text:?} is not 16 hexadecimal digits")]
    SpanId { text: String },
    #[error("trace id {text:?} is not 32 hexadecimal digits")]
    TraceId { text: String },
    #[error("step is {step_s} s; it must be at least 0.001 s")]
    Step { step_s: String },
    #[error("limit is {limit}; it must not be negative")]
    NegativeLimit { limit: i64 },
    #[error("invalid time range in the query: start {start_ms} is not before end {end_ms}")]
    EmptyRange { start_ms: i64, end_ms: i64 },
    #[error(
        "query_type is missing; ask for HEATMAP_QUERY_TYPE_INDIVIDUAL or HEATMAP_QUERY_TYPE_SPAN"
    )]
    HeatmapKind,
    #[error(
        "exemplar_type does not go with query_type; ask for exemplars of the same kind, or for EXEMPLAR_TYPE_NONE"
    )]
    HeatmapExemplars,
    #[error(
        "the left side is of profile type {left:?} and the right one of {right:?}; only functions of one type can be compared"
    )]
    TwoTypes { left: String, right: String },
    #[error("{name} has {actual} entries; the limit is {allowed}")]
    ListTooLong {
        name: &'static str,
        actual: usize,
        allowed: usize,
    },
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    ProfileType(#[from] ProfileTypeError),
    #[error(transparent)]
    ProfileId(#[from] ProfileIdError),
}
