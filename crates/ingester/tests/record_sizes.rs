//! How many bytes records and heads take, on real profiles; says so and passes when there are none.
//!
//! The fleet is one service of sixty pods. Pod p replays real profiles from an offset of its own;
//! each hit of a stack is kept with a probability of 85 %, and 15 % of the hits of the profile after
//! it are added, so that all profiles differ.

#![allow(
    clippy::unwrap_used,
    reason = "test code, of which the functions outside tests are part"
)]

use std::path::PathBuf;

use scoria_ingester::head::Heads;
use scoria_ingester::record::{EncodedRecord, RecordReader, RecordWriter, Replayed, Taken};
use scoria_model::part::{Part, PartView};
use scoria_model::{Labels, Limits, Packed, RetryKey, Seq, TenantId, Timestamp};
use scoria_pprof::Decompressor;
use scoria_pprof::normalise::{Normaliser, Origin, Upload};

const PODS: usize = 60;
const ROUNDS: usize = 30;
const BATCH: usize = 100;

/// xorshift64*, so that the fleet is the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % n
    }
}

/// The real profiles of a process and kind, in order of time.
fn real(process: &str, kind: &str) -> Vec<Part> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus");
    let corpus =
        std::env::var_os("SCORIA_CORPUS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let Ok(folder) = std::fs::read_dir(corpus.join("go")) else {
        eprintln!(
            "skipped: no corpus at {}; set SCORIA_CORPUS",
            corpus.display()
        );
        return Vec::new();
    };
    let start = format!("{process}-0.{kind}.");
    let mut files: Vec<PathBuf> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&start)
        })
        .collect();
    files.sort();
    let name = if kind == "cpu" {
        "process_cpu"
    } else {
        "memory"
    };
    let labels = [("__name__", name), ("service_name", process)];
    let limits = Limits {
        reject_older_than_ms: 0,
        reject_newer_than_ms: 0,
        ..Limits::default()
    };
    let (mut gunzip, mut normaliser) = (Decompressor::new(), Normaliser::new(1));
    let parts = files.iter().map(|file| {
        let body = std::fs::read(file).unwrap();
        let upload = Upload {
            pprof: gunzip.decompress(&body, 0).unwrap(),
            labels: &labels,
            origin: Origin::Push,
            key: RetryKey([0; 16]),
            now: Timestamp(0),
        };
        normaliser.normalise(&upload, &limits).unwrap().part
    });
    parts.collect()
}

fn pod_labels(pod: usize) -> Labels {
    let subnet = pod % 7;
    Labels::from_pairs([
        ("__name__", "process_cpu".to_owned()),
        ("cluster", "eu-west-1".to_owned()),
        ("container", "prometheus".to_owned()),
        ("instance", format!("10.0.{subnet}.{pod}:9090")),
        ("namespace", "shop".to_owned()),
        (
            "node",
            format!("ip-10-0-{subnet}-{}.eu-west-1.compute.internal", pod * 3),
        ),
        ("pod", format!("prometheus-7c9d8b6f5-{:05x}", pod * 7919)),
        ("service_name", "shop/prometheus".to_owned()),
    ])
}

/// The symbols and stacks of `from` behind those of `to`; the number of the first stack.
fn join(to: &mut Part, from: &Part) -> u32 {
    let (strings, functions) = (to.strings.len() as u32, to.functions.len() as u32);
    let (mappings, locations) = (to.mappings.len() as u32, to.locations.len() as u32);
    let (lines, frames) = (to.lines.len() as u32, to.frames.len() as u32);
    let first = to.stack_ends.len() as u32;
    for at in 0..from.strings.len() as u32 {
        to.strings
            .push(std::str::from_utf8(from.strings.get(at)).unwrap());
    }
    to.mappings
        .extend(from.mappings.iter().map(|&(mut mapping)| {
            mapping.filename += strings;
            mapping.build_id += strings;
            mapping
        }));
    for mut function in from.functions.iter() {
        function.name += strings;
        function.system_name += strings;
        function.filename += strings;
        to.functions.push(function);
    }
    let mapping = |id: u32| id.checked_add(1).map_or(id, |_| id + mappings);
    to.locations
        .extend(from.locations.iter().map(|mut location| {
            location.mapping = mapping(location.mapping);
            location.lines_end += lines;
            location
        }));
    to.lines.extend(from.lines.iter().map(|mut line| {
        line.function += functions;
        line
    }));
    to.frames
        .extend(from.frames.iter().map(|frame| frame + locations));
    to.stack_ends
        .extend(from.stack_ends.iter().map(|end| end + frames));
    first
}

fn samples_of(part: &Part) -> (&Packed<u32>, &Packed<i64>) {
    (&part.sample_stack, &part.sample_value)
}

