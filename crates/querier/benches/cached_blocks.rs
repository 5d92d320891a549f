//! A question over one service from blocks whose pages and symbols are cached: from the request to
//! the rendered answer. The block holds 18,000 profiles of 200 samples over some 150 k stacks,
//! which is 3.6 million samples.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark has no callers"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use scoria_block::{
    BlockSpec, BlockWriter, DatasetInput, EncodedBlock, ProfileRow, ProfileRows, SampleBatch,
    StreamRange,
};
use scoria_model::part::NONE;
use scoria_model::{
    BlockId, ByteBudget, Clock, Epoch, Incarnation, Labels, Limits, NodeId, Seq, StreamId,
    TenantId, Timestamp,
};
use scoria_querier::{Components, LimitsOf, Querier, Settings};
use scoria_query::request::{SelectMergeStacktraces, SelectSeries};
use scoria_storage::testing::HeldClock;
use scoria_storage::{
    BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, Metrics, Op, Txn,
};
use scoria_symbols::{Function, Line, SymbolTables, Symbols};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const START_MS: i64 = 1_700_000_000_000;
const PROFILES: usize = 18_000;
const SAMPLES: usize = 200;
const STACKS: u32 = 150_000;
const FUNCTIONS: u32 = 6_000;
const PODS: usize = 60;

/// A generator of our own, so that every run measures the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(bound)) as u32
    }
}

/// A tree some 25 deep in which functions call few others, and the nodes where stacks end.
fn symbols(random: &mut Random) -> (Symbols, Vec<u32>) {
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
    let mut known = std::collections::HashMap::new();
    let mut nodes = std::collections::BTreeSet::new();
    while nodes.len() < STACKS as usize {
        let mut at = tables.node_parent.len() as u32 - 1;
        for _ in 0..random.below(6) {
            at = tables.node_parent[at as usize].min(at);
        }
        while depth[at as usize] < 15 + random.below(20) {
            let caller = tables.node_location[at as usize].wrapping_add(1) / 2;
            let callee = (caller.wrapping_mul(31) + random.below(4)) % FUNCTIONS;
            let location = 2 * callee + random.below(2);
            at = *known.entry((at, location)).or_insert_with(|| {
                tables.node_parent.push(at);
                tables.node_location.push(location);
                depth.push(depth[at as usize] + 1);
                tables.node_parent.len() as u32 - 1
            });
            if random.below(3) == 0 {
                break;
            }
        }
        nodes.insert(at);
    }
    (
        Symbols::from_tables(tables).unwrap(),
        nodes.into_iter().collect(),
    )
}

