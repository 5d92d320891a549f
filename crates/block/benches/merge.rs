//! Merging: samples per second on one core, from fetched pages to encoded tables, and what a
//! profile takes at rest once its day is merged.
//!
//! Runs on the fleet of real profiles and does nothing without the corpus. Times are CPU times of
//! the thread.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scoria_block::{
    BlockSpec, BlockWriter, EncodedBlock, MergeInput, MergeRules, MergeScope, Resends, Sources,
    Table, merged_id, merged_streams,
};
use scoria_model::{BlockId, ShardSet, TenantId};
use support::reading::{fetch_dataset, object, open_all};
use support::{FleetShape, cpu_fleet};

/// Blocks of a quarter of an hour each.
const BLOCKS: usize = 24;
const SHAPE: FleetShape = FleetShape {
    pods: 60,
    steps: 60,
    seed: 7,
};

/// Nanoseconds that this thread has run, as Linux counts them.
struct CpuTime(WallTime);

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = Duration;

    fn start(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let ran = text.split(' ').next().and_then(|text| text.parse().ok());
        ran.unwrap_or_default()
    }

    fn end(&self, start: u64) -> Duration {
        Duration::from_nanos(self.start().saturating_sub(start))
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.0.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}

/// The same hour's profiles shifted into one block for each quarter of an hour.
fn blocks() -> Option<Vec<EncodedBlock>> {
    let mut blocks = Vec::new();
    for at in 0..BLOCKS {
        let mut fleet = cpu_fleet(FleetShape {
            seed: SHAPE.seed + at as u64,
            ..SHAPE
        })?;
        let shift = at as i64 * SHAPE.steps as i64 * 15_000_000_000;
        fleet.profiles.time_ns.iter_mut().for_each(|t| *t += shift);
        let before = at as u64 * 100_000;
        fleet.profiles.seq.iter_mut().for_each(|seq| *seq += before);
        let mut block = fleet.block();
        block.meta.id = BlockId(block.meta.id.0 + at as u128);
        blocks.push(block);
    }
    Some(blocks)
}

fn fetched(blocks: &[EncodedBlock]) -> Vec<Sources> {
    blocks
        .iter()
        .map(|block| {
            let opened = open_all(&block.meta).expect("made-up blocks are sound");
            let bytes = |table| {
                object(block, table)
                    .expect("made-up blocks are sound")
                    .clone()
            };
            fetch_dataset(&opened, &block.meta.datasets[0], &bytes)
                .expect("made-up blocks are sound")
        })
        .collect()
}

fn merge(blocks: &[EncodedBlock], sources: &[Sources]) -> EncodedBlock {
    let scope = MergeScope {
        slices: vec![(TenantId::anonymous(), ShardSet::ALL)],
        run: 0,
        part: 0,
        last: true,
    };
    let ids: Vec<BlockId> = blocks.iter().map(|block| block.meta.id).collect();
    let mut writer = BlockWriter::new(BlockSpec {
        id: merged_id(2, &ids, &scope, &[]),
        level: 2,
        streams: merged_streams(blocks.iter().map(|block| &block.meta)),
        inputs: ids,
        merge: Some(scope),
        rollup_labels: Vec::new(),
    })
    .expect("made-up blocks are sound");
    // As a compactor says of inputs without.
    writer.without_spans();
    let inputs: Vec<MergeInput<'_>> = blocks
        .iter()
        .zip(sources)
        .map(|(block, sources)| MergeInput {
            block: &block.meta,
            dataset: &block.meta.datasets[0],
            sources,
        })
        .collect();
    let rules = MergeRules {
        keep: &|_, _, _| Vec::new(),
        bytes_max: 64 << 20,
    };
    let of = (&TenantId::anonymous(), "prometheus");
    let merged = writer
        .add_merged(of, &inputs, rules, &mut Resends::default())
        .expect("made-up blocks are sound");
    assert_eq!(merged.inputs, inputs.len());
    writer.finish().expect("made-up blocks are sound")
}

#[allow(clippy::print_stdout, reason = "sizes are part of the result")]
fn bench(criterion: &mut Criterion<CpuTime>) {
    let Some(blocks) = blocks() else {
        return;
    };
    let sources = fetched(&blocks);
    let merged = merge(&blocks, &sources);
    let dataset = &merged.meta.datasets[0];
    let (profiles, samples) = (dataset.n_profiles(), dataset.n_samples());
    let before: u64 = blocks.iter().map(|block| block.meta.bytes).sum();
    println!(
        "{profiles} profiles of {} samples: {} bytes each in {BLOCKS} blocks of level 0, {} merged",
        samples / profiles,
        before / profiles,
        merged.meta.bytes / profiles
    );
    for table in Table::ALL {
        let bytes = merged.meta.table(table).map_or(0, |meta| meta.bytes);
        println!(
            "  {table}: {:.1} bytes each",
            bytes as f64 / profiles as f64
        );
    }
    let mut group = criterion.benchmark_group("merge");
    group
        .throughput(Throughput::Elements(samples))
        .sample_size(10);
    group.bench_function("cpu", |bench| bench.iter(|| merge(&blocks, &sources)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime(WallTime));
    targets = bench
}
criterion_main!(benches);
