//! What the querier answers, as the messages of `querier.v1`.

use buffa::{Message, MessageField};
use bytes::Bytes;
use connectrpc::PreEncoded;
use scoria_model::varint::put_u64;
use scoria_model::{Label, Labels, ProfileType};
use scoria_proto::public::google::v1::Profile;
use scoria_proto::public::querier::v1 as wire;
use scoria_proto::public::types::v1 as types;
use scoria_querier::{Answer, Merged, PlanCost, Progress};
use scoria_query::merge::{Exemplar, Subject};
use scoria_query::render::{
    Flamegraph, FlamegraphDiff, FunctionDiffRow, FunctionTable, FunctionTableDiff, HeatmapSeries,
    HeatmapSlot, SeriesPoints, TopRow, ValuePoint,
};

pub fn profile_type(kind: &ProfileType) -> types::ProfileType {
    types::ProfileType {
        ID: kind.to_string(),
        name: kind.name.as_ref().to_owned(),
        sample_type: kind.sample_type.as_ref().to_owned(),
        sample_unit: kind.sample_unit.as_ref().to_owned(),
        period_type: kind.period_type.as_ref().to_owned(),
        period_unit: kind.period_unit.as_ref().to_owned(),
    }
}

fn label(label: &Label) -> types::LabelPair {
    types::LabelPair {
        name: label.name.as_ref().to_owned(),
        value: label.value.as_ref().to_owned(),
    }
}

pub fn labels(set: &Labels) -> types::Labels {
    types::Labels {
        labels: set.iter().map(label).collect(),
    }
}

fn levels(levels: Vec<Vec<i64>>) -> Vec<wire::Level> {
    levels
        .into_iter()
        .map(|values| wire::Level { values })
        .collect()
}

pub fn flamegraph(graph: Flamegraph) -> wire::FlameGraph {
    wire::FlameGraph {
        names: graph.names,
        levels: levels(graph.levels),
        total: graph.total,
        max_self: graph.max_self,
    }
}

pub fn diff(graph: FlamegraphDiff) -> wire::DiffResponse {
    wire::DiffResponse {
        flamegraph: MessageField::some(wire::FlameGraphDiff {
            names: graph.names,
            levels: levels(graph.levels),
            total: graph.total,
            max_self: graph.max_self,
            leftTicks: graph.left_ticks,
            rightTicks: graph.right_ticks,
        }),
        ..wire::DiffResponse::default()
    }
}

fn functions(table: FunctionTable) -> wire::FunctionTable {
    let row = |row: TopRow| wire::FunctionRow {
        name: row.name,
        total: row.total,
        self_: row.own,
    };
    wire::FunctionTable {
        functions: table.rows.into_iter().map(row).collect(),
        total: table.total,
        total_functions: i64::try_from(table.n).unwrap_or(i64::MAX),
    }
}

pub fn functions_diff(table: FunctionTableDiff) -> wire::DiffResponse {
    let row = |row: FunctionDiffRow| wire::FunctionDiffRow {
        name: row.name,
        left_self: row.left.0,
        left_total: row.left.1,
        right_self: row.right.0,
        right_total: row.right.1,
    };
    wire::DiffResponse {
        functions: MessageField::some(wire::FunctionTableDiff {
            functions: table.rows.into_iter().map(row).collect(),
            left_total: table.left_total,
            right_total: table.right_total,
        }),
        ..wire::DiffResponse::default()
    }
}

pub fn series(points: SeriesPoints) -> types::Series {
    types::Series {
        labels: points.labels.iter().map(label).collect(),
        points: points.points.into_iter().map(point).collect(),
    }
}

fn point(point: ValuePoint) -> types::Point {
    types::Point {
        value: point.value,
        timestamp: point.timestamp_ms,
        annotations: sampled_note(point.n_stripped).into_iter().collect(),
        exemplars: point.exemplar.iter().map(exemplar).collect(),
    }
}

/// The note on a point in which profiles count that were sampled out.
fn sampled_note(n_stripped: u64) -> Option<types::ProfileAnnotation> {
    let body = format!(
        "{n_stripped} profiles in this point were sampled out: their totals count, their stack traces were not kept"
    );
    (n_stripped > 0).then(|| types::ProfileAnnotation {
        key: "pyroscope.ingest.sampled".to_owned(),
        value: serde_json::json!({ "body": body }).to_string(),
    })
}

fn exemplar(exemplar: &Exemplar) -> types::Exemplar {
    let mut message = types::Exemplar {
        timestamp: exemplar.time_ms,
        value: exemplar.value,
        labels: exemplar.labels.iter().map(label).collect(),
        ..types::Exemplar::default()
    };
    match exemplar.of {
        Subject::Profile(profile) => message.profile_id = profile.to_string(),
        Subject::Span { span, trace } => {
            // Its bytes in order, as the client wrote them.
            message.span_id = format!("{:016x}", u64::from_be_bytes(span.to_le_bytes()));
            let trace = u128::from_be_bytes(trace);
            if trace != 0 {
                message.trace_id = format!("{trace:032x}");
            }
        }
    }
    message
}

pub fn heatmap(series: HeatmapSeries) -> types::HeatmapSeries {
    let slot = |slot: HeatmapSlot| types::HeatmapSlot {
        timestamp: slot.timestamp_ms,
        y_min: slot.y_min,
        counts: slot.counts,
        exemplars: slot.exemplars.iter().map(exemplar).collect(),
    };
    types::HeatmapSeries {
        labels: series.labels.iter().map(label).collect(),
        slots: series.slots.into_iter().map(slot).collect(),
    }
}

