//! Every real pprof as an export of OTLP: a profile for each of its sample types, over one
//! dictionary. Types follow OTLP's rules, and so do the scales; the flame graphs are those of the file.

use bytes::Bytes;
use scoria_distributor::otlp::{Encoding, ExportRequest, Exported};
use scoria_pprof::otlp::encode::{
    AttributeValue, ExportEncoder, Generation, ProfileHeader, SampleRow, Texts,
};
use scoria_pprof::{Decompressor, RawProfile};

use crate::corpus::{FILES, corpus, limits};
use crate::corpus_routes::{Flames, all_given_back, flames_of, repaired_if_known, without_shapes};
use crate::support::{House, tenant};

/// Why some of a file is not stored: its locations have neither lines nor an address.
const WITHOUT_FRAMES: &str = "no_addr_no_line.pb.gz";

/// The texts of a profile by their index, and its types as they are written: dashes, which `/ingest`
/// repairs for one sender, are underscores here.
fn text(raw: &RawProfile<'_>, at: u32) -> String {
    String::from_utf8_lossy(raw.text(at)).into_owned()
}

fn kind(raw: &RawProfile<'_>, at: u32) -> String {
    text(raw, at).replace('-', "_")
}

/// Stack and attributes of each sample, and its values; those with a negative one are left out.
type Rows = Vec<(u32, Vec<u32>, Vec<i64>)>;

fn rows(raw: &RawProfile<'_>, encoder: &mut ExportEncoder) -> Rows {
    let columns = &raw.columns;
    let functions: std::collections::HashMap<u64, u32> = columns
        .functions
        .iter()
        .map(|f| {
            (
                f.id,
                encoder.function(&text(raw, f.name), &text(raw, f.filename)),
            )
        })
        .collect();
    let locations: std::collections::HashMap<u64, u32> = (0..columns.locations.len())
        .map(|at| {
            let location = columns.locations.get(at);
            let lines = raw.lines_of(at);
            let lines: Vec<(u32, i64)> = lines
                .map(|line| (functions[&line.function], line.line))
                .collect();
            (location.id, encoder.location(0, location.address, &lines))
        })
        .collect();
    let samples = (0..columns.samples.len()).filter_map(|at| {
        let sample = raw.sample(at);
        let values = columns
            .values
            .slice(sample.values())
            .iter()
            .collect::<Vec<_>>();
        let frames = columns.frames.slice(sample.frames()).iter();
        let frames: Vec<u32> = frames
            .map(|frame| locations[&raw.location_id(frame)])
            .collect();
        let labels = columns.labels.slice(sample.labels());
        let attributes = labels
            .filter(|label| !raw.text(label.text).is_empty())
            .map(|label| {
                let value = text(raw, label.text);
                encoder.attribute(&text(raw, label.key), &AttributeValue::Text(&value))
            });
        let attributes: Vec<u32> = attributes.collect();
        let is_positive = values.iter().all(|&value| value >= 0);
        is_positive.then(|| (encoder.stack(&frames), attributes, values))
    });
    samples.collect()
}

fn export_of(raw: &RawProfile<'_>) -> Vec<u8> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let rows = rows(raw, &mut encoder);
    encoder.resource(&[("service.name", AttributeValue::Text("app"))]);
    encoder.scope("corpus", &[]);
    let columns = &raw.columns;
    let period_type = &columns.period_type;
    let (period_kind, period_unit) = (kind(raw, period_type.kind), text(raw, period_type.unit));
    for (nth, sample_type) in columns.sample_types.iter().enumerate() {
        let samples = rows.iter().filter(|(.., values)| values[nth] != 0);
        let samples: Vec<SampleRow<'_>> = samples
            .map(|(stack, attributes, values)| SampleRow {
                stack: *stack,
                attributes,
                values: &values[nth..=nth],
                ..SampleRow::default()
            })
            .collect();
        let header = ProfileHeader {
            sample_type: (&kind(raw, sample_type.kind), &text(raw, sample_type.unit)),
            period_type: (&period_kind, &period_unit),
            period: columns.period,
            time_ns: columns.time_ns as u64,
            ..ProfileHeader::default()
        };
        encoder.profile(&header, &samples);
    }
    encoder.finish()
}

/// The flame graphs of a file under the types that OTLP's rules make, in their scale.
fn expected(raw: &RawProfile<'_>, flames: &Flames) -> Flames {
    let columns = &raw.columns;
    let period_kind = kind(raw, columns.period_type.kind);
    let period_unit = text(raw, columns.period_type.unit);
    let mut out = Flames::new();
    for sample_type in &columns.sample_types {
        let (of, unit) = (kind(raw, sample_type.kind), text(raw, sample_type.unit));
        let Some(flame) = flames.get(&format!("{of}:{unit}")) else {
            continue;
        };
        let has_period = columns.period != 0 && !period_kind.is_empty();
        let is_cpu = (&*period_kind, &*period_unit) == ("cpu", "nanoseconds") && has_period;
        let (name, told, scale) = match &*of {
            "samples" if unit == "count" && is_cpu => {
                ("process_cpu", "cpu:nanoseconds".to_owned(), columns.period)
            }
            _ => {
                let name = match &*of {
                    _ if has_period => &*period_kind,
                    "cpu" | "samples" => "process_cpu",
                    _ if of.starts_with("alloc_") || of.starts_with("inuse_") => "memory",
                    _ if of.starts_with("lock_") => "mutex",
                    of => of,
                };
                (name, format!("{of}:{unit}"), 1)
            }
        };
        let kind = format!("{name}:{told}:{period_kind}:{period_unit}");
        let into = out.entry(kind).or_default();
        for (stack, value) in flame {
            *into.entry(stack.clone()).or_default() += value * scale;
        }
    }
    out
}

#[tokio::test]
async fn each_file_as_an_export() {
    let Some(root) = corpus() else { return };
    for file in FILES {
        let packed = std::fs::read(root.join(file.path)).expect("the file is in the corpus");
        let mut decompressor = Decompressor::new();
        let plain = decompressor.decompress(&packed, 1 << 26);
        let raw = RawProfile::decode(plain.expect("it decompresses")).expect("it is a pprof");
        let body = Bytes::from(export_of(&raw));
        let house = House::new(limits());
        for resend in [false, true] {
            let request = ExportRequest {
                body: body.clone(),
                encoding: Encoding::Protobuf,
                user_agent: String::new(),
            };
            let exported = house.distributor.export(&tenant(), request).await;
            let exported = exported.unwrap_or_else(|error| panic!("{}: {error}", file.path));
            assert_eq!(exported, Exported::default(), "{}", file.path);
            assert_eq!(house.discarded("duplicate") > 0, resend, "{}", file.path);
            if resend {
                continue;
            }
            if file.path.ends_with(WITHOUT_FRAMES) {
                assert!(house.dropped("broken_reference") > 0);
                continue;
            }
            let flames = flames_of(&packed, |name, _| without_shapes(name));
            let n = all_given_back(&house.ingester.flames(), &expected(&raw, &flames));
            repaired_if_known(
                file.path,
                n.unwrap_or_else(|error| panic!("{}: {error}", file.path)),
            );
        }
        assert_eq!(house.bodies.used(), 0, "{}", file.path);
    }
}
