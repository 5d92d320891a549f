//! A store in memory, blocks built from folded stacks, and an ingester that serves what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use scoria_block::{
    BlockSpec, BlockWriter, DatasetInput, EncodedBlock, Fetched, Keep, MergeInput, MergeRules,
    OpenTable, ProfileRow, ProfileRows, Resends, SampleBatch, Sources, StreamRange,
};
use scoria_model::{
    BlockId, ByteBudget, Clock, Epoch, Incarnation, Labels, Limits, NodeId, ProfileType, Seq,
    StreamId, TenantId, Timestamp,
};
use scoria_proto::ingester::{
    self, Ingester, PushRequest, PushResponse, SelectRequest, SelectResponse, SelectStats,
    SpanStats, StreamTail,
};
use scoria_querier::{Components, LimitsOf, Querier, Settings};
use scoria_query::exec::{DatasetRows, Executor};
use scoria_query::wire;
use scoria_storage::testing::HeldClock;
use scoria_storage::{
    BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, Metrics, Op, Txn,
};
use scoria_symbols::{Function, Line, SymbolTables, Symbols};
use tonic::{Request, Response, Status};

pub(crate) const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
pub(crate) const HEAP: &str = "memory:inuse_space:bytes:space:bytes";
/// A series of it may count from the start of its process.
pub(crate) const ALLOC: &str = "memory:alloc_space:bytes:space:bytes";
/// All profiles lie in the minutes after this.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// One profile of a service: pod, type, milliseconds after the start, stacks with values.
pub(crate) type Profile = (&'static str, &'static str, i64, Vec<(&'static str, i64)>);

/// Some profiles of one service of one tenant, ready to be put into a block or a head.
#[derive(Debug, Clone)]
pub(crate) struct Dataset {
    pub(crate) tenant: TenantId,
    pub(crate) service: &'static str,
    symbols: Symbols,
    series: Vec<Labels>,
    kinds: Vec<ProfileType>,
    rows: ProfileRows,
    samples: SampleBatch,
}

/// One profile in full.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) kind: &'static str,
    /// Besides the service and the name.
    pub(crate) labels: Vec<(&'static str, &'static str)>,
    /// After the start.
    pub(crate) ms: i64,
    /// Folded stack, value, span; 0 is none.
    pub(crate) samples: Vec<(&'static str, i64, u64)>,
}

pub(crate) fn dataset(tenant: &str, service: &'static str, profiles: &[Profile]) -> Dataset {
    let records = profiles.iter().enumerate();
    let records = records.map(|(at, (pod, kind, ms, stacks))| Record {
        seq: at as u64 + 1,
        kind,
        labels: vec![("pod", pod)],
        ms: *ms,
        samples: stacks
            .iter()
            .map(|&(stack, value)| (stack, value, 0))
            .collect(),
    });
    dataset_of(tenant, service, &records.collect::<Vec<_>>())
}

pub(crate) fn dataset_of(tenant: &str, service: &'static str, records: &[Record]) -> Dataset {
    let mut tables = SymbolTables::default();
    let mut names: Vec<&str> = Vec::new();
    let mut data = Dataset {
        tenant: TenantId::parse(tenant).unwrap(),
        service,
        symbols: Symbols::from_tables(SymbolTables::default()).unwrap(),
        series: Vec::new(),
        kinds: [CPU, HEAP, ALLOC].map(|id| id.parse().unwrap()).to_vec(),
        rows: ProfileRows::default(),
        samples: SampleBatch::default(),
    };
    for record in records {
        let kind: ProfileType = record.kind.parse().unwrap();
        let own = [("__name__", &*kind.name), ("service_name", service)];
        let labels = own.iter().chain(&record.labels);
        let labels = Labels::from_pairs(labels.copied());
        let known = data.series.iter().position(|series| *series == labels);
        let series = known.unwrap_or(data.series.len());
        if known.is_none() {
            data.series.push(labels);
        }
        data.rows.push(ProfileRow {
            kind: data.kinds.iter().position(|k| *k == kind).unwrap() as u32,
            series: series as u32,
            time_ns: (START_MS + record.ms) * 1_000_000,
            period: 10,
            total: record.samples.iter().map(|s| s.1).sum(),
            samples_start: data.samples.len() as u64,
            n_samples: record.samples.len() as u32,
            seq: record.seq,
            ..ProfileRow::default()
        });
        for &(stack, value, span) in &record.samples {
            let stack = node(&mut tables, &mut names, stack);
            data.samples.stack.push(stack);
            data.samples.value.push(value);
            data.samples.span.push(span);
        }
    }
    if data.samples.span.iter().all(|&span| span == 0) {
        data.samples.span.clear();
    }
    data.symbols = Symbols::from_tables(tables).unwrap();
    data
}

fn stack_address(name: &str) -> u64 {
    name.bytes().fold(1, |sum, byte| sum * 31 + u64::from(byte))
}

/// The node of a folded stack; functions, locations and names are one and the same here.
fn node(tables: &mut SymbolTables, names: &mut Vec<&'static str>, stack: &'static str) -> u32 {
    let mut at = 0;
    for name in stack.split(';') {
        let known = names.iter().position(|n| *n == name);
        let location = known.unwrap_or(names.len()) as u32;
        if known.is_none() {
            names.push(name);
            let text = tables.strings.push(name);
            tables.functions.push(Function {
                name: text,
                ..Function::default()
            });
            tables.location_mapping.push(u32::MAX);
            // The same wherever the function comes first, as in real binaries.
            let address = stack_address(name);
            tables.location_address.push(address);
            tables.lines.push(Line {
                function: location,
                line: 1,
            });
            tables.location_lines_end.push(location + 1);
        }
        let mut pairs = tables.node_parent.iter().zip(&tables.node_location);
        let found = pairs.position(|pair| pair == (&at, &location));
        if found.is_none() {
            tables.node_parent.push(at);
            tables.node_location.push(location);
        }
        at = found.unwrap_or(tables.node_parent.len() - 1) as u32;
    }
    at
}

pub(crate) fn stream(n: u32) -> StreamId {
    StreamId {
        node: NodeId(Arc::from("node")),
        incarnation: Incarnation(7),
        n,
    }
}

pub(crate) fn tenant(name: &str) -> Vec<TenantId> {
    TenantId::parse_several(name).unwrap()
}

/// What the ingester answers.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) datasets: Vec<Dataset>,
    /// (stream, first sequence number that it has, last one).
    pub(crate) streams: Vec<(StreamId, u64, u64)>,
    /// Whose version it tells.
    pub(crate) catalogue: Option<Catalogue>,
    /// Fails every call.
    pub(crate) down: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Serves(pub(crate) Arc<Mutex<Tail>>);

#[tonic::async_trait]
impl Ingester for Serves {
    async fn push(&self, _: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        Err(Status::unimplemented("only answers"))
    }

    async fn select(
        &self,
        request: Request<SelectRequest>,
    ) -> Result<Response<SelectResponse>, Status> {
        let request = request.into_inner();
        let tail = self.0.lock();
        if tail.down {
            return Err(Status::unavailable("is not there"));
        }
        let pinned = |stream: &StreamId| {
            let pin = request.pin.as_ref().unwrap();
            let found = pin
                .committed
                .iter()
                .find(|c| c.stream == stream.to_string());
            found.map_or(0, |c| c.seq)
        };
        let streams = tail.streams.iter().map(|(stream, _, to)| StreamTail {
            stream: stream.to_string(),
            epoch: 1,
            from_seq: pinned(stream),
            to_seq: *to,
        });
        let gone = tail
            .streams
            .iter()
            .any(|(s, first, _)| pinned(s) + 1 < *first);
        let hashes = [stream(1).hash64()];
        let mut executor = Executor::new(wire::decode_scan(&request.scan).unwrap());
        for data in &tail.datasets {
            if !request.tenants.iter().any(|t| t == data.tenant.as_str()) {
                continue;
            }
            executor
                .add_rows(&rows(data, &hashes, &|row, batch| {
                    copy(data, row, batch);
                    Ok(())
                }))
                .unwrap();
        }
        let (partial, stats) = executor.finish().unwrap();
        Ok(Response::new(SelectResponse {
            catalogue_version: tail.catalogue.as_ref().map_or(0, |c| c.state().version().0),
            streams: streams.collect(),
            gone,
            partial: wire::encode_partial(&partial).unwrap().into(),
            stats: Some(SelectStats {
                profiles: stats.profiles,
                samples: stats.samples,
                bytes: 0,
                spans: Some(SpanStats {
                    profiles: stats.spans.profiles,
                    samples: stats.spans.samples,
                    period: stats.spans.period,
                }),
            }),
        }))
    }
}

type Samples<'a> = dyn Fn(usize, &mut SampleBatch) -> Result<(), String> + 'a;

fn rows<'a>(data: &'a Dataset, streams: &'a [u64], samples: &'a Samples<'a>) -> DatasetRows<'a> {
    DatasetRows {
        symbols: &data.symbols,
        functions: None,
        series: &data.series,
        kinds: &data.kinds,
        rows: &data.rows,
        streams,
        samples,
    }
}

fn copy(data: &Dataset, row: usize, batch: &mut SampleBatch) {
    let start = data.rows.samples_start[row] as usize;
    let samples = start..start + data.rows.n_samples[row] as usize;
    batch
        .stack
        .extend_from_slice(&data.samples.stack[samples.clone()]);
    batch
        .value
        .extend_from_slice(&data.samples.value[samples.clone()]);
    if data.samples.span.is_empty() {
        batch.span.extend(samples.map(|_| 0));
    } else {
        batch.span.extend_from_slice(&data.samples.span[samples]);
    }
}

/// A store, its catalogue, one ingester and a querier over them.
pub(crate) struct World {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The writer's handle.
    pub(crate) catalogue: Catalogue,
    pub(crate) blocks: BlockStore,
    pub(crate) ingester: Serves,
    pub(crate) querier: Querier,
    pub(crate) memory: ByteBudget,
    /// Open as long as the house stands.
    _door: scoria_proto::memory::Door,
}

impl World {
    /// What a thread does for a query that has ended already ends by itself, and soon.
    pub(crate) async fn all_memory_came_back(&self) {
        let back = async {
            while self.memory.used() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), back).await;
        assert!(
            waited.is_ok(),
            "{} bytes are still held",
            self.memory.used()
        );
    }

    pub(crate) async fn new() -> Self {
        Self::with_memory(1 << 30).await
    }

    pub(crate) async fn with_memory(bytes: u64) -> Self {
        Self::over(Arc::new(InMemory::new()), (bytes, 0), 2).await
    }

    /// Over a store of its own, with so much memory for queries, a gap between ranges that may be
    /// read along, and a number of datasets that are scanned at a time.
    pub(crate) async fn over(
        store: Arc<dyn ObjectStore>,
        (bytes, coalesce_gap): (u64, u64),
        datasets_in_flight: usize,
    ) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let clock: Arc<dyn Clock> = Arc::new(HeldClock::default());
        let open = || {
            let options = CatalogueOptions::new(Arc::clone(&clock), metrics.clone());
            Catalogue::open(Arc::clone(&store), options)
        };
        let catalogue = open().await.unwrap();
        let blocks = BlockStore::new(
            Arc::clone(&store),
            BlockStoreOptions {
                metrics: metrics.clone(),
                cache_bytes: 1 << 20,
                coalesce_gap,
            },
        );
        let ingester = Serves::default();
        ingester.0.lock().catalogue = Some(catalogue.clone());
        let (local, door) = scoria_proto::memory::serve(ingester::server(ingester.clone()));
        let memory = ByteBudget::new("queries", bytes);
        let querier = Querier::new(
            Settings {
                threads: Arc::new(tokio::sync::Semaphore::new(1)),
                datasets_in_flight,
                datasets_in_flight_max: datasets_in_flight,
                decoded_cache_bytes: 1 << 20,
                ..Settings::default()
            },
            Components {
                catalogue: open().await.unwrap(),
                blocks: blocks.clone(),
                ingesters: vec![(NodeId(Arc::from("node")), local.into())],
                memory: memory.clone(),
                limits: LimitsOf::all(Limits {
                    max_query_lookback_ms: 0,
                    ..Limits::default()
                }),
                clock,
            },
            &mut registry,
        );
        Self {
            store,
            catalogue,
            blocks,
            ingester,
            querier,
            memory,
            _door: door,
        }
    }

    pub(crate) async fn open_stream(&self, n: u32) {
        let node = NodeId(Arc::from("node"));
        let txn = Txn::new().then(Op::OpenStream {
            stream: stream(n),
            epoch: Epoch(1),
            owner: node.clone(),
            members: vec![node],
            quorum: 1,
        });
        self.catalogue.commit(txn).await.unwrap();
    }

    /// Puts datasets, sorted by tenant and service, into a block that covers records `(from, to]`.
    pub(crate) async fn flush(
        &self,
        n: u32,
        (from, to): (u64, u64),
        datasets: &[Dataset],
    ) -> BlockId {
        let block = self.encode(n, (from, to), datasets);
        let id = block.meta.id;
        self.flush_block(n, (from, to), block).await;
        id
    }

    /// A block as an ingester makes it.
    pub(crate) fn encode(
        &self,
        n: u32,
        (from, to): (u64, u64),
        datasets: &[Dataset],
    ) -> EncodedBlock {
        let mut writer = BlockWriter::new(BlockSpec {
            id: BlockId(u128::from(n) << 64 | u128::from(to)),
            level: 0,
            streams: vec![StreamRange {
                stream: stream(n),
                from: Seq(from),
                to: Seq(to),
            }],
            inputs: Vec::new(),
            merge: None,
            rollup_labels: Vec::new(),
        })
        .unwrap();
        for data in datasets {
            writer
                .add(DatasetInput {
                    tenant: &data.tenant,
                    service: data.service,
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

    /// As [`World::flush`], through a merge that makes roll-ups, apart by `labels`.
    pub(crate) async fn flush_merged(
        &self,
        n: u32,
        records: (u64, u64),
        (data, labels): (&Dataset, &[&str]),
    ) {
        let block = self.encode(n, records, std::slice::from_ref(data));
        let merged = merged(1, records, &[block], labels);
        self.flush_block(n, records, merged).await;
    }

    /// Puts a block that covers records `(from, to]`.
    pub(crate) async fn flush_block(&self, n: u32, (from, to): (u64, u64), block: EncodedBlock) {
        self.blocks.put_block(&block).await.unwrap();
        let range = (Seq(from), Seq(to));
        let txn = Txn::flush(&stream(n), Epoch(1), range, [Arc::new(block.meta)]);
        self.catalogue.commit(txn).await.unwrap();
    }

    /// What the ingester serves from now on.
    pub(crate) fn serve(&self, datasets: &[Dataset], streams: &[(StreamId, u64, u64)]) {
        let mut tail = self.ingester.0.lock();
        tail.datasets = datasets.to_vec();
        tail.streams = streams.to_vec();
    }
}

/// The block of a level that a merge makes of blocks that cover records `(from, to]` of a stream,
/// with roll-ups apart by `labels`.
pub(crate) fn merged(
    level: u8,
    (from, to): (u64, u64),
    blocks: &[EncodedBlock],
    labels: &[&str],
) -> EncodedBlock {
    let sources: Vec<Sources> = blocks.iter().map(sources).collect();
    let first = &blocks[0].meta;
    let mut writer = BlockWriter::new(BlockSpec {
        id: BlockId(u128::from(level) << 96 | first.id.0),
        level,
        streams: vec![StreamRange {
            stream: first.streams[0].stream.clone(),
            from: Seq(from),
            to: Seq(to),
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: labels.iter().map(|&label| label.into()).collect(),
    })
    .unwrap();
    let mut datasets: BTreeMap<(&TenantId, &str), Vec<MergeInput<'_>>> = BTreeMap::new();
    for (block, sources) in blocks.iter().zip(&sources) {
        for dataset in &block.meta.datasets {
            let inputs = datasets.entry((&dataset.tenant, &dataset.service));
            inputs.or_default().push(MergeInput {
                block: &block.meta,
                dataset,
                sources,
            });
        }
    }
    let keep: Keep<'_> = &|_, _, _| Vec::new();
    for (of, inputs) in datasets {
        let rules = MergeRules {
            keep,
            bytes_max: 1 << 30,
        };
        let done = writer.add_merged(of, &inputs, rules, &mut Resends::default());
        assert_eq!(done.unwrap().inputs, inputs.len());
    }
    writer.finish().unwrap()
}

/// All tables of a block, fetched.
fn sources(block: &EncodedBlock) -> Sources {
    let mut sources = Sources::default();
    for (table, bytes) in &block.tables {
        let open = OpenTable::new(block.meta.table(*table).unwrap()).unwrap();
        sources.insert(Arc::new(open), Fetched::whole(bytes.clone()));
    }
    sources
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(START_MS + 600_000)
}
