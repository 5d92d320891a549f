//! Speed of JFR recordings, from the decompressed bytes to the parts, in bytes of the recording per
//! second.
//!
//! Runs over the recordings of the corpus (`SCORIA_CORPUS`, or `../shared/corpus` beside the
//! repository) and does nothing without it.

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scoria_model::{ByteBudget, Limits, RetryKey, Timestamp};
use scoria_pprof::jfr::{Conversion, JfrError, Recording, Snapshot};
use scoria_pprof::{About, Decompressor, DraftTerms, Normaliser, Origin};

const RECORDINGS: [&str; 3] = [
    "cortex-dev-01__kafka-0__cpu__0.jfr.gz",
    "cortex-dev-01__kafka-0__cpu_lock0_alloc0__0.jfr.gz",
    "dump1.jfr.gz",
];

fn folder() -> PathBuf {
    let beside = || {
        PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/corpus"
        ))
    };
    let corpus = std::env::var_os("SCORIA_CORPUS").map_or_else(beside, PathBuf::from);
    corpus.join("pyroscope/pkg/og/convert/jfr/testdata")
}

/// From bytes to parts; how many there are.
fn parts(bytes: &[u8], normaliser: &mut Normaliser, terms: &DraftTerms) -> Result<u64, JfrError> {
    let limits = Limits::default();
    let about = About {
        labels: &[("__name__", "process_cpu"), ("service_name", "bench")],
        origin: Origin::Push,
        key: RetryKey([0; 16]),
        now: Timestamp(1),
    };
    let snapshot = Snapshot::read(b"", terms.seed, &terms.memory)?;
    let recording = Recording::read(bytes, terms.seed, &terms.memory)?;
    let conversion = Conversion {
        time_ns: 1,
        duration_ns: 1,
        sample_rate: 100,
        snapshot: &snapshot,
        max_samples: limits.max_profile_stacktrace_samples,
    };
    let mut profiles = recording.profiles(conversion, terms.clone());
    let mut n = 0;
    while let Some(profile) = profiles.next_profile()? {
        let part = normaliser.normalise_draft(profile.draft, &about, &limits);
        n += u64::from(black_box(part).is_ok());
    }
    Ok(n)
}

fn benches(c: &mut Criterion) {
    let terms = DraftTerms {
        seed: 1,
        memory: ByteBudget::new("bench", 1 << 30),
        max_bytes: 4 << 20,
    };
    for name in RECORDINGS {
        let Ok(body) = std::fs::read(folder().join(name)) else {
            eprintln!("skipped: {name} is not there");
            continue;
        };
        let mut decompressor = Decompressor::new();
        let bytes = decompressor.decompress(&body, 1 << 30);
        let bytes = bytes.expect("it is gzip").to_vec();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("read", |b| {
            b.iter(|| black_box(Recording::read(&bytes, 1, &terms.memory).is_ok()));
        });
        group.bench_function("part", |b| {
            let mut normaliser = Normaliser::new(1);
            b.iter(|| parts(&bytes, &mut normaliser, &terms).expect("it is well-formed"));
        });
        group.finish();
    }
}

criterion_group!(jfr, benches);
criterion_main!(jfr);