/// A pod's profile made of two real ones.
fn relabelled(profiles: &[&Part; 2], pod: usize, round: usize, dice: &mut Dice) -> Vec<u8> {
    let mut part = profiles[0].clone();
    let second = join(&mut part, profiles[1]);
    let (stacks, values) = (
        std::mem::take(&mut part.sample_stack),
        std::mem::take(&mut part.sample_value),
    );
    // The rows count hits and time; the hits that are kept must be the same in both.
    let mut hits = Vec::new();
    for (of, first, percent) in [
        ((&stacks, &values), 0, 85),
        (samples_of(profiles[1]), second, 15),
    ] {
        let end = profiles[usize::from(first > 0)].profiles[0].samples_end as usize;
        for (stack, value) in of.0.iter().zip(of.1.iter()).take(end) {
            let kept = (0..value).filter(|_| dice.below(100) < percent).count() as i64;
            if kept > 0 {
                hits.push((stack + first, kept));
            }
        }
    }
    for (row, factor) in [(0, 1), (1, part.profiles[0].period)] {
        part.sample_stack
            .extend(hits.iter().map(|&(stack, _)| stack));
        part.sample_value
            .extend(hits.iter().map(|&(_, hits)| hits * factor));
        part.profiles[row].samples_end = part.sample_stack.len() as u32;
    }
    for byte in part.writes.iter_mut().flat_map(|write| &mut write.key.0) {
        *byte = dice.below(256) as u8;
    }
    let series = part.push_series(&pod_labels(pod));
    let start = 1_795_350_700_000_000_000 + round as i64 * 15_000_000_000;
    let jitter = dice.below(40_000_000) as i64;
    for row in &mut part.profiles {
        row.series = series;
        row.time = Timestamp(start + pod as i64 * 250_000_000 + jitter);
    }
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    bytes
}

fn compressed(bytes: &[u8]) -> usize {
    zstd::bulk::compress(bytes, 1).unwrap().len()
}

struct Sizes {
    samples_per_profile: f64,
    raw: usize,
    single: usize,
    batched: usize,
}

/// Mean bytes per record.
fn measure(name: &str, records: &[EncodedRecord]) -> Sizes {
    let n = records.len();
    let samples: u32 = records
        .iter()
        .flat_map(|record| &record.push.heads)
        .flat_map(|head| &head.profiles)
        .map(|profile| profile.n_samples)
        .sum();
    let bytes: Vec<&[u8]> = records
        .iter()
        .map(|record| record.bytes.as_slice())
        .collect();
    let sizes = Sizes {
        samples_per_profile: f64::from(samples) / n as f64,
        raw: bytes.iter().map(|b| b.len()).sum::<usize>() / n,
        single: bytes
            .iter()
            .map(|b| b.len().min(compressed(b)))
            .sum::<usize>()
            / n,
        batched: bytes
            .chunks(BATCH)
            .map(|batch| compressed(&batch.concat()))
            .sum::<usize>()
            / n,
    };
    eprintln!(
        "{name}: {n} records of {:.0} samples: {} B raw, {} B singly, {} B in batches of {BATCH}",
        sizes.samples_per_profile, sizes.raw, sizes.single, sizes.batched
    );
    sizes
}

fn written(parts: &[Vec<u8>]) -> Vec<EncodedRecord> {
    let mut writer = RecordWriter::new();
    let tenant = TenantId::anonymous();
    parts
        .iter()
        .map(|bytes| {
            let part = PartView::parse(bytes).unwrap();
            let arrival = Timestamp(part.profile_time.get(0) + 10_123_456_789);
            writer.encode(arrival, &tenant, &[Taken::whole(part)])
        })
        .collect()
}

fn replayed(records: &[EncodedRecord]) -> Heads {
    let (mut reader, mut heads) = (RecordReader::new(), Heads::new());
    for (seq, record) in (1..).map(Seq).zip(records) {
        match reader.replay(&record.bytes).unwrap() {
            Replayed::Push(push) => heads.append(&push, seq),
            Replayed::RetryKeys(_) => panic!("a push was written"),
        }
    }
    heads
}

#[test]
fn cpu_profiles_of_a_fleet() {
    let profiles = real("prometheus", "cpu");
    if profiles.is_empty() {
        return;
    }
    let mut dice = Dice(42);
    let mut parts = Vec::new();
    for round in 0..ROUNDS {
        for pod in 0..PODS {
            let at = (round + pod * 37) % profiles.len();
            let two = [&profiles[at], &profiles[(at + 1) % profiles.len()]];
            parts.push(relabelled(&two, pod, round, &mut dice));
        }
    }
    let records = written(&parts);
    let sizes = measure("prometheus cpu, 60 pods", &records);
    assert!(
        sizes.samples_per_profile > 180.0,
        "{}",
        sizes.samples_per_profile
    );
    assert!(sizes.single <= 700, "{}", sizes.single);
    assert!(sizes.batched <= 500, "{}", sizes.batched);

    let heads = replayed(&records);
    let samples: u64 = heads.iter().map(|head| head.n_samples()).sum();
    let symbols: u64 = heads
        .iter()
        .map(|head| head.snapshot().symbols().bytes())
        .sum();
    let per_sample = heads.bytes() as f64 / samples as f64;
    eprintln!(
        "heads: {per_sample:.2} B per sample in all, of which symbols {:.2}",
        symbols as f64 / samples as f64
    );
    assert!(per_sample <= 16.0, "{per_sample}");
}

#[test]
fn heap_profiles_are_told_as_differences() {
    for process in ["prometheus", "etcd"] {
        let profiles = real(process, "heap");
        if profiles.is_empty() {
            return;
        }
        let encoded = profiles.iter().map(|part| {
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            bytes
        });
        let records = written(&encoded.collect::<Vec<_>>());
        let (_, later) = records.split_first().unwrap();
        let sizes = measure(&format!("{process} heap, after the first"), later);
        let in_full: usize = later
            .iter()
            .flat_map(|record| &record.push.heads)
            .map(|head| head.samples.len())
            .sum();
        eprintln!(
            "its samples in full: {} B per record",
            in_full / later.len()
        );
        assert!(sizes.raw < in_full / later.len(), "{}", sizes.raw);
        let heads = replayed(&records);
        assert_eq!(
            heads.iter().map(|head| head.n_profiles()).sum::<u64>(),
            4 * records.len() as u64
        );
    }
}
