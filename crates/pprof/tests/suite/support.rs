//! What the tests of this crate share: small profiles, uploads, and parts read back as text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use scoria_model::part::PartView;
use scoria_model::{Limits, RetryKey, Timestamp};
use scoria_pprof::encode::{FunctionRow, SampleLabel};
use scoria_pprof::{Ingest, Normalised, Normaliser, Origin, ProfileEncoder, Rejection, Upload};

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// The labels of a well-behaved client.
pub(crate) const LABELS: &[(&str, &str)] = &[("__name__", "process_cpu"), ("service_name", "api")];

/// Nothing is too old.
pub(crate) fn any_time() -> Limits {
    Limits {
        reject_older_than_ms: 0,
        reject_newer_than_ms: 0,
        ..Limits::default()
    }
}

pub(crate) fn push<'a>(pprof: &'a [u8], labels: &'a [(&'a str, &'a str)]) -> Upload<'a> {
    Upload {
        pprof,
        labels,
        origin: Origin::Push,
        key: RetryKey([3; 16]),
        now: NOW,
    }
}

pub(crate) fn ingest<'a>(pprof: &'a [u8], ingest: Ingest<'a>) -> Upload<'a> {
    Upload {
        origin: Origin::Ingest(ingest),
        ..push(pprof, &[("service_name", "api")])
    }
}

pub(crate) fn normalise(upload: &Upload<'_>, limits: &Limits) -> Result<Normalised, Rejection> {
    let normalised = Normaliser::new(7).normalise(upload, limits)?;
    Ok(normalised)
}

/// One sample for the small profiles: frames leaf first, values, labels.
pub(crate) type Row<'a> = (&'a [&'a str], &'a [i64], &'a [(&'a str, &'a str)]);

/// An encoder with the frames as functions in `<name>.go`, line 1.
pub(crate) fn small(types: &[(&str, &str)], rows: &[Row<'_>]) -> Vec<u8> {
    let mut encoder = ProfileEncoder::new();
    for (kind, unit) in types {
        encoder.sample_type(kind, unit);
    }
    encoder.period("cpu", "nanoseconds", 10_000_000);
    encoder.time(NOW.0, 10_000_000_000);
    let mut known: BTreeMap<&str, u64> = BTreeMap::new();
    for (frames, values, labels) in rows {
        let ids: Vec<u64> = frames
            .iter()
            .map(|name| {
                *known.entry(name).or_insert_with(|| {
                    let function = encoder.function(&FunctionRow {
                        name,
                        system_name: name,
                        filename: "file.go",
                        start_line: 0,
                    });
                    encoder.location(0, 0, &[(function, 1)])
                })
            })
            .collect();
        let labels: Vec<SampleLabel<'_>> = labels
            .iter()
            .map(|&(key, value)| SampleLabel { key, value })
            .collect();
        encoder.sample(ids, values, &labels);
    }
    encoder.finish()
}

/// Every profile of a part as `{labels} type` → folded stacks (root first) and their values, with
/// ids appended where there are any. The part goes through its encoding on the way.
pub(crate) fn folded(normalised: &Normalised) -> BTreeMap<String, Vec<String>> {
    let mut bytes = Vec::new();
    normalised.part.encode(&mut bytes);
    let view = PartView::parse(&bytes).expect("a part reads back");
    let mut out = BTreeMap::new();
    for profile in 0..view.profile_series.len() {
        let labels = view.series_labels(view.profile_series.get(profile));
        let kind = view.profile_type(view.profile_kind.get(profile));
        let samples = view.profile_samples_end.span(profile);
        let mut lines: Vec<String> = samples.map(|at| folded_sample(&view, at)).collect();
        lines.sort();
        let twice = out.insert(format!("{labels} {kind}"), lines);
        assert!(twice.is_none(), "{labels} {kind} stands twice");
    }
    out
}

fn folded_sample(view: &PartView<'_>, at: usize) -> String {
    let stack = view.sample_stack.get(at) as usize;
    let mut frames: Vec<String> = view
        .stack_end
        .span(stack)
        .map(|frame| location_text(view, view.frame.get(frame) as usize))
        .collect();
    frames.reverse();
    let mut line = format!("{} {}", frames.join(";"), view.sample_value.get(at));
    if view.span(at) != 0 {
        line += &format!(" span={:016x}", view.span(at).swap_bytes());
    }
    if view.trace(at) != [0; 16] {
        let trace = u128::from_be_bytes(view.trace(at));
        line += &format!(" trace={trace:032x}");
    }
    line
}

fn location_text(view: &PartView<'_>, location: usize) -> String {
    let mut lines: Vec<&str> = view
        .location_lines_end
        .span(location)
        .map(|line| {
            let function = view.line_function.get(line) as usize;
            view.string(view.function_name.get(function))
        })
        .collect();
    lines.reverse();
    if lines.is_empty() {
        format!("{:#x}", view.location_address.get(location))
    } else {
        lines.join(";")
    }
}

/// The sum of the values of each profile type of a part.
pub(crate) fn totals(normalised: &Normalised) -> BTreeMap<String, i128> {
    let mut bytes = Vec::new();
    normalised.part.encode(&mut bytes);
    let view = PartView::parse(&bytes).expect("a part reads back");
    let mut out = BTreeMap::new();
    for profile in 0..view.profile_series.len() {
        let kind = view.profile_type(view.profile_kind.get(profile));
        let samples = view.profile_samples_end.span(profile);
        let sum: i128 = samples
            .map(|at| i128::from(view.sample_value.get(at)))
            .sum();
        *out.entry(kind.to_string()).or_default() += sum;
    }
    out
}

/// The folder of real profiles, if it is on this machine.
pub(crate) fn corpus() -> Option<PathBuf> {
    let folder = std::env::var_os("SCORIA_CORPUS").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/corpus"
            ))
        },
        PathBuf::from,
    );
    folder.is_dir().then_some(folder)
}
