//! Profiles by address: `GET /pprof`, which `go tool pprof URL` opens, and `GET /pgo/go`, whose
//! answer `go build -pgo` takes.
//!
//! ```text
//! /pprof?query=TYPE{matchers}&from=now-1h&until=now
//! /pgo/go?service=NAME&from=now-1d
//! ```
//! # Invariants
//! - The body is a gzipped pprof, whole whatever limits flame graphs have, and is not compressed a
//!   second time.
//! - Where there is nothing to answer the answer is 404: an empty file would be taken for a
//!   profile.

use std::io::Write;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use connectrpc::ErrorCode;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::request::Parts;
use scoria_model::labels::names;
use scoria_querier::Merged;
use scoria_query::request::{Callees, GoPgo, ProfileFormat, SelectMergeStacktraces};
use scoria_query::selector::{Matcher, Matchers};

use super::App;
use super::fault::Fault;
use super::query::{cost, fault_of};
use super::render::kind_of;
use super::url_parameters::UrlParameters;

/// How far `/pprof` looks back when no `from` is given.
const PPROF_MS: i64 = 3_600_000;
/// How far `/pgo/go` looks back: a program's load differs over the day.
const PGO_MS: i64 = 24 * PPROF_MS;
/// What the compiler reads.
const PGO_TYPE: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
/// Calls that the compiler looks at lie this deep at most.
const PGO_KEEP: u32 = 5;

pub(super) async fn pprof(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let now_ms = |app: &App| Ok::<_, Fault>(app.roles()?.clock.now().millis());
    let asked = now_ms(&app).and_then(|now| pprof_request(&parts, now));
    respond(&app, &parts, asked, "profile.pb.gz").await
}

pub(super) async fn pgo(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let now_ms = |app: &App| Ok::<_, Fault>(app.roles()?.clock.now().millis());
    let asked = now_ms(&app).and_then(|now| pgo_request(&parts, now));
    respond(&app, &parts, asked, "default.pgo").await
}

async fn respond(
    app: &App,
    parts: &Parts,
    asked: Result<SelectMergeStacktraces, Fault>,
    file: &str,
) -> Response {
    let answer = match asked {
        Ok(request) => answer(app, parts, &request, file).await,
        Err(fault) => Err(fault),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

fn pprof_request(parts: &Parts, now_ms: i64) -> Result<SelectMergeStacktraces, Fault> {
    let given = UrlParameters::of(parts.uri.query().unwrap_or_default());
    let query = given.required("query")?;
    let (start_ms, end_ms) = given.range_ms(now_ms, PPROF_MS);
    Ok(SelectMergeStacktraces {
        profile_type: kind_of(query)?.to_string(),
        label_selector: query.to_owned(),
        start_ms,
        end_ms,
        format: ProfileFormat::Pprof,
        max_nodes: given.max_nodes(),
        ..SelectMergeStacktraces::default()
    })
}

fn pgo_request(parts: &Parts, now_ms: i64) -> Result<SelectMergeStacktraces, Fault> {
    let given = UrlParameters::of(parts.uri.query().unwrap_or_default());
    let mut matchers = match given.first("query") {
        "" => Matchers::default(),
        query => Matchers::parse(query).map_err(|error| Fault::invalid(error.to_string()))?,
    };
    matchers.push(Matcher::equal(
        names::SERVICE_NAME,
        given.required("service")?,
    ));
    let (start_ms, end_ms) = given.range_ms(now_ms, PGO_MS);
    let keep_locations = match given.first("keep-locations") {
        "" => PGO_KEEP,
        text => text.parse().map_err(|_| {
            Fault::invalid(format!(
                "the parameter keep-locations is {text:?}; it must be a number, 0 for all"
            ))
        })?,
    };
    let profile_type = match given.first("type") {
        "" => PGO_TYPE,
        kind => kind,
    };
    Ok(SelectMergeStacktraces {
        profile_type: profile_type.to_owned(),
        label_selector: matchers.to_string(),
        start_ms,
        end_ms,
        format: ProfileFormat::Pprof,
        go_pgo: Some(GoPgo {
            keep_locations,
            callees: Callees::Aggregated,
        }),
        ..SelectMergeStacktraces::default()
    })
}

async fn answer(
    app: &App,
    parts: &Parts,
    request: &SelectMergeStacktraces,
    file: &str,
) -> Result<Response, Fault> {
    let scope = app.scope(&parts.extensions)?;
    let roles = app.roles()?;
    let answer = roles
        .querier
        .in_mode(cost::mode_of(parts)?)
        .select_merge_stacktraces(scope.tenants(), request, roles.clock.now())
        .await
        .map_err(|error| fault_of(&error))?;
    if let Some(plan) = cost::planned(&answer.stats) {
        return Ok(plan);
    }
    let internal = |what: &str| Fault::new(ErrorCode::Internal, what);
    let Merged::Pprof(pprof) = answer.value else {
        return Err(internal("the profile came in another form"));
    };
    if pprof.is_empty() {
        return Err(Fault::new(
            ErrorCode::NotFound,
            format!(
                "no profiles of type {} match {} in this range",
                request.profile_type, request.label_selector
            ),
        ));
    }
    let zipped = tokio::task::spawn_blocking(move || gzip(&pprof)).await;
    let zipped = zipped.map_err(|_| internal("compressing the profile failed"))?;
    let zipped = zipped.map_err(|error| internal(&format!("compressing the profile: {error}")))?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{file}\""),
        ),
    ];
    Ok((cost::headers(&answer.stats), headers, zipped).into_response())
}

fn gzip(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 3), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn parts(query: &str) -> Parts {
        let request = http::Request::get(format!("/x?{query}")).body(());
        request.unwrap_or_else(|e| panic!("{e}")).into_parts().0
    }

    #[test]
    fn what_is_asked() {
        let query = "query=memory:alloc_space:bytes:space:bytes%7Ba%3D%22b%22%7D&until=now-1h";
        let asked = pprof_request(&parts(query), NOW).unwrap_or_else(|f| panic!("{f:?}"));
        assert_eq!(asked.profile_type, "memory:alloc_space:bytes:space:bytes");
        assert_eq!(asked.end_ms, NOW - PPROF_MS);
        assert_eq!(asked.start_ms, NOW - 2 * PPROF_MS);
        for bad in ["", "query=%7B%7D", "query=cpu%7B%7D"] {
            assert!(pprof_request(&parts(bad), NOW).is_err(), "{bad}");
        }
        let query = "service=shop%22s&query=%7Bpod%3D%22a%22%7D&keep-locations=0";
        let asked = pgo_request(&parts(query), NOW).unwrap_or_else(|f| panic!("{f:?}"));
        assert_eq!(asked.start_ms, NOW - PGO_MS);
        assert_eq!(asked.label_selector, r#"{pod="a",service_name="shop\"s"}"#);
        assert_eq!(asked.go_pgo.map(|pgo| pgo.keep_locations), Some(0));
        for bad in [
            "",
            "service=",
            "service=a&keep-locations=x",
            "service=a&query=%7B",
        ] {
            assert!(pgo_request(&parts(bad), NOW).is_err(), "{bad}");
        }
    }
}
