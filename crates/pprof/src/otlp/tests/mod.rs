//! Exports as their senders mean them, written in every form, and drafts as text.

mod corpus;
mod forms;
mod hostile;
mod mapping;
mod sharing;

use scoria_model::ByteBudget;

use super::encode::{AttributeValue, ExportEncoder, Generation, ProfileHeader, SampleRow, Texts};
use super::{Converted, Export, ExportError};
use crate::raw::Ids;
use crate::tables::{Stacks, Symbols};
use crate::{DraftTerms, RawProfile};

pub(super) fn terms() -> DraftTerms {
    DraftTerms {
        seed: 1,
        memory: ByteBudget::new("test", 64 << 20),
        max_bytes: 4 << 20,
    }
}

/// What every profile of an export became: labels and samples as text, or the refusal.
pub(super) fn outcome(body: &[u8]) -> Result<Vec<String>, ExportError> {
    let terms = terms();
    let outcome = Export::read(body, &terms.memory).map(|export| texts(&export, &terms));
    assert_eq!(terms.memory.used(), 0, "everything is given back");
    outcome
}

pub(super) fn outcome_of_json(text: &str) -> Result<Vec<String>, ExportError> {
    let terms = terms();
    let (body, permit) = super::json::transcode(text.as_bytes(), &terms.memory)?;
    let outcome =
        Export::read_transcoded(&body, &terms.memory).map(|export| texts(&export, &terms));
    drop(permit);
    assert_eq!(terms.memory.used(), 0, "everything is given back");
    outcome
}

fn texts(export: &Export<'_>, terms: &DraftTerms) -> Vec<String> {
    let mut converter = export.converter();
    let mut texts = Vec::new();
    for at in 0..export.n_profiles() {
        match converter.profile(at, terms) {
            Ok(converted) => texts.extend(converted.into_iter().map(|one| text(export, one))),
            Err(refused) => texts.push(format!("refused: {refused}")),
        }
    }
    texts
}

fn text(export: &Export<'_>, mut converted: Converted) -> String {
    let mut labels: Vec<String> = converted
        .labels
        .iter()
        .filter(|(name, _)| !matches!(&**name, "__delta__" | "__otel__"))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    labels.sort_unstable();
    let raw = converted.draft.raw();
    let string = |at: u32| String::from_utf8_lossy(raw.text(at)).into_owned();
    let columns = &raw.columns;
    let kind = columns.sample_types[0];
    let mut lines = vec![format!(
        "{} {}/{} per {} {}/{} at {} for {}",
        labels.join(","),
        string(kind.kind),
        string(kind.unit),
        columns.period,
        string(columns.period_type.kind),
        string(columns.period_type.unit),
        columns.time_ns,
        columns.duration_ns,
    )];
    let symbol = |at: u32| String::from_utf8_lossy(export.text(at)).into_owned();
    let location = |frame: &u32| {
        let mut lines = Vec::new();
        let (mapping, address) = export.location(*frame as usize - 1, &mut lines);
        let functions = lines.iter().map(|line| {
            let function = export.function(line.function as usize - 1);
            let (name, file) = (symbol(function.name), symbol(function.filename));
            format!("{name}@{file}:{}", line.line)
        });
        let functions: Vec<String> = functions.collect();
        let mapping = match mapping {
            0 => String::new(),
            id => {
                let at = id as usize - 1;
                let build_id = export.build_id(at);
                let build_id = String::from_utf8_lossy(&build_id);
                format!("{}({build_id})", symbol(export.mapping(at).filename))
            }
        };
        format!("{mapping}+{address:x}[{}]", functions.join(" "))
    };
    let mut samples: Vec<(String, i64)> = Vec::new();
    for at in 0..columns.samples.len() {
        let sample = raw.sample(at);
        let mut frames = Vec::new();
        for stack in columns.frames.slice(sample.frames()) {
            export.frames(stack as usize, &mut frames);
        }
        let frames: Vec<String> = frames.iter().map(location).collect();
        let mut labels: Vec<String> = columns
            .labels
            .slice(sample.labels())
            .map(|label| format!("{}={}", string(label.key), string(label.text)))
            .collect();
        labels.extend(ids(&raw, at));
        let told = format!("{} {{{}}}", frames.join(";"), labels.join(","));
        let value = columns.values.get(sample.values().start);
        // Equal entries of the dictionary become one when they are normalised.
        match samples.iter_mut().find(|(known, _)| *known == told) {
            Some((_, sum)) => *sum += value,
            None => samples.push((told, value)),
        }
    }
    let samples = samples.iter();
    lines.extend(samples.map(|(told, value)| format!("  {value} {told}")));
    lines.join("\n")
}

/// Span and trace of a sample, as labels would say them.
pub(super) fn ids(raw: &RawProfile<'_>, at: usize) -> Vec<String> {
    let Ids { span, trace } = raw.ids(at);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let span = (span != 0).then(|| format!("span_id={}", hex(&span.to_le_bytes())));
    let trace = (trace != [0; 16]).then(|| format!("trace_id={}", hex(&trace)));
    span.into_iter().chain(trace).collect()
}

/// A small export of one profile, whose sample fields `edit` may change.
pub(super) fn simple(generation: Generation, edit: impl FnOnce(&mut SampleRow<'_>)) -> Vec<u8> {
    let mut encoder = ExportEncoder::new(generation, Texts::InPlace);
    let function = encoder.function("main", "main.c");
    let mapping = encoder.mapping("/bin/app", (0x1000, 0x2000), &[]);
    let location = encoder.location(mapping, 0x1234, &[(function, 7)]);
    let native = encoder.location(mapping, 0x1500, &[]);
    let stack = encoder.stack(&[native, location]);
    let thread = encoder.attribute("thread.name", &AttributeValue::Text("worker"));
    let link = encoder.link([7; 16], [9; 8]);
    encoder.resource(&[("service.name", AttributeValue::Text("shop"))]);
    encoder.scope("scope-a", &[]);
    let mut sample = SampleRow {
        stack,
        attributes: &[thread],
        link,
        values: &[3],
        times_ns: &[],
    };
    edit(&mut sample);
    encoder.profile(
        &ProfileHeader {
            sample_type: ("samples", "count"),
            period_type: ("cpu", "nanoseconds"),
            period: 10,
            time_ns: 1_000,
            duration_ns: 500,
            ..ProfileHeader::default()
        },
        &[sample],
    );
    encoder.finish()
}
