//! Made-up datasets, described by plain numbers so that a property test can shrink them.

use proptest::collection::vec;
use proptest::prelude::*;
use scoria_block::{BlockWriter, DatasetInput, EncodedBlock, ProfileRow, ProfileRows, SampleBatch};
use scoria_model::part::{Function, Line, Mapping, NONE};
use scoria_model::{Labels, ProfileType, TenantId};
use scoria_symbols::{SymbolTables, Symbols};

use super::reading::{Row, spell};
use super::spec;

/// Everything that goes into one dataset.
#[derive(Debug, Clone)]
pub struct Made {
    pub tenant: TenantId,
    pub service: String,
    pub symbols: Symbols,
    pub series: Vec<Labels>,
    pub kinds: Vec<ProfileType>,
    pub profiles: ProfileRows,
    pub samples: SampleBatch,
}

const KINDS: [&str; 5] = [
    "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
    "memory:inuse_space:bytes:space:bytes",
    "goroutine:goroutine:count:goroutine:count",
    "mutex:delay:nanoseconds:contentions:count",
    "odd%3Aname:a b:c::",
];

fn symbols(seed: &[(u32, u32, u32)]) -> Symbols {
    let mut tables = SymbolTables::default();
    for text in [
        "main",
        "wörk",
        "a/b.go",
        "libc.so",
        "runtime.mallocgc",
        "runtime.main",
    ] {
        tables.strings.push(text);
    }
    let n_strings = tables.strings.len() as u32;
    for at in 0..3u32 {
        tables.mappings.push(Mapping {
            start: u64::from(at) << 40,
            limit: u64::MAX - u64::from(at),
            offset: u64::from(at),
            filename: at % n_strings,
            build_id: (at + 4) % n_strings,
            flags: at,
        });
    }
    for (at, &(a, b, c)) in seed.iter().enumerate() {
        tables.functions.push(Function {
            name: a % n_strings,
            system_name: b % n_strings,
            filename: c % n_strings,
            start_line: i64::from(a) - i64::from(b),
        });
        let lines = b % 3;
        for line in 0..lines {
            let function = (c.wrapping_add(line) as usize) % (at + 2);
            tables.lines.push(Line {
                function: if function > at { NONE } else { function as u32 },
                line: i64::from(a % 100) - 10,
            });
        }
        tables.location_lines_end.push(tables.lines.len() as u32);
        tables
            .location_address
            .push(if lines == 0 { u64::from(a) << 33 } else { 0 });
        let mapping = a % 4;
        tables
            .location_mapping
            .push(if mapping == 3 { NONE } else { mapping });
    }
    for (at, &(a, b, c)) in seed.iter().chain(seed).enumerate() {
        tables.node_parent.push((a ^ c) % (at as u32 + 1));
        tables.node_location.push(b % seed.len() as u32);
    }
    Symbols::from_tables(tables).unwrap()
}

type Numbers = (u32, u32, u32);
type Sample = (u32, i64, u64, u8);
type Profile = (Numbers, i64, Vec<Sample>);

fn make(place: (u8, u8), seed: &[Numbers], profiles: Vec<Profile>) -> Made {
    let symbols = symbols(seed);
    let service = format!("service-{}", place.1);
    let series: Vec<Labels> = (0..4)
        .map(|pod| {
            let pod = format!("pod-{pod}");
            let tenant = format!("of-{}", place.0);
            Labels::from_pairs([
                ("pod", &pod),
                ("service_name", &service),
                ("owner", &tenant),
            ])
        })
        .collect();
    let mut made = Made {
        tenant: TenantId::parse(&format!("tenant-{}", place.0)).unwrap(),
        service,
        series,
        kinds: KINDS.iter().map(|kind| kind.parse().unwrap()).collect(),
        profiles: ProfileRows::default(),
        samples: SampleBatch::default(),
        symbols,
    };
    let nodes = made.symbols.nodes_len() as u32;
    for ((kind, series, record), time, samples) in profiles {
        made.profiles.push(ProfileRow {
            kind: kind % KINDS.len() as u32,
            series: series % 4,
            time_ns: time,
            duration_ns: i64::from(record),
            period: i64::from(series) * 1000,
            total: samples.iter().fold(0, |sum, s| s.1.wrapping_add(sum)),
            samples_start: made.samples.len() as u64,
            n_samples: samples.len() as u32,
            seq: u64::from(record) << 20,
            place: record % 5,
            stream: 0,
            ..ProfileRow::default()
        });
        for (stack, value, span, trace) in samples {
            made.samples.stack.push(stack % nodes);
            made.samples.value.push(value);
            made.samples.span.push(span);
            made.samples.trace.push([trace; 16]);
        }
    }
    if made.samples.span.iter().all(|&span| span == 0) {
        made.samples.span.clear();
    }
    if made.samples.trace.iter().all(|trace| *trace == [0; 16]) {
        made.samples.trace.clear();
    }
    made
}

fn sample() -> impl Strategy<Value = Sample> {
    let value = prop_oneof![Just(10_000_000i64), 1..1000i64, any::<i64>()];
    let span = prop_oneof![4 => Just(0u64), 1 => any::<u64>()];
    let trace = prop_oneof![4 => Just(0u8), 1 => any::<u8>()];
    (any::<u32>(), value, span, trace)
}

