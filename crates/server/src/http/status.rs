//! What the server says about itself: readiness, metrics, build and configuration.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::App;
use crate::config::Config;

pub(super) const TEXT: [(http::HeaderName, &str); 1] =
    [(CONTENT_TYPE, "text/plain; charset=utf-8")];

/// 200 `ready`, or 503 with a line for everything that is red; then a line for each warning.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let red = app.readiness.red();
    let notes = app.readiness.notes();
    let notes = notes.iter().map(|note| format!("warning: {note}\n"));
    if red.is_empty() {
        let text: String = std::iter::once("ready\n".to_owned()).chain(notes).collect();
        return (TEXT, text).into_response();
    }
    let lines: String = red
        .iter()
        .map(|line| format!("{line}\n"))
        .chain(notes)
        .collect();
    (
        StatusCode::SERVICE_UNAVAILABLE,
        TEXT,
        format!("not ready\n{lines}"),
    )
        .into_response()
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut text = String::new();
    let Some(registry) = app.registry.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n").into_response();
    };
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => {
            let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, format)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()).into_response(),
    }
}

pub(super) async fn buildinfo() -> Json<Value> {
    let data = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": option_env!("SCORIA_BUILD_REVISION").unwrap_or_default(),
        "branch": option_env!("SCORIA_BUILD_BRANCH").unwrap_or_default(),
        "buildUser": "",
        "buildDate": option_env!("SCORIA_BUILD_DATE").unwrap_or_default(),
        "goVersion": "",
    });
    Json(json!({"status": "success", "data": data}))
}

/// What is set otherwise than by default.
pub(super) async fn config_diff(State(app): State<Arc<App>>) -> Response {
    (TEXT, app.config.dump_changes()).into_response()
}

pub(super) async fn config_default() -> Response {
    (TEXT, Config::default().dump()).into_response()
}

/// A line for every part of the process that can be red, and how it is.
pub(super) async fn services(State(app): State<Arc<App>>) -> Response {
    let lines = app.readiness.states().into_iter().map(|(name, red)| {
        let state = red.map_or_else(|| "Running".to_owned(), |why| format!("Failed: {why}"));
        format!("{name} => {state}\n")
    });
    (TEXT, lines.collect::<String>()).into_response()
}

/// The members that share the work of ingesting, by their share of the ring.
pub(super) async fn ring(State(app): State<Arc<App>>) -> Response {
    let view = match app.roles() {
        Ok(roles) => roles.membership.view(),
        Err(fault) => return fault.into_response(),
    };
    let members: Vec<Value> = view
        .members()
        .iter()
        .map(|member| {
            json!({
                "id": &*member.node.0,
                "zone": &*member.zone.0,
                "state": format!("{:?}", member.state).to_uppercase(),
            })
        })
        .collect();
    Json(json!({"version": view.version(), "shards": members})).into_response()
}

pub(super) async fn config(State(app): State<Arc<App>>) -> Response {
    (TEXT, app.config.dump()).into_response()
}
