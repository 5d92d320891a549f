//! What is in force for tenants: the runtime file's content for operators, a tenant's own limits,
//! and what became of its profiles that were not stored.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use form_urlencoded::parse;
use scoria_distributor::rejections::{Entry, Treatment};
use scoria_model::Timestamp;
use serde_json::{Value, json};

use super::App;
use super::fault::Fault;
use super::status::TEXT;
use crate::runtime_config::Shown;

/// Limits by tenant in YAML; with `mode=diff` only those that differ from the defaults.
pub(super) async fn runtime_config(State(app): State<Arc<App>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let shown = match parse(query).find(|(name, _)| name == "mode") {
        None => Shown::All,
        Some((_, mode)) if mode == "diff" => Shown::Differences,
        Some((_, mode)) => {
            let told = format!("mode is {mode:?}; the only one is diff");
            return Fault::invalid(told).into_response();
        }
    };
    let overrides = app.policies.runtime.overrides(shown);
    let yaml = serde_saphyr::to_string(&overrides);
    (TEXT, yaml.unwrap_or_else(|error| format!("# {error}\n"))).into_response()
}

/// How the runtime file fares.
pub(super) async fn status(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"status": "success", "data": app.policies.runtime.status()}))
}

/// The limits of the request's tenant: those that existing readers of this page look for by their
/// old names, and all of them by ours.
pub(super) async fn tenant_limits(State(app): State<Arc<App>>, request: Request) -> Response {
    let tenant = app.scope(request.extensions()).and_then(|s| s.single());
    let tenant = match tenant {
        Ok(tenant) => tenant,
        Err(fault) => return fault.into_response(),
    };
    let limits = app.policies.runtime.limits(tenant);
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Json(json!({
        "ingestion_rate": mebibytes(limits.ingestion_rate_bytes.0),
        "ingestion_burst_size": mebibytes(limits.ingestion_burst_bytes.0),
        "max_global_series_per_user": 0,
        "tenant": tenant.as_str(),
        "limits": limits.keys(),
    }))
    .into_response()
}

/// What became of the tenant's profiles that were not stored, or not whole: the latest first.
pub(super) async fn rejections(State(app): State<Arc<App>>, request: Request) -> Response {
    let answer = || {
        let tenant = app.scope(request.extensions())?.single()?;
        let entries = app.roles()?.distributor.rejections(tenant);
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        Ok::<_, Fault>(json!({"tenant": tenant.as_str(), "rejections": entries}))
    };
    match answer() {
        Ok(body) => Json(body).into_response(),
        Err(fault) => fault.into_response(),
    }
}

fn entry(entry: &Entry) -> Value {
    let ms = |time: Timestamp| time.0 / 1_000_000;
    json!({
        "reason": entry.reason.as_str(),
        "treatment": match entry.treatment {
            Treatment::Refused => "refused",
            Treatment::LeftOut => "left out",
        },
        "service_name": entry.service,
        "message": entry.message,
        "remedy": entry.remedy(),
        "example_labels": entry.labels,
        "count": entry.count,
        "first_seen_ms": ms(entry.first),
        "last_seen_ms": ms(entry.last),
    })
}
