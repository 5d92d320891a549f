//! What a query took, as headers of its answer, and what a client says beside its question.
//!
//! ```text
//! asked:    X-Scoria-Dry-Run: true         the plan and its cost instead of an answer
//!           X-Scoria-Allow-Partial: true   an answer from what can be read
//! answered: X-Scoria-Bytes-Read, -Blocks, -Samples, -Cache-Hits
//!           X-Scoria-Missing               what an answer lacks; absent if it is whole
//!           X-Scoria-Empty-Reason          why a question about spans found nothing
//!           X-Scoria-Plan                  JSON, only of a dry run
//! ```

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use scoria_querier::{Missing, Mode, PlanCost, QueryStats};
use serde_json::{Value, json};

use crate::http::fault::Fault;
use crate::http::url_parameters::UrlParameters;

const DRY_RUN: HeaderName = HeaderName::from_static("x-scoria-dry-run");
const ALLOW_PARTIAL: HeaderName = HeaderName::from_static("x-scoria-allow-partial");
const BYTES_READ: HeaderName = HeaderName::from_static("x-scoria-bytes-read");
const BLOCKS: HeaderName = HeaderName::from_static("x-scoria-blocks");
const SAMPLES: HeaderName = HeaderName::from_static("x-scoria-samples");
const CACHE_HITS: HeaderName = HeaderName::from_static("x-scoria-cache-hits");
const MISSING: HeaderName = HeaderName::from_static("x-scoria-missing");
const EMPTY_REASON: HeaderName = HeaderName::from_static("x-scoria-empty-reason");
const PLAN: HeaderName = HeaderName::from_static("x-scoria-plan");

/// Bytes of a text: proxies refuse long headers.
const TEXT_BYTES_MAX: usize = 2048;

/// How the client of a plain route wants its question answered; `dry_run=true` among the
/// parameters is as good as the header.
///
/// # Errors
/// As [`mode`].
pub(crate) fn mode_of(request: &Parts) -> Result<Mode, Fault> {
    let given = UrlParameters::of(request.uri.query().unwrap_or_default());
    match given.first("dry_run") {
        "true" | "1" => Ok(Mode::Plan),
        "" | "false" | "0" => mode(&request.headers),
        other => Err(Fault::invalid(format!(
            "the parameter dry_run is {other:?}; it must be true or false"
        ))),
    }
}

/// The answer of a plain route to a dry run; `None` if it was none.
pub(crate) fn planned(stats: &QueryStats) -> Option<Response> {
    let cost = stats.plan.as_ref()?;
    Some((headers(stats), Json(plan(cost))).into_response())
}

/// How the client wants its question answered.
///
/// # Errors
/// A header is neither true nor false.
pub(crate) fn mode(headers: &HeaderMap) -> Result<Mode, Fault> {
    if flag(headers, &DRY_RUN)? {
        return Ok(Mode::Plan);
    }
    Ok(if flag(headers, &ALLOW_PARTIAL)? {
        Mode::Partial
    } else {
        Mode::Whole
    })
}

fn flag(headers: &HeaderMap, name: &HeaderName) -> Result<bool, Fault> {
    let Some(value) = headers.get(name) else {
        return Ok(false);
    };
    match value.as_bytes() {
        b"true" | b"1" => Ok(true),
        b"false" | b"0" | b"" => Ok(false),
        other => Err(Fault::invalid(format!(
            "the header {name} is {:?}; it must be true or false",
            String::from_utf8_lossy(other)
        ))),
    }
}

/// The headers of an answer.
pub(crate) fn headers(stats: &QueryStats) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(BYTES_READ, HeaderValue::from(stats.bytes_read()));
    headers.insert(BLOCKS, HeaderValue::from(stats.blocks));
    headers.insert(SAMPLES, HeaderValue::from(stats.samples));
    headers.insert(CACHE_HITS, HeaderValue::from(stats.cache_hits()));
    if let Some(missing) = missing(&stats.missing) {
        headers.insert(MISSING, missing);
    }
    if let Some(reason) = stats.why_empty.clone().and_then(text) {
        headers.insert(EMPTY_REASON, reason);
    }
    if let Some(cost) = &stats.plan
        && let Ok(value) = HeaderValue::try_from(plan(cost).to_string())
    {
        headers.insert(DRY_RUN, HeaderValue::from_static("true"));
        headers.insert(PLAN, value);
    }
    headers
}

/// A plan as JSON.
pub(crate) fn plan(cost: &PlanCost) -> Value {
    json!({
        "blocks": cost.blocks,
        "datasets": cost.datasets,
        "ingesters": cost.ingesters,
        "series": cost.series,
        "profiles": cost.profiles,
        "samples": cost.samples,
        "bytes": cost.bytes(),
        "indexBytes": cost.index_bytes,
        "symbolBytes": cost.symbol_bytes,
        "sampleBytes": cost.sample_bytes,
        "memoryBytes": cost.memory_bytes,
    })
}

fn missing(missing: &Missing) -> Option<HeaderValue> {
    if missing.n == 0 {
        return None;
    }
    text(format!(
        "{} pieces: {}",
        missing.n,
        missing.named.join("; ")
    ))
}

/// Headers are ASCII; names of things here are, selectors and messages of others need not be.
fn text(mut text: String) -> Option<HeaderValue> {
    text.retain(|c| c.is_ascii_graphic() || c == ' ');
    text.truncate(TEXT_BYTES_MAX);
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(HeaderName, &'static str)]) -> Result<Mode, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(name, HeaderValue::from_static(value));
        }
        mode(&headers).map_err(|fault| fault.status().as_u16())
    }

    #[test]
    fn modes() {
        assert_eq!(asked(&[]), Ok(Mode::Whole));
        assert_eq!(asked(&[(DRY_RUN, "false")]), Ok(Mode::Whole));
        assert_eq!(asked(&[(ALLOW_PARTIAL, "1")]), Ok(Mode::Partial));
        let both = [(ALLOW_PARTIAL, "true"), (DRY_RUN, "true")];
        assert_eq!(asked(&both), Ok(Mode::Plan));
        assert_eq!(asked(&[(DRY_RUN, "perhaps")]), Err(400));
    }

    #[test]
    fn every_answer_says_what_it_took_and_a_partial_one_what_it_lacks() {
        let stats = QueryStats {
            blocks: 2,
            samples: 30,
            bytes_fetched: 100,
            bytes_cached: 11,
            decoded_hits: 3,
            ..QueryStats::default()
        };
        let whole = headers(&stats);
        assert_eq!(whole[BYTES_READ], "111");
        assert_eq!(whole[BLOCKS], "2");
        assert_eq!(whole[SAMPLES], "30");
        assert_eq!(whole[CACHE_HITS], "3");
        assert!(!whole.contains_key(MISSING) && !whole.contains_key(PLAN));
        let lacking = headers(&QueryStats {
            missing: Missing {
                named: vec!["block x: \u{fc} is\ngone".to_owned()],
                n: 1,
            },
            plan: Some(PlanCost::default()),
            ..stats
        });
        assert_eq!(lacking[MISSING], "1 pieces: block x:  isgone");
        assert_eq!(lacking[DRY_RUN], "true");
        assert!(lacking[PLAN].to_str().unwrap().contains("\"bytes\":0"));
    }
}
