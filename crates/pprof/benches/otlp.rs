//! An export of 1,300 profiles over one dictionary: read and converted, and normalised as well.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scoria_model::{ByteBudget, Limits, RetryKey, Timestamp};
use scoria_pprof::otlp::Export;
use scoria_pprof::otlp::encode::{
    AttributeValue, ExportEncoder, Generation, ProfileHeader, SampleRow, Texts,
};
use scoria_pprof::{About, DraftTerms, Joined, Normaliser, Origin};

const PROFILES: usize = 1300;
const SAMPLES: usize = 25;
const DEPTH: usize = 30;
const FUNCTIONS: u64 = 4000;

fn export() -> Vec<u8> {
    let mut state = 1_u64;
    let mut draw = move |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % bound
    };
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::Interned);
    let locations: Vec<u32> = (0..FUNCTIONS)
        .map(|n| {
            let name = format!("example.com/service/package{}.Function{n}", n % 40);
            let function = encoder.function(&name, &format!("package{}/file.go", n % 40));
            encoder.location(0, 0, &[(function, (n % 90) as i64)])
        })
        .collect();
    for profile in 0..PROFILES {
        let name = format!("service-{}", profile % 60);
        let pid = AttributeValue::Number(profile as i64);
        encoder.resource(&[
            ("service.name", AttributeValue::Text(&name)),
            ("process.pid", pid),
        ]);
        encoder.scope("bench", &[]);
        let thread = encoder.attribute("thread.name", &AttributeValue::Text("worker"));
        let thread = [thread];
        let rows: Vec<SampleRow<'_>> = (0..SAMPLES)
            .map(|_| {
                let mut at = draw(FUNCTIONS);
                let stack: Vec<u32> = (0..DEPTH)
                    .map(|_| {
                        at = (at * 7 + draw(3)) % FUNCTIONS;
                        locations[at as usize]
                    })
                    .collect();
                SampleRow {
                    stack: encoder.stack(&stack),
                    attributes: &thread,
                    values: &[1],
                    ..SampleRow::default()
                }
            })
            .collect();
        let header = ProfileHeader {
            sample_type: ("samples", "count"),
            period_type: ("cpu", "nanoseconds"),
            period: 50_000_000,
            time_ns: 1,
            duration_ns: 5_000_000_000,
            ..ProfileHeader::default()
        };
        encoder.profile(&header, &rows);
    }
    encoder.finish()
}

fn otlp(c: &mut Criterion) {
    let body = export();
    let terms = DraftTerms {
        seed: 1,
        memory: ByteBudget::new("bench", 1 << 30),
        max_bytes: 4 << 20,
    };
    let limits = Limits {
        reject_older_than_ms: 0,
        ..Limits::default()
    };
    let mut group = c.benchmark_group("otlp");
    group.throughput(Throughput::Elements((PROFILES * SAMPLES) as u64));
    group.bench_function("read and convert", |b| {
        b.iter(|| {
            let export = Export::read(&body, &terms.memory).unwrap();
            let mut converter = export.converter();
            for at in 0..export.n_profiles() {
                drop(converter.profile(at, &terms).unwrap());
            }
        });
    });
    let mut normaliser = Normaliser::new(1);
    group.bench_function("read, convert and normalise", |b| {
        b.iter(|| {
            let export = Export::read(&body, &terms.memory).unwrap();
            let mut converter = export.converter();
            let mut joined = Joined::new(1, export.room());
            for at in 0..export.n_profiles() {
                for converted in converter.profile(at, &terms).unwrap() {
                    let pairs = converted.labels.iter();
                    let labels: Vec<(&str, &str)> = pairs.map(|(n, v)| (&**n, &**v)).collect();
                    let about = About {
                        labels: &labels,
                        origin: Origin::Push,
                        key: RetryKey([0; 16]),
                        now: Timestamp(2),
                    };
                    let draft = (converted.draft, Some(&export));
                    normaliser
                        .normalise_into(&mut joined, draft, &about, &limits)
                        .unwrap();
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, otlp);
criterion_main!(benches);
