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
use scoria_query::request::{LabelValues, ProfileTypes};

use super::App;
use super::fault::Fault;
use super::query::fault_of;
use super::url_parameters::UrlParameters;

/// How far the answer looks back when no `from` is given.
const LOOKBACK_MS: i64 = 3_600_000;

pub(super) async fn label_values(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match answer(&app, &parts).await {
        Ok(values) => Json(values).into_response(),
        Err(fault) => fault.into_response(),
    }
}

async fn answer(app: &App, request: &Parts) -> Result<Vec<String>, Fault> {
    let tenants = app.scope(&request.extensions)?.tenants();
    let roles = app.roles()?;
    let now = roles.clock.now();
    let given = UrlParameters::of(request.uri.query().unwrap_or_default());
    let label = given.required("label")?;
    let end_ms = given.time_ms("until", now.millis());
    let start_ms = match given.first("from") {
        "" => end_ms.saturating_sub(LOOKBACK_MS),
        _ => given.time_ms("from", now.millis()),
    };
    if label == names::NAME {
        let request = ProfileTypes { start_ms, end_ms };
        let types = roles.querier.profile_types(tenants, &request, now).await;
        let types = types.map_err(|error| fault_of(&error))?.value;
        return Ok(types.iter().map(ToString::to_string).collect());
    }
    let request = LabelValues {
        name: label.to_owned(),
        matchers: given.all("query"),
        start_ms,
        end_ms,
    };
    let values = roles.querier.label_values(tenants, &request, now).await;
    Ok(values.map_err(|error| fault_of(&error))?.value)
}
