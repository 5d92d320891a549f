//! `/api/v1/usage`: what a tenant has in the store and what it costs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use super::App;
use super::fault::Fault;

/// The caller's tenant alone (R1).
pub(super) async fn usage(State(app): State<Arc<App>>, request: Request) -> Response {
    match answer(&app, &request) {
        Ok(report) => report.into_response(),
        Err(fault) => fault.into_response(),
    }
}

fn answer(app: &App, request: &Request) -> Result<Json<serde_json::Value>, Fault> {
    let tenant = app.scope(request.extensions())?.single()?;
    let source = &app.roles()?.usage;
    let state = source.catalogue.state();
    let requests = source.requests.priced();
    let report = crate::usage::report(&state, Some(tenant), (&requests, &app.config.usage));
    Ok(Json(report))
}
