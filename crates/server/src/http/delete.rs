//! Deleting on demand over HTTP.
//!
//! ```text
//! POST /api/v1/delete?selector={…}&before=TIME[&dry_run=true]   the receipt, or what it would be
//! GET  /api/v1/deletions                                        receipts with what is still to do
//! ```
//!
//! # Invariants
//! - `selector` and `before` have no defaults: nothing is deleted by what was left out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use scoria_compactor::{DeleteError, DeleteRequest, Extent, Receipt};
use scoria_model::Timestamp;
use serde_json::{Value, json};

use super::App;
use super::fault::Fault;
use super::url_parameters::UrlParameters;

pub(super) async fn delete(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match deleted(&app, &parts).await {
        Ok(answer) => Json(answer).into_response(),
        Err(fault) => fault.into_response(),
    }
}

pub(super) async fn deletions(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match listed(&app, &parts).await {
        Ok(answer) => Json(answer).into_response(),
        Err(fault) => fault.into_response(),
    }
}

async fn deleted(app: &App, parts: &Parts) -> Result<Value, Fault> {
    let tenant = app.scope(&parts.extensions)?.single()?;
    let roles = app.roles()?;
    let given = UrlParameters::of(parts.uri.query().unwrap_or_default());
    let selector = given.required("selector")?.to_owned();
    let before = given.required("before")?;
    let before_ms: i64 = before.parse().map_err(|_| {
        Fault::invalid(format!(
            "before is {before:?}; it is a time in Unix milliseconds"
        ))
    })?;
    let dry_run = match given.first("dry_run") {
        "" | "false" | "0" => false,
        "true" | "1" => true,
        other => {
            return Err(Fault::invalid(format!(
                "dry_run is {other:?}; it is true or false"
            )));
        }
    };
    let request = DeleteRequest {
        tenant: tenant.clone(),
        selector,
        before: Timestamp::from_millis(before_ms),
    };
    if dry_run {
        let extent = roles.deletions.dry_run(&request).await;
        let extent = extent.map_err(|error| fault_of(&error))?;
        return Ok(json!({
            "dryRun": true,
            "tenant": tenant.as_str(),
            "selector": request.selector,
            "beforeMs": before_ms,
            "extent": extent_json(extent),
        }));
    }
    let receipt = roles.deletions.delete(&request).await;
    let receipt = receipt.map_err(|error| fault_of(&error))?;
    tracing::info!(%tenant, id = %receipt.tombstone.id, selector = %request.selector, before_ms, "deleted on demand");
    Ok(receipt_json(&receipt))
}

async fn listed(app: &App, parts: &Parts) -> Result<Value, Fault> {
    let tenant = app.scope(&parts.extensions)?.single()?;
    let receipts = app.roles()?.deletions.list(tenant).await;
    let receipts = receipts.map_err(|error| fault_of(&error))?;
    let receipts: Vec<Value> = receipts.iter().map(receipt_json).collect();
    Ok(json!({ "deletions": receipts }))
}

fn receipt_json(receipt: &Receipt) -> Value {
    let tombstone = &receipt.tombstone;
    json!({
        "id": tombstone.id.to_string(),
        "tenant": tombstone.tenant.as_str(),
        "selector": &*tombstone.selector,
        "beforeMs": tombstone.before.millis(),
        "createdMs": tombstone.created.millis(),
        "catalogueVersion": receipt.since.0,
        "pending": extent_json(receipt.pending),
    })
}

fn extent_json(extent: Extent) -> Value {
    json!({"blocks": extent.blocks, "objects": extent.objects, "bytes": extent.bytes})
}

fn fault_of(error: &DeleteError) -> Fault {
    match error {
        DeleteError::Selector(_) | DeleteError::SelectorLength { .. } => {
            Fault::invalid(error.to_string())
        }
        _ => Fault::unavailable(
            format!("{error}; look at /api/v1/deletions before trying again"),
            std::time::Duration::from_secs(5),
        ),
    }
}
