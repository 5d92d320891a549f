//! The messages of `querier.v1` as the query crate's requests.
//!
//! # What it must not know
//! What a valid request is: everything is passed on as it came, and checked where it is understood.

use buffa::EnumValue;
use scoria_proto::public::querier::v1 as wire;
use scoria_proto::public::types::v1 as types;
use scoria_query::request::{
    Aggregation, AnalyzeQuery, Callees, Diff, FunctionsDiff, GoPgo, LabelNames, LabelValues,
    NameForm, ProfileFormat, ProfileTypes, SelectHeatmap, SelectMergeStacktraces, SelectSeries,
    Series,
};
use scoria_query::scan::{Exemplars, HeatmapOf};

pub(super) fn profile_types(request: &wire::ProfileTypesRequest) -> ProfileTypes {
    ProfileTypes {
        start_ms: request.start,
        end_ms: request.end,
    }
}

pub(super) fn label_names(request: types::LabelNamesRequest, names: NameForm) -> LabelNames {
    LabelNames {
        matchers: request.matchers,
        start_ms: request.start,
        end_ms: request.end,
        names,
    }
}

pub(super) fn label_values(request: types::LabelValuesRequest) -> LabelValues {
    LabelValues {
        name: request.name,
        matchers: request.matchers,
        start_ms: request.start,
        end_ms: request.end,
    }
}

pub(super) fn series(request: wire::SeriesRequest, names: NameForm) -> Series {
    Series {
        matchers: request.matchers,
        label_names: request.label_names,
        start_ms: request.start,
        end_ms: request.end,
        names,
    }
}

pub(super) fn stacktraces(request: wire::SelectMergeStacktracesRequest) -> SelectMergeStacktraces {
    let (call_site, go_pgo) = selector(request.stack_trace_selector.into_option());
    SelectMergeStacktraces {
        profile_type: request.profile_typeID,
        label_selector: request.label_selector,
        start_ms: request.start,
        end_ms: request.end,
        max_nodes: request.max_nodes,
        format: format(request.format),
        call_site,
        go_pgo,
        profile_ids: request.profile_id_selector,
        trace_ids: request.trace_id_selector,
        span_ids: request.span_selector,
    }
}

/// What a request says about the background.
pub(super) enum Background {
    None,
    /// Answer later.
    Start,
    /// The answer that was to come later; nothing else in the request counts.
    Poll(String),
}

pub(super) fn background(request: &wire::SelectMergeStacktracesRequest) -> Background {
    let Some(asked) = request.r#async.as_option() else {
        return Background::None;
    };
    if !asked.request_id.is_empty() {
        return Background::Poll(asked.request_id.clone());
    }
    if asked.r#type == wire::AsyncQueryType::ASYNC_QUERY_TYPE_FORCE {
        Background::Start
    } else {
        Background::None
    }
}

/// A profile of spans comes as a tree where asked for, else as a flame graph.
pub(super) fn span_profile(request: wire::SelectMergeSpanProfileRequest) -> SelectMergeStacktraces {
    let format = match format(request.format) {
        ProfileFormat::Tree => ProfileFormat::Tree,
        _ => ProfileFormat::Flamegraph,
    };
    SelectMergeStacktraces {
        profile_type: request.profile_typeID,
        label_selector: request.label_selector,
        start_ms: request.start,
        end_ms: request.end,
        max_nodes: request.max_nodes,
        format,
        span_ids: request.span_selector,
        ..SelectMergeStacktraces::default()
    }
}

pub(super) fn profile(request: wire::SelectMergeProfileRequest) -> SelectMergeStacktraces {
    let (call_site, go_pgo) = selector(request.stack_trace_selector.into_option());
    SelectMergeStacktraces {
        profile_type: request.profile_typeID,
        label_selector: request.label_selector,
        start_ms: request.start,
        end_ms: request.end,
        max_nodes: request.max_nodes,
        format: ProfileFormat::Pprof,
        call_site,
        go_pgo,
        profile_ids: request.profile_id_selector,
        trace_ids: request.trace_id_selector,
        span_ids: Vec::new(),
    }
}

