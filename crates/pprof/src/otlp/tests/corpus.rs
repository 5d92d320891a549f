//! What Pyroscope's own tests expect of small exports, where their files are on the machine.
//!
//! The files hold what comes out; what goes in is built here. One difference is meant: a frame with
//! lines has no address, which interpreters fill with other things.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

const FOLDER: &str = "pyroscope/pkg/ingester/otlp/testdata";

fn golden(name: &str) -> Option<Value> {
    let corpus = std::env::var_os("SCORIA_CORPUS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let path = corpus.join(FOLDER).join(name);
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

/// A sample as text: value, frames by function or address with their binary, labels.
fn expected(golden: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = &golden["sample_types"][0];
    let mut lines = vec![format!(
        "{}/{} per {} for {}",
        text(&kind["type"]),
        text(&kind["unit"]),
        text(&golden["period"]),
        text(&golden["duration_nanos"])
    )];
    for sample in list(&golden["samples"]) {
        let frames: Vec<String> = list(&sample["locations"])
            .iter()
            .map(|location| {
                let mapping = text(&location["mapping"]);
                let binary = mapping.split(' ').nth(1).unwrap_or_default();
                let binary = binary.trim_end_matches("()");
                match list(&location["lines"]).first() {
                    Some(line) => {
                        let line = text(line);
                        let name = line.split('[').next().unwrap_or_default();
                        let (_, place) = line.split_once('@').unwrap();
                        format!("{name}@{place} in {binary}")
                    }
                    None => format!("{} in {binary}", text(&location["address"])),
                }
            })
            .collect();
        let values = text(&sample["values"]);
        let labels = text(&sample["labels"]);
        lines.push(format!("{values} {} {{{labels}}}", frames.join(";")));
    }
    lines[1..].sort();
    lines
}

fn found(export: &Export<'_>, mut converted: Converted) -> Vec<String> {
    let raw = converted.draft.raw();
    let columns = &raw.columns;
    let string = |at: u32| String::from_utf8_lossy(raw.text(at)).into_owned();
    let kind = columns.sample_types[0];
    let (unit, period) = (string(kind.unit), columns.period);
    let mut lines = vec![format!(
        "{}/{unit} per {period} for {}",
        string(kind.kind),
        columns.duration_ns
    )];
    let symbol = |at: u32| String::from_utf8_lossy(export.text(at)).into_owned();
    let frame = |id: &u32| {
        let mut lines = Vec::new();
        let (mapping, address) = export.location(*id as usize - 1, &mut lines);
        let binary = symbol(export.mapping(mapping as usize - 1).filename);
        match lines.first() {
            Some(line) => {
                let function = export.function(line.function as usize - 1);
                let (name, file) = (symbol(function.name), symbol(function.filename));
                format!("{name}@{file}:{} in {binary}", line.line)
            }
            None => format!("0x{address:x} in {binary}"),
        }
    };
    for at in 0..columns.samples.len() {
        let sample = raw.sample(at);
        let mut frames = Vec::new();
        for stack in columns.frames.slice(sample.frames()) {
            export.frames(stack as usize, &mut frames);
        }
        let frames: Vec<String> = frames.iter().map(frame).collect();
        let mut labels: Vec<String> = columns
            .labels
            .slice(sample.labels())
            .map(|label| format!("{}={}", string(label.key), string(label.text)))
            .collect();
        labels.extend(ids(&raw, at));
        labels.sort();
        let value = columns.values.get(sample.values().start);
        lines.push(format!(
            "{value} {} {{{}}}",
            frames.join(";"),
            labels.join(",")
        ));
    }
    lines[1..].sort();
    lines
}

fn convert(encoder: ExportEncoder) -> Vec<(String, Vec<String>)> {
    let body = encoder.finish();
    let terms = terms();
    let export = Export::read(&body, &terms.memory).unwrap();
    let converted = export.converter().profile(0, &terms).unwrap();
    converted
        .into_iter()
        .map(|one| {
            let service = one.labels.last().unwrap().1.clone();
            (service, found(&export, one))
        })
        .collect()
}

fn native(encoder: &mut ExportEncoder, binary: &str, addresses: &[u64]) -> u32 {
    let mapping = encoder.mapping(binary, (0x1000, 0x1000), &[]);
    let locations: Vec<u32> = addresses
        .iter()
        .map(|&address| encoder.location(mapping, address, &[]))
        .collect();
    encoder.stack(&locations)
}

#[test]
fn off_cpu_values_are_summed() {
    let Some(golden) = golden("TestConversionOffCpu.json") else {
        return;
    };
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let two = native(&mut encoder, "file1.so", &[0x1e0, 0x2f0]);
    let one = native(&mut encoder, "file1.so", &[0x3f0]);
    encoder.scope("s", &[]);
    let row = |stack, values| SampleRow {
        stack,
        values,
        ..SampleRow::default()
    };
    let header = ProfileHeader {
        sample_type: ("off_cpu", "nanoseconds"),
        time_ns: 239,
        ..ProfileHeader::default()
    };
    encoder.profile(&header, &[row(two, &[239]), row(one, &[1, 2, 3, 4, 5, 6])]);
    assert_eq!(convert(encoder)[0].1, expected(&golden));
}

#[test]
fn attributes_of_samples_are_their_labels() {
    let Some(golden) = golden("TestSampleAttributes.json") else {
        return;
    };
    let mut encoder = ExportEncoder::new(Generation::V1_9, Texts::InPlace);
    let firefox = native(&mut encoder, "firefox.so", &[0x1e, 0x2e]);
    let chrome = native(&mut encoder, "chrome.so", &[0x3e, 0x4e]);
    let mut labels = |process: &'static str, cpu: i64| {
        [
            encoder.attribute("process", &AttributeValue::Text(process)),
            encoder.attribute("cpu.logical_number", &AttributeValue::Number(cpu)),
        ]
    };
    let (first, second) = (labels("firefox", 0), labels("chrome", 7));
    encoder.scope("s", &[]);
    let row = |stack, attributes, values| SampleRow {
        stack,
        attributes,
        values,
        ..SampleRow::default()
    };
    let header = ProfileHeader {
        sample_type: ("samples", "ms"),
        time_ns: 239,
        ..ProfileHeader::default()
    };
    encoder.profile(
        &header,
        &[row(firefox, &first, &[239]), row(chrome, &second, &[61423])],
    );
    assert_eq!(convert(encoder)[0].1, expected(&golden));
}

#[test]
fn frames_without_lines_keep_their_address() {
    let Some(golden) = golden("TestSymbolizedFunctionNames.json") else {
        return;
    };
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let stack = native(&mut encoder, "file1.so", &[0x1e0, 0x2f0]);
    encoder.scope("s", &[]);
    let header = ProfileHeader {
        sample_type: ("samples", "ms"),
        time_ns: 239,
        ..ProfileHeader::default()
    };
    encoder.profile(
        &header,
        &[SampleRow {
            stack,
            values: &[239],
            ..SampleRow::default()
        }],
    );
    assert_eq!(convert(encoder)[0].1, expected(&golden));
}

#[test]
fn a_profile_of_several_services_comes_apart() {
    let name = |service: &str| format!("TestDifferentServiceNames_{service}_profile.json");
    let goldens = ["service_a", "service_b", "unknown"].map(|service| golden(&name(service)));
    let [Some(a), Some(b), Some(unknown)] = goldens else {
        return;
    };
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let mut stack = |binary: &str, range, frames: &[(&str, &str, i64)]| {
        let mapping = encoder.mapping(binary, range, &[]);
        let locations: Vec<u32> = frames
            .iter()
            .map(|(name, file, line)| {
                let function = encoder.function(name, file);
                encoder.location(mapping, 0x1100, &[(function, *line)])
            })
            .collect();
        encoder.stack(&locations)
    };
    let of_a = [
        ("serviceA_func1", "service_a.go", 10),
        ("serviceA_func2", "service_a.go", 20),
    ];
    let of_b = [
        ("serviceB_func1", "service_b.go", 30),
        ("serviceB_func2", "service_b.go", 40),
    ];
    let of_c = [("serviceC_func3", "service_c.go", 50); 2];
    let stacks = [
        stack("service-a.so", (0x1000, 0x2000), &of_a),
        stack("service-b.so", (0x2000, 0x3000), &of_b),
        stack("service-c.so", (0x4000, 0x5000), &of_c),
    ];
    let names = ["service-a", "service-b"];
    let names = names.map(|name| [encoder.attribute("service.name", &AttributeValue::Text(name))]);
    encoder.scope("s", &[]);
    let row = |stack, attributes, values| SampleRow {
        stack,
        attributes,
        values,
        ..SampleRow::default()
    };
    let header = ProfileHeader {
        sample_type: ("samples", "count"),
        period_type: ("cpu", "nanoseconds"),
        period: 10_000_000,
        time_ns: 239,
        ..ProfileHeader::default()
    };
    encoder.profile(
        &header,
        &[
            row(stacks[2], &[], &[700]),
            row(stacks[0], &names[0], &[100]),
            row(stacks[1], &names[1], &[200]),
        ],
    );
    let found = convert(encoder);
    let expected = [
        ("service-a", &a),
        ("service-b", &b),
        ("unknown_service", &unknown),
    ]
    .map(|(service, golden)| (service.to_owned(), expected(golden)));
    assert_eq!(found, expected);
}
