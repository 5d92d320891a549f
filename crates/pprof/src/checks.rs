//! The structural checks of a profile, in the order in which senders see them fail.
//!
//! No sample types, ingestion window, size, sample count, sample labels, symbol length (which cuts
//! and does not refuse), ids, value counts, string table, `-` in a sample type, UTF-8.

use scoria_model::{DiscardReason, Limits, Timestamp};

use crate::raw::{NUMBER, RawProfile};
use crate::rejection::{LabelText, Shown};
use crate::{Dropped, Rejection};

/// A profile has a handful; each one multiplies what is stored for every label set.
const MAX_SAMPLE_TYPES: usize = 256;

/// What the checks go by, other than the profile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) now: Timestamp,
    pub(crate) labels: LabelText<'a>,
}

/// Checks `raw`, whose sample types have been checked, and repairs what has a defined repair: a missing time becomes now, a symbol beyond
/// the limit loses its front.
pub(crate) fn check(
    raw: &mut RawProfile<'_>,
    rules: &Rules<'_>,
    dropped: &mut Dropped,
) -> Result<(), Rejection> {
    check_window(raw, rules)?;
    check_sizes(raw, rules)?;
    cut_symbols(raw, rules, dropped);
    check_ids(raw, rules)?;
    check_value_counts(raw, rules)?;
    check_string_indexes(raw, rules)?;
    check_dashes(raw, rules)?;
    check_utf8(raw, rules)
}

/// Done first and alone, so that whatever walks the sample types later walks a handful.
pub(crate) fn check_sample_types(raw: &RawProfile<'_>, rules: &Rules<'_>) -> Result<(), Rejection> {
    let n = raw.columns.sample_types.len();
    if n == 0 {
        return Err(Rejection::malformed(
            &rules.labels,
            "it has no sample types",
        ));
    }
    if n > MAX_SAMPLE_TYPES {
        let problem = format!("it has {n} sample types, {MAX_SAMPLE_TYPES} are allowed");
        return Err(Rejection::malformed(&rules.labels, problem));
    }
    Ok(())
}

fn check_window(raw: &mut RawProfile<'_>, rules: &Rules<'_>) -> Result<(), Rejection> {
    const NS_PER_MS: i128 = 1_000_000;
    if raw.columns.time_ns == 0 {
        raw.columns.time_ns = rules.now.0;
        return Ok(());
    }
    let (time, now) = (i128::from(raw.columns.time_ns), i128::from(rules.now.0));
    let limits = rules.limits;
    let late = i128::from(limits.reject_older_than_ms) * NS_PER_MS;
    let early = i128::from(limits.reject_newer_than_ms) * NS_PER_MS;
    let refuse = |bound: &str, key: &str, ms: u64| {
        let labels = rules.labels;
        let away = (time - now).abs() / NS_PER_MS;
        let message = format!(
            "profile with labels '{labels}' is outside of the ingestion window: its time {time} ns is {away} ms {bound} the server's clock ({key}, limit: {ms} ms)"
        );
        Err(Rejection::new(DiscardReason::NotInIngestionWindow, message))
    };
    if late != 0 && time <= now - late {
        refuse("before", "reject_older_than", limits.reject_older_than_ms)
    } else if early != 0 && time >= now + early {
        refuse("after", "reject_newer_than", limits.reject_newer_than_ms)
    } else {
        Ok(())
    }
}

fn check_sizes(raw: &RawProfile<'_>, rules: &Rules<'_>) -> Result<(), Rejection> {
    let (limits, labels) = (rules.limits, rules.labels);
    let exceeds = |reason, what: &str, key: &str, actual: u64, limit: u64| {
        if !Limits::exceeded(actual, limit) {
            return Ok(());
        }
        let message = format!(
            "the profile with labels '{labels}' exceeds the {what} limit ({key}, actual: {actual}, limit: {limit})"
        );
        Err(Rejection::new(reason, message))
    };
    exceeds(
        DiscardReason::ProfileSizeLimit,
        "size",
        "max_profile_size_bytes",
        raw.size(),
        limits.max_profile_size_bytes,
    )?;
    exceeds(
        DiscardReason::SamplesLimit,
        "samples count",
        "max_profile_stacktrace_samples",
        raw.columns.samples.len() as u64,
        limits.max_profile_stacktrace_samples,
    )?;
    let n_labels = |at| raw.sample(at).labels().len() + raw.ids(at).count();
    let counts = (0..raw.columns.samples.len()).map(n_labels);
    exceeds(
        DiscardReason::SampleLabelsLimit,
        "sample labels",
        "max_profile_stacktrace_sample_labels",
        counts.max().unwrap_or_default() as u64,
        limits.max_profile_stacktrace_sample_labels,
    )
}

