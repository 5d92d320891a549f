//! A fleet made of real profiles: one service, many pods, all profiles different.
//!
//! Pod p replays the profiles of one real process from an offset of its own; each hit of a stack is
//! kept with a probability of 85 %, and 15 % more hits are drawn from the profiles beside it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code, of which each test binary and bench uses a part"
)]

pub mod made;
pub mod merging;
pub mod reading;

use std::path::PathBuf;

use scoria_block::{
    BlockSpec, BlockWriter, DatasetInput, EncodedBlock, ProfileRow, ProfileRows, SampleBatch,
    StreamRange,
};
use scoria_model::part::{Function, Line, Mapping, NONE, Part, PartView};
use scoria_model::{BlockId, Incarnation, Labels, NodeId, ProfileType, Seq, StreamId, TenantId};
use scoria_pprof::raw::ValueType;
use scoria_pprof::{Decompressor, RawProfile};
use scoria_symbols::{Dictionary, InternScratch, Symbols};

/// Where the real profiles are, if they are there.
pub fn corpus() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus");
    let path =
        std::env::var_os("SCORIA_CORPUS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    path.is_dir().then_some(path)
}

/// A small generator of our own (xorshift64*), so that a fleet is the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One decoded profile: (node, values of every sample type).
#[derive(Debug)]
pub struct RealProfile {
    pub samples: Vec<(u32, Vec<i64>)>,
    pub time_ns: i64,
    pub duration_ns: i64,
    pub period: i64,
}

/// The profiles of one process and kind, in order of time, over one set of symbols.
#[derive(Debug)]
pub struct RealProfiles {
    pub symbols: Symbols,
    pub kinds: Vec<ProfileType>,
    pub profiles: Vec<RealProfile>,
}

/// Reads `go/<prefix>.*.pb.gz`, e.g. `prometheus-0.cpu`; `name` becomes the profile type's.
pub fn real_profiles(prefix: &str, name: &str) -> Option<RealProfiles> {
    let prefix = format!("{prefix}.");
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus()?.join("go"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(&prefix))
        })
        .collect();
    files.sort();
    let mut dictionary = Dictionary::new();
    let mut scratch = InternScratch::default();
    let mut unzip = Decompressor::new();
    let mut kinds = Vec::new();
    let mut profiles = Vec::new();
    for file in files {
        let body = std::fs::read(file).unwrap();
        let raw = RawProfile::decode(unzip.decompress(&body, 0).unwrap()).unwrap();
        let (part, values) = part_of(&raw);
        let mut bytes = Vec::new();
        part.encode(&mut bytes);
        dictionary.intern(&PartView::parse(&bytes).unwrap(), &mut scratch);
        let columns = &raw.columns;
        let text = |at: u32| String::from_utf8_lossy(raw.text(at)).into_owned();
        let pair = |v: &ValueType| (text(v.kind), text(v.unit));
        kinds = columns
            .sample_types
            .iter()
            .map(|v| {
                let (sample, period) = (pair(v), pair(&columns.period_type));
                ProfileType::new(name, (&sample.0, &sample.1), (&period.0, &period.1))
            })
            .collect();
        let nodes = part
            .sample_stack
            .iter()
            .map(|stack| scratch.stack_nodes[stack as usize]);
        profiles.push(RealProfile {
            samples: nodes.zip(values).collect(),
            time_ns: columns.time_ns,
            duration_ns: columns.duration_ns,
            period: columns.period,
        });
    }
    Some(RealProfiles {
        symbols: dictionary.snapshot(),
        kinds,
        profiles,
    })
}

