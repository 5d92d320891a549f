//! How much memory one request takes at its peak, by what the allocator says: the body, what it is
//! decoded into, what is handed to the ingester and what that keeps of it.
//!
//! A binary of its own with one test, so that nothing else allocates meanwhile.

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use scoria_distributor::IngestRequest;
use scoria_distributor::otlp::{Encoding, ExportRequest};
use scoria_model::varint::{put_bytes, put_u64};
use scoria_model::{Limits, TenantId};
use scoria_pprof::otlp::encode::{
    AttributeValue, ExportEncoder, Generation, ProfileHeader, SampleRow, Texts,
};
use support::House;

#[path = "distributor/support.rs"]
#[expect(
    dead_code,
    reason = "this binary needs a part of what the other one does"
)]
mod support;

#[path = "../../pprof/tests/suite/jfr_writer.rs"]
#[expect(dead_code, reason = "as above")]
mod jfr_writer;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// A request may take this many times its decompressed size.
const TIMES_MAX: f64 = 4.0;
const STACKS: usize = 3_000;
const DEPTH: usize = 24;
/// Of the pprof.
const N_LOCATIONS: usize = 15_000;

/// Stacks as a service has them: a few hundred functions in ever other order.
fn frames(stack: usize) -> impl Iterator<Item = String> {
    (0..DEPTH).map(move |depth| {
        let n = (stack * 7 + depth * 31 + stack * depth) % 700;
        format!("com.example.shop.module{}.Service{n}.handleRequest", n % 40)
    })
}

fn folded() -> Vec<u8> {
    let lines =
        (0..STACKS).map(|at| format!("{} {}\n", frames(at).collect::<Vec<_>>().join(";"), at + 1));
    lines.collect::<String>().into_bytes()
}

/// A root with a branch for each stack: nothing is shared, as in the worst of trees.
fn branches(fragment: impl Fn(usize, String) -> String) -> Vec<u8> {
    let mut out = Vec::new();
    let mut node = |name: &str, own: usize, n_children: usize| {
        put_bytes(&mut out, name.as_bytes());
        put_u64(&mut out, own as u64);
        put_u64(&mut out, n_children as u64);
    };
    node("", 0, STACKS);
    for stack in 0..STACKS {
        for (depth, name) in frames(stack).enumerate() {
            let is_leaf = depth + 1 == DEPTH;
            let own = if is_leaf { stack + 1 } else { 0 };
            node(&fragment(depth, name), own, usize::from(!is_leaf));
        }
    }
    out
}

fn speedscope() -> Vec<u8> {
    let names: Vec<String> = (0..700)
        .map(|n| {
            format!(
                "{{\"name\":\"com.example.shop.module{}.Service{n}.handleRequest\"}}",
                n % 40
            )
        })
        .collect();
    let samples: Vec<String> = (0..STACKS * 4)
        .map(|stack| {
            let frames = (0..DEPTH)
                .map(|depth| ((stack * 7 + depth * 31 + stack * depth) % 700).to_string());
            format!("[{}]", frames.collect::<Vec<_>>().join(", "))
        })
        .collect();
    let weights = vec!["0.0100001"; STACKS * 4];
    format!(
        r#"{{"$schema":"https://www.speedscope.app/file-format-schema.json","shared":{{"frames":[{}]}},"profiles":[{{"type":"sampled","name":"p","unit":"seconds","samples":[{}],"weights":[{}]}}]}}"#,
        names.join(","),
        samples.join(","),
        weights.join(",")
    )
    .into_bytes()
}