/// The scopes are those that clients know: what lies in the store, and what is not there yet.
pub fn analysis(cost: &PlanCost) -> wire::AnalyzeQueryResponse {
    let stored = wire::QueryScope {
        component_type: "Long term storage".to_owned(),
        component_count: 1,
        block_count: cost.blocks,
        series_count: cost.series,
        profile_count: cost.profiles,
        sample_count: cost.samples,
        index_bytes: cost.index_bytes,
        profile_bytes: cost.sample_bytes,
        symbol_bytes: cost.symbol_bytes,
    };
    let recent = wire::QueryScope {
        component_type: "Short term storage".to_owned(),
        component_count: cost.ingesters,
        ..wire::QueryScope::default()
    };
    wire::AnalyzeQueryResponse {
        query_scopes: vec![stored, recent],
        query_impact: MessageField::some(wire::QueryImpact {
            total_bytes_in_time_range: cost.bytes(),
            total_queried_series: cost.series,
            deduplication_needed: false,
        }),
    }
}

pub fn stacktraces(merged: Merged) -> PreEncoded<wire::SelectMergeStacktracesResponse> {
    of_merged(wire::SelectMergeStacktracesResponse::default(), merged)
}

/// A profile of spans, which comes as a flame graph or a tree.
pub fn span_profile(merged: Merged) -> wire::SelectMergeSpanProfileResponse {
    let mut response = wire::SelectMergeSpanProfileResponse::default();
    match merged {
        Merged::Flamegraph(graph) => response.flamegraph = MessageField::some(flamegraph(graph)),
        Merged::Tree(tree) => response.tree = tree,
        Merged::Dot(_) | Merged::Pprof(_) | Merged::Functions(_) => {}
    }
    response
}

/// A profile as the message that it is written as already.
pub fn profile(merged: Merged) -> PreEncoded<Profile> {
    PreEncoded::from_bytes_unchecked(match merged {
        Merged::Pprof(pprof) => pprof,
        _ => Vec::new(),
    })
}

/// Where a query in the background stands, with its answer once there is one.
pub fn progress(
    id: String,
    progress: Progress<Answer<Merged>>,
) -> PreEncoded<wire::SelectMergeStacktracesResponse> {
    use wire::AsyncQueryStatus as Status;
    let (status, error_message, answer) = match progress {
        Progress::Running => (Status::ASYNC_QUERY_STATUS_IN_PROGRESS, String::new(), None),
        Progress::Answered(answer) => (
            Status::ASYNC_QUERY_STATUS_SUCCESS,
            String::new(),
            Some(answer.value),
        ),
        Progress::Failed(error) => (Status::ASYNC_QUERY_STATUS_FAILURE, error.to_string(), None),
    };
    let response = wire::SelectMergeStacktracesResponse {
        r#async: MessageField::some(wire::AsyncQueryResponse {
            request_id: id,
            status: status.into(),
            error_message,
        }),
        ..wire::SelectMergeStacktracesResponse::default()
    };
    match answer {
        Some(merged) => of_merged(response, merged),
        None => PreEncoded::from_message(&response),
    }
}

fn of_merged(
    mut response: wire::SelectMergeStacktracesResponse,
    merged: Merged,
) -> PreEncoded<wire::SelectMergeStacktracesResponse> {
    match merged {
        Merged::Flamegraph(graph) => response.flamegraph = MessageField::some(flamegraph(graph)),
        Merged::Tree(tree) => response.tree = tree,
        Merged::Dot(dot) => response.dot = dot,
        Merged::Pprof(pprof) => return stacktraces_pprof(&response, &pprof),
        Merged::Functions(table) => response.functions = MessageField::some(functions(table)),
    }
    PreEncoded::from_message(&response)
}

/// An answer with a profile, whose bytes are written already: field 5, and in it field 1.
fn stacktraces_pprof(
    response: &wire::SelectMergeStacktracesResponse,
    pprof: &[u8],
) -> PreEncoded<wire::SelectMergeStacktracesResponse> {
    let mut inner = Vec::with_capacity(pprof.len() + 16);
    put_message(&mut inner, 1, pprof);
    let mut outer = response.encode_to_vec();
    outer.reserve(inner.len() + 16);
    put_message(&mut outer, 5, &inner);
    PreEncoded::from_bytes_unchecked(Bytes::from(outer))
}

/// A length-delimited field.
fn put_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_u64(out, field << 3 | 2);
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use connectrpc::{CodecFormat, Encodable};

    use super::*;

    #[test]
    fn a_profile_stands_where_the_message_has_it() {
        let message = Profile {
            period: 7,
            string_table: vec![String::new()],
            ..Profile::default()
        };
        let answer = stacktraces(Merged::Pprof(message.encode_to_vec()));
        let bytes = answer.encode(CodecFormat::Proto).unwrap();
        let read = wire::SelectMergeStacktracesResponse::decode_from_slice(&bytes).unwrap();
        let pprof = read.pprof.into_option().unwrap();
        assert_eq!(pprof.profile.into_option().unwrap(), message);
        let json = answer.encode(CodecFormat::Json).unwrap();
        assert_eq!(
            &json[..],
            br#"{"pprof":{"profile":{"stringTable":[""],"period":"7"}}}"#
        );
    }
}
