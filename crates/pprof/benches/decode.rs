//! Speed of the way in: gunzip, reading into columns, and the whole normalisation, in bytes of
//! plain pprof per second.
//!
//! Runs over the Go profiles of the corpus (`SCORIA_CORPUS`, or `../shared/corpus` beside the
//! repository) if they are there, else over a generated profile of similar shape.

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scoria_model::{Limits, RetryKey, Timestamp};
use scoria_pprof::encode::FunctionRow;
use scoria_pprof::{Decompressor, Normaliser, Origin, ProfileEncoder, RawProfile, Upload};

struct Input {
    name: &'static str,
    gzipped: Vec<Vec<u8>>,
    plain: Vec<Vec<u8>>,
}

fn corpus() -> PathBuf {
    std::env::var_os("SCORIA_CORPUS").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/corpus"
            ))
        },
        PathBuf::from,
    )
}

fn inputs() -> Vec<Input> {
    let kinds = [
        ("prometheus_cpu", "prometheus-0.cpu."),
        ("etcd_cpu", "etcd-0.cpu."),
        ("prometheus_heap", "prometheus-0.heap."),
    ];
    let mut found = Vec::new();
    for (name, prefix) in kinds {
        let Ok(entries) = std::fs::read_dir(corpus().join("go")) else {
            continue;
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let wanted = paths.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(prefix)
        });
        let gzipped: Vec<Vec<u8>> = wanted
            .take(20)
            .filter_map(|p| std::fs::read(p).ok())
            .collect();
        if gzipped.is_empty() {
            continue;
        }
        let mut decompressor = Decompressor::new();
        let plain = gzipped
            .iter()
            .map(|body| {
                decompressor
                    .decompress(body, 0)
                    .unwrap_or_default()
                    .to_vec()
            })
            .collect();
        found.push(Input {
            name,
            gzipped,
            plain,
        });
    }
    if found.is_empty() {
        found.push(Input {
            name: "generated_cpu",
            gzipped: Vec::new(),
            plain: vec![generated()],
        });
    }
    found
}

/// 200 samples, 28 frames deep, over 900 locations.
fn generated() -> Vec<u8> {
    let mut encoder = ProfileEncoder::new();
    encoder.sample_type("samples", "count");
    encoder.sample_type("cpu", "nanoseconds");
    encoder.period("cpu", "nanoseconds", 10_000_000);
    encoder.time(1_700_000_000_000_000_000, 10_000_000_000);
    let locations: Vec<u64> = (0..900)
        .map(|n| {
            let name = format!("example.org/package/module{}.(*Type).method{n}", n % 40);
            let filename = format!("/src/package/module{}/file.go", n % 40);
            let function = encoder.function(&FunctionRow {
                name: &name,
                system_name: &name,
                filename: &filename,
                start_line: 0,
            });
            encoder.location(0, 0x40_0000 + n * 16, &[(function, n as i64)])
        })
        .collect();
    for sample in 0..200usize {
        let frames = (0..28).map(|depth| locations[(sample * 7 + depth * 31) % 900]);
        encoder.sample(frames, &[1, 10_000_000], &[]);
    }
    encoder.finish()
}

fn upload(pprof: &[u8]) -> Upload<'_> {
    Upload {
        pprof,
        labels: &[("__name__", "process_cpu"), ("service_name", "bench")],
        origin: Origin::Push,
        key: RetryKey([0; 16]),
        now: Timestamp(1),
    }
}

fn benches(c: &mut Criterion) {
    let limits = Limits {
        reject_newer_than_ms: 0,
        reject_older_than_ms: 0,
        ..Limits::default()
    };
    for input in inputs() {
        let bytes: usize = input.plain.iter().map(Vec::len).sum();
        let mut group = c.benchmark_group(input.name);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("gunzip", |b| {
            let mut decompressor = Decompressor::new();
            b.iter(|| {
                for body in &input.gzipped {
                    black_box(decompressor.decompress(body, 1 << 22).is_ok());
                }
            });
        });
        group.bench_function("columns", |b| {
            let mut kept = Some(scoria_pprof::raw::Columns::default());
            b.iter(|| {
                for plain in &input.plain {
                    let columns = kept.take().unwrap_or_default();
                    let raw = RawProfile::decode_into(plain, columns);
                    kept = black_box(raw).ok().map(|raw| raw.columns);
                }
            });
        });
        group.bench_function("normalise", |b| {
            let mut normaliser = Normaliser::new(1);
            b.iter(|| {
                for plain in &input.plain {
                    black_box(normaliser.normalise(&upload(plain), &limits).is_ok());
                }
            });
        });
        group.finish();
    }
}

criterion_group!(decode, benches);
criterion_main!(decode);