/// As the JVM's profiler writes it: each stack a few times, on the processor and for allocations.
fn jfr() -> Vec<u8> {
    use jfr_writer::{Chunk, RUNNABLE, Value, class};
    let mut chunk = Chunk::new();
    for at in 0..STACKS {
        let methods: Vec<(String, u32)> = (0..DEPTH)
            .map(|depth| {
                let n = (at * 7 + depth * 31 + at * depth) % 700;
                let class = format!("com/example/shop/module{}/Service{n}", n % 40);
                (class, n as u32)
            })
            .collect();
        let frames = methods.iter();
        let frames: Vec<(&str, &str, u32)> = frames
            .map(|(class, line)| (&**class, "handleRequest", *line))
            .collect();
        let stack = chunk.stack(&frames);
        for _ in 0..at % 4 {
            chunk.sample(class::EXECUTION_SAMPLE, stack, RUNNABLE, [0; 3], None);
        }
        let allocation = [at as u64, stack, 64, 4096].map(Value::Integer);
        chunk.event(class::IN_NEW_TLAB, &allocation);
    }
    chunk.finish()
}

/// What tells samples of a profile apart beside their stacks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    None,
    /// Each has a label that no other has.
    Requests,
    /// Each is of a span of its own, ten spans of a trace.
    Spans,
}

/// Like a Go profile: functions with files and lines.
fn pprof(marks: Marks) -> Vec<u8> {
    use scoria_pprof::encode::{FunctionRow, SampleLabel};
    let mut encoder = scoria_pprof::ProfileEncoder::new();
    encoder.sample_type("samples", "count");
    encoder.sample_type("cpu", "nanoseconds");
    encoder.period("cpu", "nanoseconds", 10_000_000);
    let locations: Vec<u64> = (0..N_LOCATIONS as u64)
        .map(|n| {
            let name = format!(
                "example.org/shop/module{}.(*Service{n}).handleRequest",
                n % 40
            );
            let filename = format!("/src/example.org/shop/module{}/service{n}.go", n % 40);
            let function = encoder.function(&FunctionRow {
                name: &name,
                system_name: &name,
                filename: &filename,
                start_line: 10,
            });
            encoder.location(0, 0x40_0000 + n * 64, &[(function, n as i64)])
        })
        .collect();
    for stack in 0..STACKS * 4 {
        let at = |depth| (stack * 7 + depth * 31 + stack * depth) % N_LOCATIONS;
        let frames = (0..DEPTH).map(|depth| locations[at(depth)]);
        let request = format!("request-{stack:016x}");
        let span = format!("{:016x}", stack + 1);
        let trace = format!("{:032x}", stack / 10 + 1);
        let text = |key, value| SampleLabel { key, value };
        let labels = match marks {
            Marks::None => vec![],
            Marks::Requests => vec![text("request_id", request.as_str())],
            Marks::Spans => vec![
                text("span_id", span.as_str()),
                text("trace_id", trace.as_str()),
            ],
        };
        encoder.sample(frames, &[1, 10_000_000], &labels);
    }
    encoder.finish()
}

/// Profiles of one service over one dictionary, as an agent sends them.
fn otlp(profiles: usize, samples: usize) -> Vec<u8> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let locations: Vec<u32> = (0..N_LOCATIONS as u32)
        .map(|n| {
            let name = format!("example.org/shop/module{}.Service{n}.handle", n % 40);
            let filename = format!("/src/shop/module{}/service{n}.go", n % 40);
            let function = encoder.function(&name, &filename);
            encoder.location(0, 0, &[(function, i64::from(n))])
        })
        .collect();
    for profile in 0..profiles {
        let pid = AttributeValue::Number(profile as i64);
        encoder.resource(&[
            ("service.name", AttributeValue::Text("app")),
            ("process.pid", pid),
        ]);
        encoder.scope("test", &[]);
        let rows: Vec<SampleRow<'_>> = (0..samples)
            .map(|sample| {
                let stack = profile * samples + sample;
                let at = |depth| (stack * 7 + depth * 31 + stack * depth) % N_LOCATIONS;
                let frames: Vec<u32> = (0..DEPTH).map(|depth| locations[at(depth)]).collect();
                SampleRow {
                    stack: encoder.stack(&frames),
                    values: &[1],
                    ..SampleRow::default()
                }
            })
            .collect();
        let header = ProfileHeader {
            sample_type: ("samples", "count"),
            time_ns: (support::NOW_S as u64) * 1_000_000_000,
            duration_ns: 5_000_000_000,
            ..ProfileHeader::default()
        };
        encoder.profile(&header, &rows);
    }
    encoder.finish()
}

