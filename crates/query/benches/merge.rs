//! The loops that a query over raw data spends its time in: adding up samples by stack rank, and
//! folding the sums to a flame graph. Shapes are those of an hour of a CPU-profiled fleet: 2.9 M
//! samples over 146 k distinct stacks.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark has no callers"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scoria_block::{ProfileRow, ProfileRows, SampleBatch};
use scoria_model::part::{Function, Line, NONE};
use scoria_model::{Labels, TimeRange};
use scoria_query::exec::Executor;
use scoria_query::functions::FunctionTree;
use scoria_query::merge::{FunctionTotals, SampleFilter, StackTotals, TreeMerger, TreePartial};
use scoria_query::render::{flamegraph, truncate};
use scoria_query::scan::{Buckets, Exemplars, Scan, StackFilter, Stripped, TimeSeries, What};
use scoria_query::select::{self, DatasetView};
use scoria_query::selector::Matchers;
use scoria_symbols::{SymbolTables, Symbols};

const STACKS: u32 = 146_000;
const SAMPLES: usize = 2_880_000;
const BATCH: usize = 64 * 1024;

/// A generator of our own, so that every run measures the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(bound)) as u32
    }

    /// Small numbers often, large ones seldom, as ranks by frequency are.
    fn rank(&mut self) -> u32 {
        let bits = self.below(18);
        self.below((1 << bits).min(STACKS)).min(STACKS - 1)
    }
}

/// Profiles of 200 samples, sorted by rank, in batches as a block gives them.
fn batches() -> Vec<SampleBatch> {
    let mut random = Random(7);
    let mut all = Vec::new();
    let mut batch = SampleBatch::default();
    for _ in 0..SAMPLES / 200 {
        let mut ranks: Vec<u32> = (0..200).map(|_| random.rank()).collect();
        ranks.sort_unstable();
        batch.stack.extend(ranks);
        batch.value.extend([10_000_000; 200]);
        if batch.len() + 200 > BATCH {
            all.push(std::mem::take(&mut batch));
        }
    }
    all.push(batch);
    all
}

/// A tree of `STACKS` leaves about 25 deep over 6,000 functions, and the node of each rank.
fn symbols() -> (Symbols, Vec<u32>) {
    const FUNCTIONS: u32 = 6_000;
    let mut random = Random(11);
    let mut tables = SymbolTables::default();
    for at in 0..FUNCTIONS {
        let name = tables
            .strings
            .push(&format!("example.com/pkg{}.Function{at}", at % 90));
        tables.functions.push(Function {
            name,
            ..Function::default()
        });
    }
    // Two lines of each function, as real code has.
    for at in 0..2 * FUNCTIONS {
        tables.location_mapping.push(NONE);
        tables.location_address.push(u64::from(at));
        tables.lines.push(Line {
            function: at / 2,
            line: i64::from(at),
        });
        tables.location_lines_end.push(at + 1);
    }
    let mut depth = vec![0u32];
    let mut nodes = Vec::new();
    while nodes.len() < STACKS as usize {
        // Branch off somewhere near the last stack.
        let mut at = tables.node_parent.len() as u32 - 1;
        for _ in 0..random.below(6) {
            at = tables.node_parent[at as usize].min(at);
        }
        let mut at = if at == NONE { 0 } else { at };
        while depth[at as usize] < 15 + random.below(20) {
            tables.node_parent.push(at);
            // A function calls few others, so that many stacks share their function names.
            let caller = tables.node_location[at as usize].wrapping_add(1) / 2;
            let callee = (caller.wrapping_mul(31) + random.below(4)) % FUNCTIONS;
            tables.node_location.push(2 * callee + random.below(2));
            depth.push(depth[at as usize] + 1);
            at = tables.node_parent.len() as u32 - 1;
            if random.below(3) == 0 {
                break;
            }
        }
        nodes.push(at);
    }
    (Symbols::from_tables(tables).unwrap(), nodes)
}

