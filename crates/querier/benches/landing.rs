//! Questions about labels and long time series: what a landing page asks first, and what auto-completion asks.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark fails by panicking, and its macros make public functions"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use scoria_block::{
    BlockSpec, BlockWriter, DatasetInput, EncodedBlock, ProfileRow, ProfileRows, SampleBatch,
    StreamRange,
};
use scoria_model::{
    BlockId, ByteBudget, Clock, Epoch, Incarnation, Labels, Limits, NodeId, ProfileType, Seq,
    StreamId, TenantId, Timestamp,
};
use scoria_querier::{Components, LimitsOf, Querier, Settings};
use scoria_query::request::{LabelValues, SelectMergeStacktraces, SelectSeries, Series};
use scoria_storage::testing::HeldClock;
use scoria_storage::{
    BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, Metrics, Op, Txn,
};
use scoria_symbols::{SymbolTables, Symbols};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const START_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const SERVICES: usize = 1000;
const SERIES: usize = 100_000;
const STACKS: u32 = 1_000_000;

/// Stacktraces of 3 to 6 functions, each with its own leaf location.
fn symbols(stacks: u32) -> (Symbols, Vec<u32>) {
    let mut tables = SymbolTables::default();
    let functions = (stacks / 10).max(1);
    for at in 0..functions {
        let name = format!("example.com/pkg{}.Function{at}", at % 90);
        tables.push_plain(&name, u64::from(at), 1);
    }
    tables.node_parent = vec![u32::MAX];
    tables.node_location = vec![u32::MAX];
    let mut leaves = Vec::new();
    // Ten children for each node, so that every function is called from ten places.
    let mut above = 0u32;
    while (leaves.len() as u32) < stacks {
        for child in 0..10u32 {
            let at = tables.node_parent.len() as u32;
            tables.node_parent.push(above);
            let location = (above.wrapping_mul(31) + child * (functions / 10).max(1)) % functions;
            tables.node_location.push(location);
            leaves.push(at);
        }
        above += 1;
    }
    leaves.truncate(stacks as usize);
    (Symbols::from_tables(tables).unwrap(), leaves)
}

struct Data {
    service: String,
    symbols: Symbols,
    series: Vec<Labels>,
    kinds: Vec<ProfileType>,
    rows: ProfileRows,
    samples: SampleBatch,
}

/// `profiles` over an hour, each of the next series and type, with these stacks.
fn data(service: &str, series: usize, kinds: &[&str], (profiles, stacks): (usize, u32)) -> Data {
    let (symbols, nodes) = symbols(stacks);
    let mut data = Data {
        service: service.to_owned(),
        symbols,
        series: (0..series)
            .map(|at| {
                let pod = format!("pod-{at:06}");
                Labels::from_pairs([("service_name", service), ("pod", &pod), ("az", "eu-1")])
            })
            .collect(),
        kinds: kinds.iter().map(|kind| kind.parse().unwrap()).collect(),
        rows: ProfileRows::default(),
        samples: SampleBatch::default(),
    };
    for at in 0..profiles {
        data.rows.push(ProfileRow {
            kind: (at % kinds.len()) as u32,
            series: (at % series) as u32,
            time_ns: (START_MS + (at as i64 * HOUR_MS) / profiles as i64) * 1_000_000,
            period: 10_000_000,
            total: nodes.len() as i64,
            samples_start: data.samples.len() as u64,
            n_samples: nodes.len() as u32,
            seq: at as u64 + 1,
            ..ProfileRow::default()
        });
        data.samples.stack.extend_from_slice(&nodes);
        data.samples.value.resize(data.samples.stack.len(), 1);
    }
    data
}

fn stream() -> StreamId {
    StreamId {
        node: NodeId(Arc::from("bench")),
        incarnation: Incarnation(1),
        n: 0,
    }
}

const TO: Seq = Seq(1 << 40);