/// The symbols and stacks of a profile, and the values of each sample.
fn part_of(raw: &RawProfile<'_>) -> (Part, Vec<Vec<i64>>) {
    let columns = &raw.columns;
    let mut part = Part::default();
    let string = |part: &mut Part, at: u32| {
        if at == 0 {
            return 0;
        }
        part.strings.push(&String::from_utf8_lossy(raw.text(at)))
    };
    for m in &columns.mappings {
        let filename = string(&mut part, m.filename);
        let build_id = string(&mut part, m.build_id);
        part.mappings.push(Mapping {
            start: m.start,
            limit: m.limit,
            offset: m.offset,
            filename,
            build_id,
            flags: m.flags,
        });
    }
    for f in columns.functions.iter() {
        let [name, system_name, filename] =
            [f.name, f.system_name, f.filename].map(|at| string(&mut part, at));
        part.functions.push(Function {
            name,
            system_name,
            filename,
            start_line: f.start_line,
        });
    }
    let place = |ids: &mut dyn Iterator<Item = u64>| -> std::collections::HashMap<u64, u32> {
        ids.zip(0..).collect()
    };
    let mappings = place(&mut columns.mappings.iter().map(|m| m.id));
    let functions = place(&mut columns.functions.iter().map(|f| f.id));
    let locations = place(&mut columns.locations.iter().map(|l| l.id));
    for (at, location) in columns.locations.iter().enumerate() {
        let lines = raw.lines_of(at);
        let mapping = mappings.get(&location.mapping).copied().unwrap_or(NONE);
        let address = if lines.len() == 0 {
            location.address
        } else {
            0
        };
        let lines = lines.map(|line| Line {
            function: functions[&line.function],
            line: line.line,
        });
        part.push_location((mapping, address), lines);
    }
    let mut values = Vec::new();
    for at in 0..columns.samples.len() {
        let sample = raw.sample(at);
        part.frames.extend(
            columns
                .frames
                .slice(sample.frames())
                .iter()
                .map(|id| locations[&raw.location_id(id)]),
        );
        part.stack_ends.push(part.frames.len() as u32);
        part.sample_stack.push(at as u32);
        part.sample_value.push(0);
        values.push(columns.values.slice(sample.values()).iter().collect());
    }
    let series = part.push_series(&Labels::default());
    let kind = part.push_type(&"a:b:c:d:e".parse().unwrap());
    part.profiles.push(scoria_model::part::ProfileRow {
        series,
        kind,
        time: scoria_model::Timestamp(0),
        duration_ns: 0,
        period: 0,
        samples_end: part.sample_stack.len() as u32,
    });
    part.end_write(scoria_model::RetryKey([0; 16]));
    (part, values)
}

/// Rows of a fleet, ready to be written.
#[derive(Debug)]
pub struct Fleet {
    pub symbols: Symbols,
    pub series: Vec<Labels>,
    pub kinds: Vec<ProfileType>,
    pub profiles: ProfileRows,
    pub samples: SampleBatch,
}

/// What to make of real profiles.
#[derive(Debug, Clone, Copy)]
pub struct FleetShape {
    pub pods: usize,
    /// Profiles of each pod, 15 s apart.
    pub steps: usize,
    pub seed: u64,
}

pub const START_NS: i64 = 1_795_350_600_000_000_000;
const STEP_NS: i64 = 15_000_000_000;

fn pod_labels(name: &str, pod: usize) -> Labels {
    let pod_name = format!("prometheus-6c9f7d5b8c-{:05x}", pod * 7919 % 0xfffff);
    let instance = format!("10.42.{}.{}:9090", pod % 7, 10 + pod * 3 % 240);
    let node = format!("node-{:02}.eu-west-1.example", pod % 12);
    Labels::from_pairs([
        ("__name__", name),
        ("service_name", "prometheus"),
        ("namespace", "monitoring"),
        ("pod", &pod_name),
        ("instance", &instance),
        ("node", &node),
        ("container", "prometheus"),
        ("version", "v2.42.0"),
    ])
}

/// CPU profiles: the nanosecond type only, whose values are hits times a period.
pub fn cpu_fleet(shape: FleetShape) -> Option<Fleet> {
    let real = real_profiles("prometheus-0.cpu", "process_cpu")?;
    let at_type = real
        .kinds
        .iter()
        .position(|k| k.sample_unit.as_ref() == "nanoseconds")?;
    let mut dice = Dice::new(shape.seed);
    let mut fleet = empty_fleet(&real, "process_cpu", shape.pods);
    fleet.kinds = vec![real.kinds[at_type].clone()];
    let n = real.profiles.len();
    let mut arrivals = 0u64;
    let phases: Vec<i64> = (0..shape.pods)
        .map(|_| dice.below(STEP_NS as u64) as i64)
        .collect();
    for step in 0..shape.steps {
        for (pod, phase) in phases.iter().enumerate() {
            let at = (pod * 37 + step) % n;
            let source = &real.profiles[at];
            let mut hits: std::collections::BTreeMap<u32, i64> = std::collections::BTreeMap::new();
            let mut keep = |profile: &RealProfile, percent: u64, dice: &mut Dice| {
                for (node, values) in &profile.samples {
                    let count = values[at_type] / profile.period.max(1);
                    let kept = (0..count).filter(|_| dice.percent(percent)).count() as i64;
                    if kept > 0 {
                        *hits.entry(*node).or_default() += kept;
                    }
                }
            };
            keep(source, 85, &mut dice);
            keep(&real.profiles[(at + 1) % n], 8, &mut dice);
            keep(&real.profiles[(at + n - 1) % n], 7, &mut dice);
            arrivals += 1;
            let samples: Vec<(u32, i64)> = hits
                .into_iter()
                .map(|(node, n)| (node, n * source.period))
                .collect();
            let jitter = dice.below(5_000_000) as i64;
            fleet.push(
                (pod as u32, 0),
                START_NS + phase + step as i64 * STEP_NS + jitter,
                source,
                (arrivals, 0),
                &samples,
            );
        }
    }
    Some(fleet)
}