fn accumulate(c: &mut Criterion) {
    let batches = batches();
    let mut group = c.benchmark_group("accumulate");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("146k stacks", |b| {
        b.iter(|| {
            let mut totals = StackTotals::new(STACKS as usize);
            for batch in &batches {
                totals.add(batch, &SampleFilter::default()).unwrap();
            }
            black_box(totals);
        });
    });
    let (symbols, nodes) = symbols();
    let functions = FunctionTree::of(&symbols);
    let function_of = function_of(&functions, &nodes);
    group.bench_function("146k stacks by function", |b| {
        b.iter(|| {
            let mut totals = FunctionTotals::new(functions.len());
            for batch in &batches {
                let open = SampleFilter::default();
                totals.add(batch, &open, &function_of).unwrap();
            }
            black_box(totals);
        });
    });
    group.finish();
}

fn function_of(functions: &FunctionTree, nodes: &[u32]) -> Vec<u32> {
    let node_of = functions.node_of();
    nodes.iter().map(|&node| node_of[node as usize]).collect()
}

fn fold(c: &mut Criterion) {
    let (symbols, nodes) = symbols();
    let functions = FunctionTree::of(&symbols);
    let function_of = function_of(&functions, &nodes);
    let mut totals = FunctionTotals::new(functions.len());
    for batch in batches() {
        let open = SampleFilter::default();
        totals.add(&batch, &open, &function_of).unwrap();
    }
    let fold = || TreePartial::of_sums(&functions, totals.clone(), None);
    let tree = fold();
    let mut group = c.benchmark_group("fold");
    let tables = format!(
        "function tree of {} nodes, once per block",
        symbols.nodes_len()
    );
    group.bench_function(tables, |b| {
        b.iter(|| black_box(FunctionTree::of(&symbols)));
    });
    let names = format!("sums to a tree of {} names", tree.len());
    group.bench_function(names, |b| b.iter(|| black_box(fold())));
    group.bench_function("merge one", |b| {
        b.iter(|| {
            let mut merger = TreeMerger::default();
            merger.add(&tree);
            black_box(merger.finish());
        });
    });
    group.bench_function("merge two", |b| {
        b.iter(|| {
            let mut merger = TreeMerger::default();
            merger.add(&tree);
            merger.add(&tree);
            black_box(merger.finish());
        });
    });
    group.bench_function("flame graph of 8192 nodes", |b| {
        b.iter(|| black_box(flamegraph(&truncate(tree.clone(), 8192), 0)));
    });
    group.finish();
}

fn series(c: &mut Criterion) {
    let mut rows = ProfileRows::default();
    let series: Vec<Labels> = (0..60)
        .map(|pod| Labels::from_pairs([("service_name", "api"), ("pod", &format!("pod-{pod}"))]))
        .collect();
    const PROFILES: i64 = 100_000;
    for at in 0..PROFILES {
        rows.push(ProfileRow {
            series: (at * 60 / PROFILES) as u32,
            time_ns: (at * 15_000 % 3_600_000) * 1_000_000,
            total: 1,
            ..ProfileRow::default()
        });
    }
    let kinds = ["process_cpu:cpu:nanoseconds:cpu:nanoseconds"
        .parse()
        .unwrap()];
    let range = TimeRange {
        start_ms: 0,
        end_ms: 3_600_000,
    };
    let scan = Scan {
        matchers: Matchers::parse(r#"{service_name="api"}"#).unwrap(),
        range,
        what: What::TimeSeries(TimeSeries {
            buckets: Buckets::new(range, 15_000),
            group_by: vec![std::sync::Arc::from("pod")],
            exemplars: Exemplars::None,
            stripped: Stripped::LeftOut,
            filter: StackFilter::default(),
        }),
    };
    let view = DatasetView {
        series: &series,
        kinds: &kinds,
        rows: &rows,
        streams: &[0],
    };
    let mut group = c.benchmark_group("series");
    group.throughput(Throughput::Elements(PROFILES as u64));
    group.bench_function("100k profiles by pod", |b| {
        b.iter(|| {
            let mut executor = Executor::new(scan.clone());
            let rows = select::rows(&scan, &view);
            executor.add_profiles(&view, &rows);
            black_box(executor.finish().unwrap());
        });
    });
    group.finish();
}

criterion_group!(benches, accumulate, fold, series);
criterion_main!(benches);
