//! `GET /pyroscope/render-diff`: two flame graphs of one profile type beside each other, in the
//! older API.
//!
//! # Invariants
//! - Both sides are of one profile type; there is no timeline.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use scoria_model::ProfileType;
use scoria_query::render::flamebearer::{Graph, json};
use scoria_query::request::{Diff, SelectMergeStacktraces};

use super::App;
use super::fault::Fault;
use super::query::{cost, fault_of, keep};
use super::render::kind_of;
use super::url_parameters::UrlParameters;

pub(super) async fn render_diff(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match answer(&app, &parts).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

/// The names of a side's parameters.
struct Side {
    query: &'static str,
    from: &'static str,
    until: &'static str,
}

const LEFT: Side = Side {
    query: "leftQuery",
    from: "leftFrom",
    until: "leftUntil",
};
const RIGHT: Side = Side {
    query: "rightQuery",
    from: "rightFrom",
    until: "rightUntil",
};

/// Reads both sides; the profile type that they share.
fn read(query: &str, now_ms: i64) -> Result<(ProfileType, Diff), Fault> {
    let given = UrlParameters::of(query);
    let side = |names: &Side| {
        let query = given.required(names.query)?;
        let kind = kind_of(query)?;
        let request = SelectMergeStacktraces {
            profile_type: kind.to_string(),
            label_selector: query.to_owned(),
            start_ms: given.time_ms(names.from, now_ms),
            end_ms: given.time_ms(names.until, now_ms),
            max_nodes: given.max_nodes(),
            ..SelectMergeStacktraces::default()
        };
        Ok::<_, Fault>((kind, request))
    };
    let ((kind, left), (other, right)) = (side(&LEFT)?, side(&RIGHT)?);
    if kind.to_string() != other.to_string() {
        return Err(Fault::invalid(format!(
            "leftQuery is of profile type {kind} and rightQuery of {other}; only profiles of one type can be compared"
        )));
    }
    let diff = Diff {
        left: Some(left),
        right: Some(right),
    };
    Ok((kind, diff))
}

async fn answer(app: &App, request: &Parts) -> Result<Response, Fault> {
    let scope = app.scope(&request.extensions)?;
    let roles = app.roles()?;
    let now = roles.clock.now();
    let query = request.uri.query().unwrap_or_default();
    let (kind, diff) = read(query, now.millis())?;
    let answer = roles
        .querier
        .in_mode(cost::mode_of(request)?)
        .diff(scope.tenants(), &diff, now)
        .await
        .map_err(|error| fault_of(&error))?;
    keep(&request.extensions, answer.holding);
    if let Some(plan) = cost::planned(&answer.stats) {
        return Ok(plan);
    }
    let body = json(Graph::Double(&answer.value), &kind, None);
    let kind = [(CONTENT_TYPE, "application/json")];
    Ok((cost::headers(&answer.stats), kind, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds%7B%7D";
    const MEMORY: &str = "memory:alloc_space:bytes:space:bytes%7B%7D";

    #[test]
    fn both_sides_are_needed_and_of_one_type() {
        let read = |query: String| read(&query, 1_000_000_000_000);
        let (kind, diff) = read(format!(
            "leftQuery={CPU}&leftFrom=now-2h&leftUntil=now-1h&rightQuery={CPU}&rightFrom=now-1h&maxNodes=9"
        ))
        .unwrap_or_else(|fault| panic!("{fault:?}"));
        assert_eq!(&*kind.sample_type, "cpu");
        let sides = [&diff.left, &diff.right].map(|side| side.clone().unwrap_or_default());
        let times = sides.each_ref().map(|side| (side.start_ms, side.end_ms));
        let hour = 3_600_000;
        let now = 1_000_000_000_000;
        assert_eq!(times, [(now - 2 * hour, now - hour), (now - hour, now)]);
        assert!(sides.iter().all(|side| side.max_nodes == Some(9)));
        for bad in [
            format!("leftQuery={CPU}"),
            format!("rightQuery={CPU}"),
            format!("leftQuery={CPU}&rightQuery={MEMORY}"),
            format!("leftQuery={CPU}&rightQuery=%7B%7D"),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