fn block(stream: &StreamId) -> EncodedBlock {
    let mut random = Random(7);
    let (symbols, nodes) = symbols(&mut random);
    let series: Vec<Labels> = (0..PODS)
        .map(|pod| {
            let pod = format!("pod-{pod}");
            Labels::from_pairs([
                ("__name__", "process_cpu"),
                ("service_name", "api"),
                ("pod", &pod),
            ])
        })
        .collect();
    let mut rows = ProfileRows::default();
    let mut samples = SampleBatch::default();
    for at in 0..PROFILES {
        let mut stacks = std::collections::BTreeSet::new();
        while stacks.len() < SAMPLES {
            // Low numbers often, as some stacks are hot and most are seen once.
            let bits = 4 + random.below(14);
            stacks.insert(nodes[random.below((1 << bits).min(nodes.len() as u32)) as usize]);
        }
        rows.push(ProfileRow {
            series: (at % PODS) as u32,
            time_ns: (START_MS + (at / PODS) as i64 * 12_000) * 1_000_000,
            total: 10_000_000 * SAMPLES as i64,
            samples_start: samples.len() as u64,
            n_samples: SAMPLES as u32,
            seq: at as u64 + 1,
            ..ProfileRow::default()
        });
        samples.stack.extend(stacks);
        samples.value.extend([10_000_000; SAMPLES]);
    }
    let mut writer = BlockWriter::new(BlockSpec {
        id: BlockId(1),
        level: 0,
        streams: vec![StreamRange {
            stream: stream.clone(),
            from: Seq(0),
            to: Seq(PROFILES as u64),
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    })
    .unwrap();
    writer
        .add(DatasetInput {
            tenant: &TenantId::anonymous(),
            service: "api",
            symbols: &symbols,
            series: &series,
            kinds: &[CPU.parse().unwrap()],
            profiles: &rows,
            samples: &samples,
        })
        .unwrap();
    writer.finish().unwrap()
}

/// A querier over the block and no ingester.
async fn querier() -> Querier {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let clock: Arc<dyn Clock> = Arc::new(HeldClock::default());
    let options = CatalogueOptions::new(Arc::clone(&clock), metrics.clone());
    let catalogue = Catalogue::open(Arc::clone(&store), options).await.unwrap();
    let blocks = BlockStore::new(
        store,
        BlockStoreOptions {
            metrics,
            cache_bytes: 256 << 20,
            coalesce_gap: 64 << 10,
        },
    );
    let node = NodeId(Arc::from("bench"));
    let stream = StreamId {
        node: node.clone(),
        incarnation: Incarnation(1),
        n: 0,
    };
    let open = Txn::new().then(Op::OpenStream {
        stream: stream.clone(),
        epoch: Epoch(1),
        owner: node.clone(),
        members: vec![node],
        quorum: 1,
    });
    catalogue.commit(open).await.unwrap();
    let block = block(&stream);
    blocks.put_block(&block).await.unwrap();
    let to = Seq(PROFILES as u64);
    let flush = Txn::flush(&stream, Epoch(1), (Seq(0), to), [Arc::new(block.meta)]);
    catalogue.commit(flush).await.unwrap();
    let close = Txn::new().then(Op::CloseStream {
        stream,
        epoch: Epoch(1),
        at: to,
    });
    catalogue.commit(close).await.unwrap();
    Querier::new(
        // Every question is answered anew.
        Settings {
            result_cache_bytes: 0,
            ..Settings::default()
        },
        Components {
            catalogue,
            blocks,
            ingesters: Vec::new(),
            memory: ByteBudget::new("queries", 4 << 30),
            limits: LimitsOf::all(Limits {
                max_query_lookback_ms: 0,
                ..Limits::default()
            }),
            clock,
        },
        &mut registry,
    )
}

fn questions(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let querier = runtime.block_on(querier());
    let tenants = [TenantId::anonymous()];
    let end_ms = START_MS + 3_600_000;
    let now = Timestamp::from_millis(end_ms);
    let stacktraces = SelectMergeStacktraces {
        profile_type: CPU.to_owned(),
        label_selector: r#"{service_name="api"}"#.to_owned(),
        start_ms: START_MS,
        end_ms,
        ..SelectMergeStacktraces::default()
    };
    let series = SelectSeries {
        profile_type: CPU.to_owned(),
        label_selector: r#"{service_name="api"}"#.to_owned(),
        start_ms: START_MS,
        end_ms,
        step_s: 15.0,
        group_by: vec!["pod".to_owned()],
        ..SelectSeries::default()
    };
    let one_pod = SelectMergeStacktraces {
        label_selector: r#"{service_name="api",pod="pod-7"}"#.to_owned(),
        ..stacktraces.clone()
    };
    let mut group = c.benchmark_group("cached blocks");
    group.sample_size(20);
    for (name, request) in [("all pods", &stacktraces), ("one pod", &one_pod)] {
        let first = runtime.block_on(querier.select_merge_stacktraces(&tenants, request, now));
        let samples = first.unwrap().stats.samples;
        group.throughput(Throughput::Elements(samples));
        group.bench_function(format!("flame graph, {name}, {samples} samples"), |b| {
            b.iter(|| {
                let answer = querier.select_merge_stacktraces(&tenants, request, now);
                black_box(runtime.block_on(answer).unwrap());
            });
        });
    }
    group.throughput(Throughput::Elements(PROFILES as u64));
    group.bench_function("time series by pod over 18k profiles", |b| {
        b.iter(|| {
            let answer = querier.select_series(&tenants, &series, now);
            black_box(runtime.block_on(answer).unwrap());
        });
    });
    group.finish();
}

criterion_group!(benches, questions);
criterion_main!(benches);
