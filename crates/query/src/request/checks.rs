//! The checks that several requests share.

use std::sync::Arc;

use scoria_model::{Limits, TimeRange, Timestamp};

use super::{LIST_MAX, RequestError};

/// Checks a range of Unix milliseconds in the order of the contract: given, not backwards, within
/// the lookback (cut to it, or `None` if wholly older), not too long.
///
/// # Errors
/// [`RequestError::MissingRange`], [`RequestError::StartAfterEnd`], [`RequestError::TooLong`].
pub fn check_range(
    start_ms: i64,
    end_ms: i64,
    limits: &Limits,
    now: Timestamp,
) -> Result<Option<TimeRange>, RequestError> {
    if start_ms == 0 || end_ms == 0 {
        return Err(RequestError::MissingRange { start_ms, end_ms });
    }
    if start_ms > end_ms {
        return Err(RequestError::StartAfterEnd { start_ms, end_ms });
    }
    let mut from_ms = start_ms;
    if limits.max_query_lookback_ms != 0 {
        let lookback = i64::try_from(limits.max_query_lookback_ms).unwrap_or(i64::MAX);
        let oldest_ms = now.millis().saturating_sub(lookback);
        if end_ms < oldest_ms {
            return Ok(None);
        }
        from_ms = from_ms.max(oldest_ms);
    }
    let length = end_ms.abs_diff(from_ms);
    if Limits::exceeded(length, limits.max_query_length_ms) {
        return Err(RequestError::TooLong {
            actual: duration(length),
            allowed: duration(limits.max_query_length_ms),
        });
    }
    Ok(Some(TimeRange {
        start_ms: from_ms,
        end_ms,
    }))
}

/// The nodes that a tree is cut to: what was asked, or the default.
///
/// # Errors
/// [`RequestError::MaxNodes`] for more than the limit, [`RequestError::NegativeMaxNodes`] for less
/// than none while there is a limit.
pub fn max_nodes(asked: Option<i64>, limits: &Limits) -> Result<usize, RequestError> {
    let default = usize::try_from(limits.max_flamegraph_nodes_default).unwrap_or(usize::MAX);
    let allowed = limits.max_flamegraph_nodes_max;
    let Some(actual) = asked.filter(|&n| n != 0) else {
        return Ok(default);
    };
    match u64::try_from(actual) {
        Ok(n) if Limits::exceeded(n, allowed) => Err(RequestError::MaxNodes { actual, allowed }),
        Ok(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        Err(_) if allowed != 0 => Err(RequestError::NegativeMaxNodes { actual }),
        Err(_) => Ok(default),
    }
}

/// A step in whole milliseconds, at least 1.
///
/// # Errors
/// [`RequestError::Step`].
pub(super) fn step_ms(step_s: f64) -> Result<i64, RequestError> {
    if !(step_s >= 0.001 && step_s.is_finite()) {
        return Err(RequestError::Step {
            step_s: step_s.to_string(),
        });
    }
    // Casting saturates, and a step longer than time makes one bucket.
    Ok((step_s * 1000.0) as i64)
}

/// The limits of a request over several tenants: the smallest of each that is set.
pub fn strictest<'a>(all: impl IntoIterator<Item = &'a Limits>) -> Limits {
    let smallest = |a: u64, b: u64| match (a, b) {
        (0, n) | (n, 0) => n,
        (a, b) => a.min(b),
    };
    let mut all = all.into_iter();
    let mut found = all.next().cloned().unwrap_or_default();
    for limits in all {
        for (into, other) in [
            (
                &mut found.max_query_lookback_ms,
                limits.max_query_lookback_ms,
            ),
            (&mut found.max_query_length_ms, limits.max_query_length_ms),
            (
                &mut found.max_flamegraph_nodes_default,
                limits.max_flamegraph_nodes_default,
            ),
            (
                &mut found.max_flamegraph_nodes_max,
                limits.max_flamegraph_nodes_max,
            ),
            (&mut found.max_query_bytes, limits.max_query_bytes),
            (
                &mut found.max_query_memory_bytes,
                limits.max_query_memory_bytes,
            ),
            (&mut found.query_weight, limits.query_weight),
            (
                &mut found.max_async_query_concurrency,
                limits.max_async_query_concurrency,
            ),
        ] {
            *into = smallest(*into, other);
        }
        found.include_stripped_profiles &= limits.include_stripped_profiles;
        found.max_flamegraph_nodes_on_select_merge_profile |=
            limits.max_flamegraph_nodes_on_select_merge_profile;
    }
    found
}

/// Passes a list on if it is not too long.
pub(super) fn list<'a, T>(name: &'static str, list: &'a [T]) -> Result<&'a [T], RequestError> {
    if list.len() > LIST_MAX {
        return Err(RequestError::ListTooLong {
            name,
            actual: list.len(),
            allowed: LIST_MAX,
        });
    }
    Ok(list)
}

pub(super) fn shared(list: &[String]) -> Vec<Arc<str>> {
    list.iter().map(|text| Arc::from(text.as_str())).collect()
}

/// 16 hexadecimal digits: the span's eight bytes in order, of which the number that is stored takes
/// the first as its lowest.
pub(super) fn span_id(text: &str) -> Result<u64, RequestError> {
    hex(text, 16)
        .and_then(|id| u64::try_from(id).ok())
        .map(|id| u64::from_le_bytes(id.to_be_bytes()))
        .ok_or_else(|| RequestError::SpanId {
            text: text.to_owned(),
        })
}

/// 32 hexadecimal digits.
pub(super) fn trace_id(text: &str) -> Result<[u8; 16], RequestError> {
    hex(text, 32)
        .map(u128::to_be_bytes)
        .ok_or_else(|| RequestError::TraceId {
            text: text.to_owned(),
        })
}

fn hex(text: &str, length: usize) -> Option<u128> {
    if text.len() != length || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

/// `31d`, `1h30m`, `250ms`.
fn duration(ms: u64) -> String {
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut left = ms;
    let mut text = String::new();
    for (unit, size) in units {
        let n = left / size;
        left %= size;
        if n > 0 {
            text.push_str(&format!("{n}{unit}"));
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}
