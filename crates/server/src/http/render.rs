//! `GET /pyroscope/render`: the older API of flame graphs, with a timeline beside them.
//!
//! # Invariants
//! - Parameters that mean nothing count as absent, as they do elsewhere; what is asked for by
//!   `query` is checked.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use scoria_model::labels::names;
use scoria_model::{ProfileType, TimeRange};
use scoria_querier::Merged;
use scoria_query::render::flamebearer::{Graph, Timelines, json};
use scoria_query::request::{Aggregation, ProfileFormat, SelectMergeStacktraces, SelectSeries};
use scoria_query::selector::Matchers;
use scoria_query::timeline::step_s;

use super::App;
use super::fault::Fault;
use super::query::{cost, fault_of, keep};
use super::url_parameters::UrlParameters;

pub(super) async fn render(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match answer(&app, &parts).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

/// The parameters, each as it was first given.
struct Parameters {
    kind: ProfileType,
    query: String,
    from_ms: i64,
    until_ms: i64,
    format: ProfileFormat,
    max_nodes: Option<i64>,
    group_by: Vec<String>,
    aggregation: Aggregation,
}

impl Parameters {
    fn read(query: &str, now_ms: i64) -> Result<Self, Fault> {
        let given = UrlParameters::of(query);
        let selector = given.required("query")?;
        Ok(Self {
            kind: kind_of(selector)?,
            query: selector.to_owned(),
            from_ms: given.time_ms("from", now_ms),
            until_ms: given.time_ms("until", now_ms),
            format: match given.first("format") {
                "dot" => ProfileFormat::Dot,
                _ => ProfileFormat::Flamegraph,
            },
            max_nodes: given.max_nodes(),
            group_by: given.all("groupBy"),
            aggregation: match given.first("aggregation") {
                "avg" => Aggregation::Average,
                _ => Aggregation::Sum,
            },
        })
    }
}

/// The profile type that a query names in front of its braces, or as `__name__` inside them.
pub(super) fn kind_of(query: &str) -> Result<ProfileType, Fault> {
    let matchers = Matchers::parse(query).map_err(|error| Fault::invalid(error.to_string()))?;
    let id = matchers
        .equal_to(names::PROFILE_TYPE)
        .or_else(|| matchers.equal_to(names::NAME))
        .ok_or_else(|| {
            Fault::invalid(format!(
                "query {query:?} names no profile type; write type{{matchers}} with a type such as process_cpu:cpu:nanoseconds:cpu:nanoseconds"
            ))
        })?;
    id.parse()
        .map_err(|error: scoria_model::profile_type::ProfileTypeError| {
            Fault::invalid(error.to_string())
        })
}

async fn answer(app: &App, request: &Parts) -> Result<Response, Fault> {
    let scope = app.scope(&request.extensions)?;
    let roles = app.roles()?;
    let now = roles.clock.now();
    let query = request.uri.query().unwrap_or_default();
    let parameters = Parameters::read(query, now.millis())?;
    let step_s = step_s(parameters.from_ms, parameters.until_ms);
    let stacks = SelectMergeStacktraces {
        profile_type: parameters.kind.to_string(),
        label_selector: parameters.query.clone(),
        start_ms: parameters.from_ms,
        end_ms: parameters.until_ms,
        max_nodes: parameters.max_nodes,
        format: parameters.format,
        ..SelectMergeStacktraces::default()
    };
    let points = SelectSeries {
        profile_type: stacks.profile_type.clone(),
        label_selector: parameters.query.clone(),
        start_ms: parameters.from_ms,
        end_ms: parameters.until_ms,
        group_by: parameters.group_by.clone(),
        step_s: step_s as f64,
        aggregation: parameters.aggregation,
        ..SelectSeries::default()
    };
    let tenants = scope.tenants();
    let querier = roles.querier.in_mode(cost::mode_of(request)?);
    let (stacks, points) = tokio::try_join!(
        querier.select_merge_stacktraces(tenants, &stacks, now),
        querier.select_series(tenants, &points, now),
    )
    .map_err(|error| fault_of(&error))?;
    keep(&request.extensions, stacks.holding);
    keep(&request.extensions, points.holding);
    let mut stats = stacks.stats;
    stats.merge(&points.stats);
    if let Some(plan) = cost::planned(&stats) {
        return Ok(plan);
    }
    let headers = cost::headers(&stats);
    match stacks.value {
        Merged::Dot(dot) => {
            let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
            Ok((headers, kind, dot).into_response())
        }
        Merged::Flamegraph(graph) => {
            let range = TimeRange {
                start_ms: parameters.from_ms,
                end_ms: parameters.until_ms,
            };
            let timelines = Timelines::of(&points.value, &parameters.group_by, range, step_s);
            let body = json(Graph::Single(&graph), &parameters.kind, Some(&timelines));
            Ok((headers, [(CONTENT_TYPE, "application/json")], body).into_response())
        }
        Merged::Tree(_) | Merged::Pprof(_) | Merged::Functions(_) => Err(Fault::new(
            connectrpc::ErrorCode::Internal,
            "the flame graph came in another form",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn read(query: &str) -> Result<Parameters, u16> {
        Parameters::read(query, NOW).map_err(|fault| fault.status().as_u16())
    }

    #[test]
    fn what_means_nothing_counts_as_absent() {
        let kind = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
        let plain = read(&format!(
            "query={kind}%7Ba%3D%22b%22%7D&from=now-1h&max-nodes=invalid&aggregation=odd&format=x"
        ))
        .unwrap_or_else(|status| panic!("{status}"));
        assert_eq!(plain.kind.to_string(), kind);
        assert_eq!((plain.from_ms, plain.until_ms), (NOW - 3_600_000, NOW));
        assert_eq!(
            (plain.max_nodes, plain.format),
            (None, ProfileFormat::Flamegraph)
        );
        let named = read(&format!(
            "query=%7B__name__%3D%22{kind}%22%7D&max-nodes=5&maxNodes=7&groupBy=a&groupBy=b"
        ))
        .unwrap_or_else(|status| panic!("{status}"));
        assert_eq!(named.kind.to_string(), kind);
        assert_eq!(named.max_nodes, Some(7));
        assert_eq!(named.group_by, ["a", "b"]);
        for bad in [
            "",
            "query=",
            "query=%7B%7D",
            "query=cpu%7B%7D",
            "query=%7Ba%3D",
        ] {
            assert_eq!(read(bad).err(), Some(400), "{bad}");
        }
    }
}