pub(super) fn select_series(request: wire::SelectSeriesRequest) -> SelectSeries {
    let (call_site, _) = selector(request.stack_trace_selector.into_option());
    let average = types::TimeSeriesAggregationType::TIME_SERIES_AGGREGATION_TYPE_AVERAGE;
    SelectSeries {
        profile_type: request.profile_typeID,
        label_selector: request.label_selector,
        start_ms: request.start,
        end_ms: request.end,
        group_by: request.group_by,
        step_s: request.step,
        aggregation: match request.aggregation {
            Some(aggregation) if aggregation == average => Aggregation::Average,
            _ => Aggregation::Sum,
        },
        call_site,
        limit: request.limit,
        exemplars: exemplars(request.exemplar_type),
    }
}

pub(super) fn select_heatmap(request: wire::SelectHeatmapRequest) -> SelectHeatmap {
    SelectHeatmap {
        profile_type: request.profile_typeID,
        label_selector: request.label_selector,
        start_ms: request.start,
        end_ms: request.end,
        step_s: request.step,
        group_by: request.group_by,
        of: match request.query_type.as_known() {
            Some(wire::HeatmapQueryType::HEATMAP_QUERY_TYPE_INDIVIDUAL) => {
                Some(HeatmapOf::Profiles)
            }
            Some(wire::HeatmapQueryType::HEATMAP_QUERY_TYPE_SPAN) => Some(HeatmapOf::Spans),
            _ => None,
        },
        exemplars: exemplars(request.exemplar_type),
        limit: request.limit,
    }
}

pub(super) fn analyze_query(request: wire::AnalyzeQueryRequest) -> AnalyzeQuery {
    AnalyzeQuery {
        query: request.query,
        start_ms: request.start,
        end_ms: request.end,
    }
}

pub(super) fn diff(request: wire::DiffRequest) -> Diff {
    Diff {
        left: request.left.into_option().map(stacktraces),
        right: request.right.into_option().map(stacktraces),
    }
}

pub(super) fn functions_diff(request: wire::DiffRequest) -> FunctionsDiff {
    FunctionsDiff {
        max_rows: request.max_nodes,
        sides: diff(request),
    }
}

fn exemplars(kind: EnumValue<types::ExemplarType>) -> Exemplars {
    match kind.as_known() {
        Some(types::ExemplarType::EXEMPLAR_TYPE_INDIVIDUAL) => Exemplars::Individual,
        Some(types::ExemplarType::EXEMPLAR_TYPE_SPAN) => Exemplars::Span,
        _ => Exemplars::None,
    }
}

fn format(format: EnumValue<wire::ProfileFormat>) -> ProfileFormat {
    match format.as_known() {
        Some(wire::ProfileFormat::PROFILE_FORMAT_TREE) => ProfileFormat::Tree,
        Some(wire::ProfileFormat::PROFILE_FORMAT_DOT) => ProfileFormat::Dot,
        Some(wire::ProfileFormat::PROFILE_FORMAT_PPROF) => ProfileFormat::Pprof,
        Some(wire::ProfileFormat::PROFILE_FORMAT_FUNCTIONS) => ProfileFormat::Functions,
        _ => ProfileFormat::Flamegraph,
    }
}

fn selector(selector: Option<types::StackTraceSelector>) -> (Vec<String>, Option<GoPgo>) {
    let Some(selector) = selector else {
        return (Vec::new(), None);
    };
    let call_site = selector.call_site.into_iter().map(|place| place.name);
    let go_pgo = selector.go_pgo.into_option().map(|pgo| GoPgo {
        keep_locations: pgo.keep_locations,
        callees: if pgo.aggregate_callees {
            Callees::Aggregated
        } else {
            Callees::Apart
        },
    });
    (call_site.collect(), go_pgo)
}