/// How deep a stack is of a program of which an eighth of the stacks is so deep that Go's runtime cuts
/// them: giving them back their roots is part of a request, and so are the longer stacks.
const fn depth_of(stack: usize) -> usize {
    if stack.is_multiple_of(8) { 64 } else { DEPTH }
}

fn pprof_deep() -> Vec<u8> {
    use scoria_pprof::encode::FunctionRow;
    let mut encoder = scoria_pprof::ProfileEncoder::new();
    encoder.sample_type("cpu", "nanoseconds");
    let locations: Vec<u64> = (0..N_LOCATIONS as u64)
        .map(|n| {
            let name = format!("example.org/shop/module{}.Service{n}.handle", n % 40);
            let function = encoder.function(&FunctionRow {
                name: &name,
                filename: "/src/shop/service.go",
                ..FunctionRow::default()
            });
            encoder.location(0, 0, &[(function, n as i64)])
        })
        .collect();
    for stack in 0..STACKS * 4 {
        let at = |depth| (stack * 7 + depth) % N_LOCATIONS;
        let frames = (0..depth_of(stack)).map(|depth| locations[at(depth)]);
        encoder.sample(frames, &[10_000_000], &[]);
    }
    encoder.finish()
}

/// Hardly anything but functions with short names, each in one stack.
fn pprof_symbols() -> Vec<u8> {
    use scoria_pprof::encode::FunctionRow;
    let mut encoder = scoria_pprof::ProfileEncoder::new();
    encoder.sample_type("cpu", "nanoseconds");
    let locations: Vec<u64> = (0..40_000)
        .map(|n| {
            let name = format!("shop::Service{n}::handle");
            let function = encoder.function(&FunctionRow {
                name: &name,
                filename: "shop.cc",
                ..FunctionRow::default()
            });
            encoder.location(0, 0, &[(function, n % 900)])
        })
        .collect();
    for frames in locations.chunks(DEPTH) {
        encoder.sample(frames.iter().copied(), &[10_000_000], &[]);
    }
    encoder.finish()
}

/// Hardly anything but stacks, of 100 functions, and so of frames of a byte each.
fn pprof_small_program() -> Vec<u8> {
    use scoria_pprof::encode::FunctionRow;
    let mut encoder = scoria_pprof::ProfileEncoder::new();
    encoder.sample_type("cpu", "nanoseconds");
    let locations: Vec<u64> = (0..100)
        .map(|n| {
            let function = encoder.function(&FunctionRow {
                name: &format!("shop::Service{n}::handle"),
                ..FunctionRow::default()
            });
            encoder.location(0, 0, &[(function, n)])
        })
        .collect();
    for stack in 0..15_000 {
        let at = |depth| (stack * 7 + depth * (31 + stack / 100)) % locations.len();
        let frames = (0..DEPTH + stack % 3).map(|depth| locations[at(depth)]);
        encoder.sample(frames, &[10_000_000], &[]);
    }
    encoder.finish()
}

/// The same as the one whose stacks are cut, as an export.
fn otlp_deep() -> Vec<u8> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let locations: Vec<u32> = (0..N_LOCATIONS as u32)
        .map(|n| {
            let name = format!("example.org/shop/module{}.Service{n}.handle", n % 40);
            let function = encoder.function(&name, "/src/shop/service.go");
            encoder.location(0, 0, &[(function, i64::from(n))])
        })
        .collect();
    encoder.resource(&[("service.name", AttributeValue::Text("app"))]);
    encoder.scope("test", &[]);
    let rows: Vec<SampleRow<'_>> = (0..STACKS * 4)
        .map(|stack| {
            let at = |depth| (stack * 7 + depth) % N_LOCATIONS;
            let frames = (0..depth_of(stack)).map(|depth| locations[at(depth)]);
            let frames: Vec<u32> = frames.collect();
            SampleRow {
                stack: encoder.stack(&frames),
                values: &[1],
                ..SampleRow::default()
            }
        })
        .collect();
    encoder.profile(&counted(), &rows);
    encoder.finish()
}