/// Keeps the tail of each string beyond the limit, from the next whole character on.
fn cut_symbols(raw: &mut RawProfile<'_>, rules: &Rules<'_>, dropped: &mut Dropped) {
    let limit = rules.limits.max_profile_symbol_value_length;
    if !Limits::exceeded(u64::from(raw.longest_string()), limit) {
        return;
    }
    for at in 0..raw.n_strings() as u32 {
        let text = raw.text(at);
        if text.len() as u64 <= limit {
            continue;
        }
        let front = front_beyond(text, limit as usize);
        raw.cut_front(at, front as u32);
        dropped.add(DiscardReason::SymbolTruncated, 1);
    }
}

/// Bytes to cut off the front of a text that is longer than `limit`, to the next whole character.
pub(crate) fn front_beyond(text: &[u8], limit: usize) -> usize {
    let over = text.len().saturating_sub(limit);
    let is_inside = |byte: &&u8| **byte & 0xc0 == 0x80;
    over + text[over..].iter().take(3).take_while(is_inside).count()
}

/// How a text that is not valid UTF-8 is shown; `None` for one that is.
pub(crate) fn not_utf8(text: &[u8]) -> Option<String> {
    if text.is_ascii() || std::str::from_utf8(text).is_ok() {
        return None;
    }
    Some(String::from_utf8_lossy(&text[..text.len().min(64)]).into_owned())
}

fn check_ids(raw: &RawProfile<'_>, rules: &Rules<'_>) -> Result<(), Rejection> {
    let zero = |table: &str, at: Option<usize>| match at {
        Some(at) => {
            let problem = format!("{table} {at} has the id 0");
            Err(Rejection::malformed(&rules.labels, problem))
        }
        None => Ok(()),
    };
    let columns = &raw.columns;
    zero("location", columns.locations.ids().position(|id| id == 0))?;
    zero("function", columns.functions.ids().position(|id| id == 0))
}

fn check_value_counts(raw: &RawProfile<'_>, rules: &Rules<'_>) -> Result<(), Rejection> {
    let n_types = raw.columns.sample_types.len();
    let mut start = 0;
    for (at, sample) in raw.columns.samples.iter().enumerate() {
        let n = (sample.values - start) as usize;
        start = sample.values;
        if n != n_types {
            let problem = format!("sample {at} has {n} values for {n_types} sample types");
            return Err(Rejection::malformed(&rules.labels, problem));
        }
    }
    Ok(())
}

fn check_string_indexes(raw: &RawProfile<'_>, rules: &Rules<'_>) -> Result<(), Rejection> {
    let n = raw.n_strings();
    match raw.string(0) {
        None => {
            return Err(Rejection::malformed(
                &rules.labels,
                "its string table is empty",
            ));
        }
        Some(first) if !first.is_empty() => {
            return Err(Rejection::malformed(
                &rules.labels,
                "the first entry of its string table is not the empty string",
            ));
        }
        Some(_) => {}
    }
    let columns = &raw.columns;
    let types = columns.sample_types.iter().chain([&columns.period_type]);
    let types = types.map(|t| t.kind.max(t.unit));
    let labels = columns.labels.iter();
    let text = |text| if text == NUMBER { 0 } else { text };
    let labels = labels.map(|label| label.key.max(text(label.text)));
    let labels = labels.chain([columns.label_unit_max]);
    let functions = columns.functions.iter();
    let functions = functions.map(|f| f.name.max(f.system_name).max(f.filename));
    let mappings = columns.mappings.iter();
    let mappings = mappings.map(|m| m.filename.max(m.build_id));
    let inside = |what: &str, largest: Option<u32>| match largest {
        Some(at) if at as usize >= n => {
            let problem =
                format!("a {what} points outside of its string table, which has {n} entries");
            Err(Rejection::malformed(&rules.labels, problem))
        }
        _ => Ok(()),
    };
    inside("sample type", types.max())?;
    inside("sample label", labels.max())?;
    inside("function", functions.max())?;
    inside("mapping", mappings.max())
}

fn check_dashes(raw: &RawProfile<'_>, rules: &Rules<'_>) -> Result<(), Rejection> {
    for kind in &raw.columns.sample_types {
        let text = raw.text(kind.kind);
        if text.contains(&b'-') {
            let text = String::from_utf8_lossy(text);
            let problem = format!("the sample type \"{}\" contains '-'", Shown(&text));
            return Err(Rejection::malformed(&rules.labels, problem));
        }
    }
    Ok(())
}

fn check_utf8(raw: &RawProfile<'_>, rules: &Rules<'_>) -> Result<(), Rejection> {
    for at in 0..raw.n_strings() as u32 {
        if let Some(shown) = not_utf8(raw.text(at)) {
            let problem = format!("string {at} ({shown:?}) is not valid UTF-8");
            return Err(Rejection::malformed(&rules.labels, problem));
        }
    }
    Ok(())
}
