//! What a profile sent to the legacy endpoint needs before it is like any other: a name, and
//! repairs of what some profilers are known to send.

use scoria_model::Timestamp;

use crate::raw::{RawProfile, ValueType};
use crate::rejection::LabelText;
use crate::{Ingest, Rejection};

/// Whoever sent a time within the first year meant another unit.
const YEAR_NS: i64 = 365 * 86_400 * 1_000_000_000;

/// What is shown for the types of Go's profiles when the sender does not say.
const BUILT_IN_DISPLAY: [(&str, &str); 4] = [
    ("samples", "cpu"),
    ("goroutine", "goroutines"),
    ("contentions", "mutex_count"),
    ("delay", "mutex_duration"),
];

/// Applies the repairs and chooses `__name__`.
pub(crate) fn prepare(
    raw: &mut RawProfile<'_>,
    ingest: &Ingest<'_>,
    labels: &LabelText<'_>,
) -> Result<String, Rejection> {
    repair_time(raw, ingest.from);
    if matches!(ingest.spy, "pyspy" | "rbspy" | "scripting") {
        prefix_filenames(raw, ingest.spy, labels)?;
    }
    if is_old_dotnet(ingest) {
        repair_dotnet(raw, labels)?;
    }
    Ok(choose(raw, ingest.display_names))
}

/// The `__name__` that all sample types of the profile share.
///
/// `display_names` are the (sample type, display name) pairs that came with the upload; `None` if
/// it came without, so that the built-in ones count.
pub fn choose(raw: &RawProfile<'_>, display_names: Option<&[(&str, &str)]>) -> String {
    let types = &raw.columns.sample_types;
    let text = |kind: &ValueType| String::from_utf8_lossy(raw.text(kind.kind));
    if types.iter().any(|kind| text(kind) == "wall") {
        return "wall".to_owned();
    }
    let display = |kind: &ValueType| {
        let own = text(kind);
        let pairs = display_names.unwrap_or(&BUILT_IN_DISPLAY);
        match pairs.iter().find(|(name, _)| *name == own) {
            Some((_, shown)) if !shown.is_empty() => (*shown).to_owned(),
            _ => own.into_owned(),
        }
    };
    let mut shown: Vec<String> = types.iter().map(display).collect();
    let family = shown.iter().find_map(|name| family(name));
    family
        .map(str::to_owned)
        .or_else(|| shown.pop())
        .unwrap_or_default()
}

fn family(display: &str) -> Option<&'static str> {
    if display.contains("cpu") {
        Some("process_cpu")
    } else if display.contains("alloc_")
        || display.contains("inuse_")
        || matches!(display, "space" | "objects")
    {
        Some("memory")
    } else if display.contains("mutex_") {
        Some("mutex")
    } else if display.contains("block_") {
        Some("block")
    } else if display.contains("goroutines") {
        Some("goroutines")
    } else {
        None
    }
}

fn repair_time(raw: &mut RawProfile<'_>, from: Timestamp) {
    if (0..YEAR_NS).contains(&raw.columns.time_ns) {
        raw.columns.time_ns = from.0;
    }
}

/// The names of scripting languages say little without their file.
fn prefix_filenames(
    raw: &mut RawProfile<'_>,
    spy: &str,
    labels: &LabelText<'_>,
) -> Result<(), Rejection> {
    let mut joined = Vec::new();
    for at in 0..raw.columns.functions.len() {
        let function = raw.columns.functions.get(at);
        let filename = raw.text(function.filename);
        if filename.is_empty() || (spy == "pyspy" && filename.starts_with(b"/")) {
            continue;
        }
        joined.clear();
        joined.extend_from_slice(filename);
        joined.push(b' ');
        joined.extend_from_slice(raw.text(function.name));
        let Some(name) = raw.push_string(&joined) else {
            let problem = "its function names with their files are too long to keep";
            return Err(Rejection::malformed(labels, problem));
        };
        raw.columns.functions.set_name(at, name);
    }
    Ok(())
}

fn is_old_dotnet(ingest: &Ingest<'_>) -> bool {
    let config_tells = || {
        let pairs = ingest.display_names.unwrap_or_default();
        pairs.iter().any(|(kind, _)| *kind == "inuse-space")
    };
    ingest.spy == "dotnetspy" || (matches!(ingest.spy, "" | "unknown") && config_tells())
}

/// Old .NET profilers left all function ids 0 and put dashes into sample types.
fn repair_dotnet(raw: &mut RawProfile<'_>, labels: &LabelText<'_>) -> Result<(), Rejection> {
    let columns = &mut raw.columns;
    if columns.functions.len() == columns.locations.len()
        && columns.functions.ids().all(|id| id == 0)
    {
        for (at, id) in columns.locations.ids().enumerate() {
            columns.functions.set_id(at, id);
        }
    }
    for at in 0..raw.columns.sample_types.len() {
        let kind = raw.columns.sample_types[at].kind;
        let text = raw.text(kind);
        if !text.contains(&b'-') {
            continue;
        }
        let repaired: Vec<u8> = text
            .iter()
            .map(|&byte| if byte == b'-' { b'_' } else { byte })
            .collect();
        let Some(kind) = raw.push_string(&repaired) else {
            return Err(Rejection::malformed(
                labels,
                "its sample types are too long",
            ));
        };
        raw.columns.sample_types[at].kind = kind;
    }
    Ok(())
}