/// Heap snapshots with all their types; object counts scaled per pod and stack.
pub fn heap_fleet(shape: FleetShape) -> Option<Fleet> {
    let real = real_profiles("prometheus-0.heap", "memory")?;
    let mut dice = Dice::new(shape.seed);
    let mut fleet = empty_fleet(&real, "memory", shape.pods);
    fleet.kinds.clone_from(&real.kinds);
    let n = real.profiles.len();
    let phases: Vec<i64> = (0..shape.pods)
        .map(|_| dice.below(STEP_NS as u64) as i64)
        .collect();
    let mut arrivals = 0u64;
    for step in 0..shape.steps {
        for (pod, phase) in phases.iter().enumerate() {
            let source = &real.profiles[(pod * 7 + step) % n];
            arrivals += 1;
            let time = START_NS + phase + step as i64 * STEP_NS + dice.below(5_000_000) as i64;
            for kind in 0..real.kinds.len() {
                let samples: Vec<(u32, i64)> = source
                    .samples
                    .iter()
                    .map(|(node, values)| {
                        let scale =
                            50 + (u64::from(*node).wrapping_mul(pod as u64 + 17) % 151) as i64;
                        (*node, values[kind] * scale / 100)
                    })
                    .filter(|&(_, value)| value != 0)
                    .collect();
                fleet.push(
                    (pod as u32, kind as u32),
                    time,
                    source,
                    (arrivals, kind as u32),
                    &samples,
                );
            }
        }
    }
    Some(fleet)
}

fn empty_fleet(real: &RealProfiles, name: &str, pods: usize) -> Fleet {
    Fleet {
        symbols: real.symbols.clone(),
        series: (0..pods).map(|pod| pod_labels(name, pod)).collect(),
        kinds: Vec::new(),
        profiles: ProfileRows::default(),
        samples: SampleBatch::default(),
    }
}

impl Fleet {
    fn push(
        &mut self,
        (series, kind): (u32, u32),
        time_ns: i64,
        source: &RealProfile,
        (seq, place): (u64, u32),
        samples: &[(u32, i64)],
    ) {
        self.profiles.push(ProfileRow {
            kind,
            series,
            time_ns,
            duration_ns: source.duration_ns,
            period: source.period,
            total: samples.iter().map(|s| s.1).sum(),
            samples_start: self.samples.len() as u64,
            n_samples: samples.len() as u32,
            seq,
            place,
            stream: 0,
            ..ProfileRow::default()
        });
        self.samples.stack.extend(samples.iter().map(|s| s.0));
        self.samples.value.extend(samples.iter().map(|s| s.1));
    }

    pub fn block(&self) -> EncodedBlock {
        let mut writer = BlockWriter::new(spec()).unwrap();
        writer
            .add(DatasetInput {
                tenant: &TenantId::anonymous(),
                service: "prometheus",
                symbols: &self.symbols,
                series: &self.series,
                kinds: &self.kinds,
                profiles: &self.profiles,
                samples: &self.samples,
            })
            .unwrap();
        writer.finish().unwrap()
    }
}

pub fn spec() -> BlockSpec {
    BlockSpec {
        id: BlockId(0x0192_f0c8_7c1b_0000_1234_5678_9abc_def0),
        level: 0,
        streams: vec![StreamRange {
            stream: StreamId {
                node: NodeId("node-1".into()),
                incarnation: Incarnation(0x1234),
                n: 0,
            },
            from: Seq(0),
            to: Seq(1_000_000),
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    }
}