fn profile() -> impl Strategy<Value = Profile> {
    let time = prop_oneof![0..10_000_000_000i64, any::<i64>()];
    (any::<Numbers>(), time, vec(sample(), 0..20))
}

/// Datasets in order, each place once.
pub fn datasets() -> impl Strategy<Value = Vec<Made>> {
    let dataset = (vec(any::<Numbers>(), 1..12), vec(profile(), 0..12));
    proptest::collection::btree_map((0..3u8, 0..3u8), dataset, 0..5).prop_map(|made| {
        made.into_iter()
            .map(|(place, (seed, profiles))| make(place, &seed, profiles))
            .collect()
    })
}

/// Two tenants with a service of the same name, and another service.
pub fn fixed() -> Vec<Made> {
    let mut dice = super::Dice::new(11);
    [(0u8, 0u8), (0, 1), (1, 0)]
        .into_iter()
        .map(|place| {
            let seed: Vec<Numbers> = (0..9)
                .map(|_| (dice.next() as u32, dice.next() as u32, dice.next() as u32))
                .collect();
            let profiles = (0..10u32)
                .map(|at| {
                    let samples = (0..dice.below(7))
                        .map(|_| {
                            let span = if place.1 == 1 { dice.below(3) * 77 } else { 0 };
                            (
                                dice.next() as u32,
                                1 + dice.below(500) as i64,
                                span,
                                span as u8,
                            )
                        })
                        .collect();
                    (
                        (at, at / 5, at),
                        super::START_NS + i64::from(at) * 1_000_000_007,
                        samples,
                    )
                })
                .collect();
            make(place, &seed, profiles)
        })
        .collect()
}

impl Made {
    pub fn input(&self) -> DatasetInput<'_> {
        DatasetInput {
            tenant: &self.tenant,
            service: &self.service,
            symbols: &self.symbols,
            series: &self.series,
            kinds: &self.kinds,
            profiles: &self.profiles,
            samples: &self.samples,
        }
    }

    /// What reading the dataset must give, sorted.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for p in self.profiles.iter() {
            let row = Row {
                tenant: self.tenant.to_string(),
                labels: self.series[p.series as usize].to_string(),
                kind: self.kinds[p.kind as usize].to_string(),
                profile: (p.time_ns, p.duration_ns, p.period, p.total),
                record: (p.stream, p.seq, p.place),
                stack: None,
                value: 0,
                span: 0,
                trace: [0; 16],
            };
            if p.n_samples == 0 {
                rows.push(row.clone());
            }
            let start = p.samples_start as usize;
            rows.extend((start..start + p.n_samples as usize).map(|at| Row {
                stack: Some(spell(&self.symbols, self.samples.stack[at])),
                value: self.samples.value[at],
                span: self.samples.span_of(at),
                trace: self.samples.trace_of(at),
                ..row.clone()
            }));
        }
        rows.sort();
        rows
    }
}

pub fn write(made: &[Made]) -> EncodedBlock {
    let mut writer = BlockWriter::new(spec()).unwrap();
    made.iter()
        .for_each(|made| writer.add(made.input()).unwrap());
    writer.finish().unwrap()
}

/// A dataset whose profiles lie close together and share their stacks, so that roll-ups pay.
pub fn dense() -> impl Strategy<Value = Made> {
    let sample = (0..6u32, -3..50i64, Just(0u64), Just(0u8));
    let minutes = prop_oneof![0..20i64, 55..65i64, -5..5i64];
    let profile = (
        (0..3u32, 0..4u32, any::<u32>()),
        (minutes, 0..60_000_000_000i64).prop_map(|(minute, ns)| minute * 60_000_000_000 + ns),
        vec(sample, 0..12),
    );
    (vec(any::<Numbers>(), 4..5), vec(profile, 1..60))
        .prop_map(|(seed, profiles)| make((0, 0), &seed, profiles))
}

/// CPU profiles of one series and the same six stacks, so many in each hour.
pub fn hours(profiles: &[i64]) -> Made {
    let seed: Vec<Numbers> = (0..9).map(|at| (at * 7, at * 5, at * 3)).collect();
    let mut all = Vec::new();
    for (hour, &n) in profiles.iter().enumerate() {
        for at in 0..n {
            let time = (hour as i64 * 3600 + at * 15) * 1_000_000_000;
            let samples = (0..6u32).map(|stack| (stack, 1 + at, 0, 0)).collect();
            all.push(((0, 1, all.len() as u32), time, samples));
        }
    }
    make((0, 0), &seed, all)
}

/// A CPU profile a minute for an hour, each with a sample of each of so many stacks.
pub fn wide(stacks: u32) -> Made {
    let seed: Vec<Numbers> = (0..stacks / 2).map(|at| (at, at * 5, at * 3)).collect();
    let profile = |at: u32| {
        let samples = (0..stacks).map(|stack| (stack, 7, 0, 0)).collect();
        ((0, 1, at), i64::from(at) * 60_000_000_000, samples)
    };
    make((0, 0), &seed, (0..60).map(profile).collect())
}