/// Locations of a small program.
fn small_program(encoder: &mut ExportEncoder) -> Vec<u32> {
    let n_functions = 400;
    let locations = (0..n_functions).map(|n| {
        let function = encoder.function(&format!("shop.Service{n}.handle"), "/src/shop.go");
        encoder.location(0, 0, &[(function, n)])
    });
    locations.collect()
}

fn stack_of(encoder: &mut ExportEncoder, locations: &[u32], stack: usize) -> u32 {
    let at = |depth| (stack * 7 + depth * 31 + stack * depth) % locations.len();
    let frames: Vec<u32> = (0..DEPTH).map(|depth| locations[at(depth)]).collect();
    encoder.stack(&frames)
}

fn counted() -> ProfileHeader<'static> {
    ProfileHeader {
        sample_type: ("samples", "count"),
        period_type: ("cpu", "nanoseconds"),
        period: 10_000_000,
        time_ns: (support::NOW_S as u64) * 1_000_000_000,
        duration_ns: 5_000_000_000,
        ..ProfileHeader::default()
    }
}

/// A process each: what a collector says of it, and two samples.
fn otlp_tiny() -> Vec<u8> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let locations = small_program(&mut encoder);
    for profile in 0..3_000 {
        let pid = AttributeValue::Number(profile as i64);
        let service = format!("service-{}", profile % 50);
        let container = format!("{:064x}", profile / 4);
        encoder.resource(&[
            ("service.name", AttributeValue::Text(&service)),
            ("container.id", AttributeValue::Text(&container)),
            ("process.pid", pid),
            ("process.executable.name", AttributeValue::Text("shop")),
        ]);
        encoder.scope("test", &[]);
        let rows = [0, 1].map(|sample| SampleRow {
            stack: stack_of(&mut encoder, &locations, profile % 200 + sample),
            values: &[1],
            ..SampleRow::default()
        });
        encoder.profile(&counted(), &rows);
    }
    encoder.finish()
}

/// Samples with attributes, all of whose texts are in the dictionary: threads and processors, and
/// and what `marks` has of each.
fn otlp_attributes(marks: Marks) -> Vec<u8> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let locations = small_program(&mut encoder);
    encoder.resource(&[("service.name", AttributeValue::Text("app"))]);
    encoder.scope("test", &[]);
    let rows: Vec<(u32, Vec<u32>, u32)> = (0..STACKS * 4)
        .map(|sample| {
            let thread = sample % 100;
            let name = format!("worker-{thread}");
            let request = format!("request-{sample:016x}");
            let mut attributes = vec![
                ("thread.name", AttributeValue::Text(&name)),
                ("thread.id", AttributeValue::Number(thread as i64)),
                (
                    "cpu.logical_number",
                    AttributeValue::Number(sample as i64 % 8),
                ),
            ];
            let is_request = marks == Marks::Requests;
            attributes.extend(is_request.then_some(("request.id", AttributeValue::Text(&request))));
            let attributes = attributes.iter();
            let attributes = attributes.map(|(key, value)| encoder.attribute(key, value));
            let attributes = attributes.collect();
            let link = match marks {
                Marks::Spans => {
                    let trace = (sample as u128 / 10 + 1).to_be_bytes();
                    encoder.link(trace, (sample as u64 + 1).to_be_bytes())
                }
                Marks::None | Marks::Requests => 0,
            };
            let stack = stack_of(&mut encoder, &locations, sample % 7_000);
            (stack, attributes, link)
        })
        .collect();
    let rows: Vec<SampleRow<'_>> = rows
        .iter()
        .map(|(stack, attributes, link)| SampleRow {
            stack: *stack,
            attributes,
            link: *link,
            values: &[1],
            ..SampleRow::default()
        })
        .collect();
    encoder.profile(&counted(), &rows);
    encoder.finish()
}

