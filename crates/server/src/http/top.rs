//! `GET /api/v1/top`: functions by what they take, as JSON.
//!
//! ```text
//! /api/v1/top?query=TYPE{matchers}&from=now-1h&until=now&limit=100
//! ```
//! # Invariants
//! - Every number is that of the whole merged profile: flame graphs are cut, this table is not, and
//!   no row stands for what was cut.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use scoria_query::render::TopRow;
use scoria_query::request::SelectMergeStacktraces;
use serde::Serialize;

use super::App;
use super::fault::Fault;
use super::query::{cost, fault_of, keep};
use super::render::kind_of;
use super::url_parameters::UrlParameters;

/// How far it looks back when no `from` is given.
const LOOKBACK_MS: i64 = 3_600_000;
/// Rows when no `limit` is given.
const ROWS: usize = 100;

pub(super) async fn top(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answer = answer(&app, &parts).await;
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &App, parts: &Parts) -> Result<Response, Fault> {
    let scope = app.scope(&parts.extensions)?;
    let roles = app.roles()?;
    let now = roles.clock.now();
    let given = UrlParameters::of(parts.uri.query().unwrap_or_default());
    let query = given.required("query")?;
    let kind = kind_of(query)?;
    let (start_ms, end_ms) = given.range_ms(now.millis(), LOOKBACK_MS);
    let limit = match given.first("limit") {
        "" => ROWS,
        text => text.parse().map_err(|_| {
            Fault::invalid(format!(
                "the parameter limit is {text:?}; it must be a number of rows, 0 for all"
            ))
        })?,
    };
    let request = SelectMergeStacktraces {
        profile_type: kind.to_string(),
        label_selector: query.to_owned(),
        start_ms,
        end_ms,
        ..SelectMergeStacktraces::default()
    };
    let answer = roles
        .querier
        .in_mode(cost::mode_of(parts)?)
        .top(scope.tenants(), &request, now)
        .await
        .map_err(|error| fault_of(&error))?;
    keep(&parts.extensions, answer.holding);
    if let Some(plan) = cost::planned(&answer.stats) {
        return Ok(plan);
    }
    let body = Table {
        profile_type: &request.profile_type,
        unit: &kind.sample_unit,
        total: total(&answer.value),
        function_count: answer.value.len(),
        functions: rows(&answer.value, limit),
    };
    Ok((cost::headers(&answer.stats), Json(body)).into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    profile_type: &'a str,
    unit: &'a str,
    total: i64,
    function_count: usize,
    functions: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    #[serde(rename = "self")]
    own: i64,
    total: i64,
}

/// Each stacktrace ends in one function, so own values add up to the whole.
fn total(rows: &[TopRow]) -> i64 {
    rows.iter().fold(0, |sum, row| sum.saturating_add(row.own))
}

fn rows(rows: &[TopRow], limit: usize) -> Vec<Row<'_>> {
    let shown = if limit == 0 { rows.len() } else { limit };
    rows.iter()
        .take(shown)
        .map(|row| Row {
            name: &row.name,
            own: row.own,
            total: row.total,
        })
        .collect()
}