fn block(datasets: &[Data]) -> EncodedBlock {
    let mut writer = BlockWriter::new(BlockSpec {
        id: BlockId(1),
        level: 0,
        streams: vec![StreamRange {
            stream: stream(),
            from: Seq(0),
            to: TO,
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    })
    .unwrap();
    for data in datasets {
        writer
            .add(DatasetInput {
                tenant: &TenantId::anonymous(),
                service: &data.service,
                symbols: &data.symbols,
                series: &data.series,
                kinds: &data.kinds,
                profiles: &data.rows,
                samples: &data.samples,
            })
            .unwrap();
    }
    writer.finish().unwrap()
}

/// A querier over one block, which keeps what it decodes but no answers.
async fn querier(datasets: &[Data]) -> Querier {
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
    let open = Txn::new().then(Op::OpenStream {
        stream: stream(),
        epoch: Epoch(1),
        owner: node.clone(),
        members: vec![node],
        quorum: 1,
    });
    catalogue.commit(open).await.unwrap();
    let block = block(datasets);
    blocks.put_block(&block).await.unwrap();
    let meta = [Arc::new(block.meta)];
    let flush = Txn::flush(&stream(), Epoch(1), (Seq(0), TO), meta);
    catalogue.commit(flush).await.unwrap();
    let close = Txn::new().then(Op::CloseStream {
        stream: stream(),
        epoch: Epoch(1),
        at: TO,
    });
    catalogue.commit(close).await.unwrap();
    let settings = Settings {
        decoded_cache_bytes: 1 << 30,
        result_cache_bytes: 0,
        ..Settings::default()
    };
    let components = Components {
        catalogue,
        blocks,
        ingesters: Vec::new(),
        memory: ByteBudget::new("queries", 8 << 30),
        limits: LimitsOf::all(Limits {
            max_query_lookback_ms: 0,
            ..Limits::default()
        }),
        clock,
    };
    Querier::new(settings, components, &mut registry)
}

fn questions(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let tenants = [TenantId::anonymous()];
    let (start_ms, end_ms) = (START_MS, START_MS + HOUR_MS);
    let now = Timestamp::from_millis(end_ms);
    let mut group = c.benchmark_group("landing");
    group.sample_size(20);

    let kinds: Vec<String> = (0..6)
        .map(|at| format!("memory:type{at}:bytes:space:bytes"))
        .collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let services: Vec<Data> = (0..SERVICES)
        .map(|at| data(&format!("service-{at:04}"), 1, &kinds, (6, 1)))
        .collect();
    let landing = runtime.block_on(querier(&services));
    drop(services);
    let request = Series {
        label_names: vec!["service_name".to_owned(), "__profile_type__".to_owned()],
        start_ms,
        end_ms,
        ..Series::default()
    };
    group.bench_function("series without matchers, 1,000 services of 6 types", |b| {
        b.iter(|| {
            let answer = landing.series(&tenants, &request, now);
            let answer = runtime.block_on(answer).unwrap();
            assert_eq!(answer.value.len(), SERVICES * kinds.len());
            black_box(answer);
        });
    });

    let one = data("api", SERIES, &[CPU], (SERIES, 1));
    let many = runtime.block_on(querier(&[one]));
    let request = LabelValues {
        name: "pod".to_owned(),
        matchers: vec![r#"{service_name="api"}"#.to_owned()],
        start_ms,
        end_ms,
    };
    group.bench_function("label values over 100,000 series", |b| {
        b.iter(|| {
            let answer = runtime.block_on(many.label_values(&tenants, &request, now));
            assert_eq!(answer.as_ref().unwrap().value.len(), SERIES);
            black_box(answer).unwrap();
        });
    });
    let request = SelectSeries {
        profile_type: CPU.to_owned(),
        label_selector: r#"{service_name="api"}"#.to_owned(),
        start_ms,
        end_ms,
        step_s: 15.0,
        ..SelectSeries::default()
    };
    group.bench_function("time series over 100,000 profiles", |b| {
        b.iter(|| {
            let answer = runtime.block_on(many.select_series(&tenants, &request, now));
            black_box(answer.unwrap());
        });
    });

    let deep = data("api", 1, &[CPU], (1, STACKS));
    let deep = runtime.block_on(querier(&[deep]));
    let request = SelectMergeStacktraces {
        profile_type: CPU.to_owned(),
        label_selector: r#"{service_name="api"}"#.to_owned(),
        start_ms,
        end_ms,
        ..SelectMergeStacktraces::default()
    };
    group.bench_function("flame graph of 1,000,000 distinct stacks", |b| {
        b.iter(|| {
            let answer = deep.select_merge_stacktraces(&tenants, &request, now);
            black_box(runtime.block_on(answer).unwrap());
        });
    });
    group.finish();
}

criterion_group!(benches, questions);
criterion_main!(benches);