/// As the eBPF profiler counts: times and no values.
fn otlp_times() -> Vec<u8> {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let locations = small_program(&mut encoder);
    for profile in 0..20 {
        let pid = AttributeValue::Number(profile as i64);
        encoder.resource(&[
            ("service.name", AttributeValue::Text("app")),
            ("process.pid", pid),
        ]);
        encoder.scope("test", &[]);
        let times: Vec<Vec<u64>> = (0..STACKS)
            .map(|sample| {
                let n = sample as u64 % 5 + 1;
                (0..n)
                    .map(|at| counted().time_ns + sample as u64 * 1000 + at)
                    .collect()
            })
            .collect();
        let rows: Vec<SampleRow<'_>> = times
            .iter()
            .enumerate()
            .map(|(sample, times)| SampleRow {
                stack: stack_of(&mut encoder, &locations, sample),
                times_ns: times,
                ..SampleRow::default()
            })
            .collect();
        encoder.profile(&counted(), &rows);
    }
    encoder.finish()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(plain).expect("a vector takes it");
    out.finish().expect("a vector takes it")
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are for who asks for them")]
fn a_request_takes_a_few_times_its_size() {
    type Shape = (&'static str, fn() -> Vec<u8>);
    let shapes: [Shape; 20] = [
        ("folded", folded),
        ("tree", || branches(|_, name| name)),
        ("trie", || branches(fragment)),
        ("speedscope", speedscope),
        ("jfr", jfr),
        ("pprof", || pprof(Marks::None)),
        ("pprof, gzip", || pprof(Marks::None)),
        ("pprof, request ids", || pprof(Marks::Requests)),
        ("pprof, spans", || pprof(Marks::Spans)),
        ("pprof, cut stacks", pprof_deep),
        ("pprof, symbols", pprof_symbols),
        ("pprof, small program", pprof_small_program),
        ("otlp, cut stacks", otlp_deep),
        ("otlp", || otlp(1, STACKS * 4)),
        ("otlp, many", || otlp(300, 25)),
        ("otlp, tiny", otlp_tiny),
        ("otlp, attributes", || otlp_attributes(Marks::None)),
        ("otlp, request ids", || otlp_attributes(Marks::Requests)),
        ("otlp, spans", || otlp_attributes(Marks::Spans)),
        ("otlp, times", otlp_times),
    ];
    let mut over = Vec::new();
    for (format, body) in shapes {
        // With a runtime of its own, so that nothing of the one before is given back meanwhile.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let (size, peak) = runtime.block_on(peak_of(format, body()));
        let times = peak as f64 / size as f64;
        println!("{format}: {size} bytes, {times:.2} times that at the peak");
        over.extend((times > TIMES_MAX).then(|| format!("{format}: {times:.2}")));
    }
    assert!(over.is_empty(), "{over:?}");
}

/// Bytes of the body, and of what was held at the peak, the body included.
async fn peak_of(format: &str, body: Vec<u8>) -> (usize, usize) {
    let house = House::new(Limits {
        max_profile_size_bytes: 0,
        ingestion_rate_bytes: 0,
        ..Limits::default()
    });
    let size = body.len();
    let (format, body) = match format.strip_suffix(", gzip") {
        Some(format) => (format, gzip(&body)),
        None => (format, body),
    };
    let sent = body.len();
    let tenant = TenantId::anonymous();
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let body = Bytes::from(body);
    if format.starts_with("otlp") {
        let request = ExportRequest {
            body,
            encoding: Encoding::Protobuf,
            user_agent: String::new(),
        };
        let taken = house.distributor.export(&tenant, request).await;
        taken.expect("the export is whole");
    } else {
        let format = format.split(',').next().unwrap_or_default();
        let query = format!("name=app&format={format}");
        let request = IngestRequest {
            query: &query,
            content_type: None,
            content_encoding: None,
            body,
        };
        let taken = house.distributor.ingest(&tenant, request).await;
        taken.expect("the body is whole");
    }
    let peak = HEAP.peak_usage().saturating_sub(before) + sent;
    assert!(!house.ingester.rows().is_empty(), "{format}");
    (size, peak)
}

fn fragment(depth: usize, name: String) -> String {
    if depth == 0 { name } else { format!(";{name}") }
}
