//! Raw scans: samples per second, from fetched pages to sums per stack, on one core.
//!
//! Runs on the fleet of real profiles and does nothing without the corpus. Times are CPU times of
//! the thread, so that what else runs on the machine counts little.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scoria_block::{
    Columns, EncodedBlock, SampleRead, SampleRun, Sources, Table, decode_profiles, decode_samples,
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

fn sources(block: &EncodedBlock) -> Option<Sources> {
    let object = |table| object(block, table).cloned().unwrap_or_else(Bytes::new);
    fetch_dataset(
        &open_all(&block.meta).ok()?,
        &block.meta.datasets[0],
        &object,
    )
    .ok()
}

/// The samples of every profile of a table.
fn runs(block: &EncodedBlock, sources: &Sources, table: Table) -> Vec<SampleRun> {
    let dataset = &block.meta.datasets[0];
    let profiles = decode_profiles(sources, &block.meta, dataset).unwrap_or_default();
    let of_table =
        |&at: &usize| Table::of_kind(&dataset.kinds[profiles.kind[at] as usize]) == table;
    let rows = (0..profiles.len()).filter(of_table);
    rows.map(|at| profiles.run(at)).collect()
}

/// Decodes all samples of a table and adds them up by stack; the grand total.
fn scan(block: &EncodedBlock, sources: &Sources, table: Table, runs: &[SampleRun]) -> Option<i64> {
    let dataset = &block.meta.datasets[0];
    let read = SampleRead {
        runs,
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

fn bench_fleet(c: &mut Criterion<CpuTime>, name: &str, fleet: &Fleet) {
    let block = fleet.block();
    let Some(sources) = sources(&block) else {
        return;
    };
    let mut group = c.benchmark_group(name);
    group.sample_size(20);
    for meta in &block.meta.tables {
        if [Table::Samples, Table::Snapshots].contains(&meta.table) {
            group.throughput(Throughput::Elements(meta.rows));
            let runs = runs(&block, &sources, meta.table);
            group.bench_function(format!("scan {}", meta.table), |b| {
                b.iter(|| black_box(scan(&block, &sources, meta.table, &runs)));
            });
        }
    }
    group.throughput(Throughput::Elements(u64::from(
        block.meta.datasets[0].n_stacks,
    )));
    group.bench_function("decode profiles", |b| {
        b.iter(|| black_box(runs(&block, &sources, Table::Samples).len()));
    });
    group.bench_function("decode symbols", |b| {
        b.iter(|| black_box(decode_symbols(&sources, &block.meta.datasets[0]).is_ok()));
    });
    group.throughput(Throughput::Elements(block.meta.datasets[0].n_samples()));
    group.sample_size(10);
    group.bench_function("write", |b| b.iter(|| black_box(fleet.block().meta.bytes)));
    group.finish();
}

fn benches(c: &mut Criterion<CpuTime>) {
    if let Some(fleet) = cpu_fleet(CPU) {
        bench_fleet(c, "cpu fleet", &fleet);
    }
    if let Some(fleet) = heap_fleet(HEAP) {
        bench_fleet(c, "heap fleet", &fleet);
    }
}

criterion_group! {
    name = scans;
    config = Criterion::default().with_measurement(CpuTime(WallTime));
    targets = benches
}
criterion_main!(scans);
