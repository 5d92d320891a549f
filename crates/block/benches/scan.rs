//! Raw scans: samples per second, from fetched pages to sums per stack, on one core.
//!
//! Runs on the fleet of real profiles and does nothing without the corpus.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scoria_block::{
    Columns, EncodedBlock, SampleRead, Sources, Table, decode_profiles, decode_samples,
    decode_symbols,
};
use support::reading::{fetch_dataset, object, open_all};
use support::{Fleet, FleetShape, cpu_fleet, heap_fleet};

const CPU: FleetShape = FleetShape {
    pods: 60,
    steps: 240,
    seed: 7,
};
const HEAP: FleetShape = FleetShape {
    pods: 20,
    steps: 60,
    seed: 7,
};

fn sources(block: &EncodedBlock) -> Option<Sources> {
    let object = |table| object(block, table).cloned().unwrap_or_else(Bytes::new);
    fetch_dataset(
        &open_all(&block.meta).ok()?,
        &block.meta.datasets[0],
        &object,
    )
    .ok()
}

/// Decodes all samples of a table and adds them up by stack; the grand total.
fn scan(block: &EncodedBlock, sources: &Sources, table: Table) -> Option<i64> {
    let dataset = &block.meta.datasets[0];
    let profiles = decode_profiles(sources, &block.meta, dataset).ok()?;
    let of_table =
        |&at: &usize| Table::of_kind(&dataset.kinds[profiles.kind[at] as usize]) == table;
    let runs: Vec<_> = (0..profiles.len())
        .filter(of_table)
        .map(|at| profiles.run(at))
        .collect();
    let read = SampleRead {
        runs: &runs,
        columns: Columns::Plain,
        n_stacks: dataset.n_stacks,
    };
    let mut totals = vec![0i64; dataset.n_stacks as usize];
    let (open, fetched) = sources.get(table)?;
    decode_samples((open, fetched), read, &mut |batch, _| {
        for (&stack, &value) in batch.stack.iter().zip(&batch.value) {
            totals[stack as usize] = totals[stack as usize].wrapping_add(value);
        }
    })
    .ok()?;
    Some(totals.iter().fold(0, |sum, total| sum.wrapping_add(*total)))
}

fn bench_fleet(c: &mut Criterion, name: &str, fleet: &Fleet) {
    let block = fleet.block();
    let Some(sources) = sources(&block) else {
        return;
    };
    let mut group = c.benchmark_group(name);
    group.sample_size(20);
    for meta in &block.meta.tables {
        if matches!(meta.table, Table::Samples | Table::Snapshots) {
            group.throughput(Throughput::Elements(meta.rows));
            group.bench_function(format!("scan {}", meta.table), |b| {
                b.iter(|| black_box(scan(&block, &sources, meta.table)));
            });
        }
    }
    group.throughput(Throughput::Elements(u64::from(
        block.meta.datasets[0].n_stacks,
    )));
    group.bench_function("decode symbols", |b| {
        b.iter(|| black_box(decode_symbols(&sources, &block.meta.datasets[0]).is_ok()));
    });
    group.throughput(Throughput::Elements(block.meta.datasets[0].n_samples()));
    group.sample_size(10);
    group.bench_function("write", |b| b.iter(|| black_box(fleet.block().meta.bytes)));
    group.finish();
}

fn benches(c: &mut Criterion) {
    if let Some(fleet) = cpu_fleet(CPU) {
        bench_fleet(c, "cpu fleet", &fleet);
    }
    if let Some(fleet) = heap_fleet(HEAP) {
        bench_fleet(c, "heap fleet", &fleet);
    }
}

criterion_group!(scans, benches);
criterion_main!(scans);
