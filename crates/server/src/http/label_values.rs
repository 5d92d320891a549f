//! `GET /pyroscope/label-values`: the values of one label as a plain JSON array, in the older API.
//!
//! # Invariants
//! - `label=__name__` asks for profile types, as older Grafana does.
//! - Without a range it is the last hour's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use scoria_model::labels::names;
use scoria_querier::Answer;
use scoria_query::request::{LabelValues, ProfileTypes};

use super::App;
use super::fault::Fault;
use super::query::{cost, fault_of, keep};
use super::url_parameters::UrlParameters;

/// How far the answer looks back when no `from` is given.
const LOOKBACK_MS: i64 = 3_600_000;

pub(super) async fn label_values(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match answer(&app, &parts).await {
        Ok(answer) => {
            keep(&parts.extensions, answer.holding);
            let stats = answer.stats;
            cost::planned(&stats)
                .unwrap_or_else(|| (cost::headers(&stats), Json(answer.value)).into_response())
        }
        Err(fault) => fault.into_response(),
    }
}

async fn answer(app: &App, request: &Parts) -> Result<Answer<Vec<String>>, Fault> {
    let tenants = app.scope(&request.extensions)?.tenants();
    let roles = app.roles()?;
    let querier = roles.querier.in_mode(cost::mode_of(request)?);
    let now = roles.clock.now();
    let given = UrlParameters::of(request.uri.query().unwrap_or_default());
    let label = given.required("label")?;
    let (start_ms, end_ms) = given.range_ms(now.millis(), LOOKBACK_MS);
    if label == names::NAME {
        let request = ProfileTypes { start_ms, end_ms };
        let types = querier.profile_types(tenants, &request, now).await;
        let types = types.map_err(|error| fault_of(&error))?;
        return Ok(types.map(|types| types.iter().map(ToString::to_string).collect()));
    }
    let request = LabelValues {
        name: label.to_owned(),
        matchers: given.all("query"),
        start_ms,
        end_ms,
    };
    let values = querier.label_values(tenants, &request, now).await;
    values.map_err(|error| fault_of(&error))
}
