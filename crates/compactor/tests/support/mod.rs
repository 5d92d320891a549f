//! A bucket with blocks of a few tenants, and what a query over a version of it finds.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use scoria_block::{
    BlockSpec, BlockWriter, Columns, DatasetInput, EncodedBlock, OpenTable, ProfileRow,
    ProfileRows, SampleBatch, SampleRead, Sources, StreamRange, Table, decode_profiles,
    decode_samples, decode_series, decode_symbols,
};
use scoria_compactor::{Compactor, Components, Metrics, PlanSettings, RetentionOf, Settings};
use scoria_model::{
    BlockId, Clock, Epoch, Incarnation, Labels, NodeId, ProfileType, Seq, StreamId, TenantId,
};
use scoria_query::deletion::{Deletion, Hidden};
use scoria_storage::testing::{FaultPlan, FaultRates, FaultyStore, TokioClock};
use scoria_storage::{
    BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, CatalogueState, Op, Purpose, Txn,
};
use scoria_symbols::{Dictionary, SymbolTables, Symbols};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const HOUR_NS: i64 = 3_600_000_000_000;
const TENANTS: [&str; 2] = ["acme", "tiny"];
const SERVICES: [&str; 3] = ["api", "web", "worker"];

/// One profile as a query sees it: tenant, pod, type, sequence number, and its samples by function.
pub(crate) type Seen = (String, String, String, u64, BTreeMap<String, i64>);

/// A bucket whose every request takes a moment, so that each is a place to be interrupted at.
pub(crate) struct World {
    pub(crate) store: FaultyStore,
    pub(crate) clock: Arc<TokioClock>,
    /// The handle of the one who writes and asks.
    pub(crate) catalogue: Catalogue,
    pub(crate) blocks: BlockStore,
    flushed: u64,
}

fn stream() -> StreamId {
    StreamId {
        node: NodeId("node".into()),
        incarnation: Incarnation(1),
        n: 0,
    }
}

fn options(clock: &Arc<TokioClock>) -> CatalogueOptions {
    let metrics = scoria_storage::Metrics::new(&mut Registry::default());
    let clock = Arc::clone(clock);
    CatalogueOptions::new(clock, metrics)
}

fn block_store(store: &FaultyStore) -> BlockStore {
    let options = BlockStoreOptions {
        metrics: scoria_storage::Metrics::new(&mut Registry::default()),
        cache_bytes: 0,
        coalesce_gap: 0,
    };
    BlockStore::new(Arc::new(store.clone()), options)
}

impl World {
    pub(crate) fn catalogue_options(&self) -> CatalogueOptions {
        options(&self.clock)
    }

    /// With `hours` of blocks, four each.
    pub(crate) async fn new(seed: u64, hours: i64) -> Self {
        let slow = FaultRates {
            slow: 1000,
            ..FaultRates::default()
        };
        let store = FaultyStore::new(Arc::new(InMemory::new()), FaultPlan::new(seed, slow));
        let clock = Arc::new(TokioClock::default());
        let catalogue = Catalogue::open(Arc::new(store.clone()), options(&clock))
            .await
            .unwrap();
        let mut world = Self {
            blocks: block_store(&store),
            store,
            clock,
            catalogue,
            flushed: 0,
        };
        let node = NodeId("node".into());
        let open = Op::OpenStream {
            stream: stream(),
            epoch: Epoch(1),
            owner: node.clone(),
            members: vec![node],
            quorum: 1,
        };
        world.catalogue.commit(Txn::new().then(open)).await.unwrap();
        for hour in 0..hours {
            for _ in 0..4 {
                world.flush(hour).await;
            }
        }
        world
    }

    /// Puts and commits one block of level 0.
    pub(crate) async fn flush(&mut self, hour: i64) {
        let (from, to) = (self.flushed * 10, self.flushed * 10 + 10);
        self.flushed += 1;
        let block = level0(from, hour);
        self.blocks.put_block(&block).await.unwrap();
        let range = (Seq(from), Seq(to));
        let txn = Txn::flush(&stream(), Epoch(1), range, [Arc::new(block.meta)]);
        self.catalogue.commit(txn).await.unwrap();
    }

    /// Another process that compacts.
    pub(crate) async fn compactor(&self) -> Compactor {
        self.compactor_that_keeps(RetentionOf::fixed(None)).await
    }

    pub(crate) async fn compactor_that_keeps(&self, retention: RetentionOf) -> Compactor {
        let catalogue = Catalogue::open(Arc::new(self.store.clone()), options(&self.clock))
            .await
            .unwrap();
        let settings = Settings {
            rollup_labels: Vec::new(),
            plan: PlanSettings {
                settle: Duration::from_secs(60),
                small_bytes: 1,
                ..PlanSettings::default()
            },
            interval: Duration::from_secs(1),
            memory_bytes: 64 << 20,
            garbage_grace: Duration::from_secs(600),
            orphan_grace: Duration::from_secs(1200),
            orphan_scan: Duration::ZERO,
            log_keep: Duration::from_secs(3600),
            retention,
        };
        let clock = Arc::clone(&self.clock);
        let components = Components {
            catalogue,
            blocks: self.blocks.uncached(),
            clock,
            metrics: Metrics::new(&mut Registry::default()),
        };
        Compactor::new(settings, components)
    }

    /// Everything that a query over `state` finds, sorted.
    pub(crate) async fn seen(&self, state: &CatalogueState) -> Result<Vec<Seen>, String> {
        let mut seen = Vec::new();
        for meta in state.blocks() {
            for (at, dataset) in state.live_datasets(meta) {
                let kept = state.deletions_in(meta, &dataset.tenant);
                let deletions: Vec<Arc<Deletion>> = kept
                    .map(|d| Deletion::new(&d.tombstone.selector, d.tombstone.before))
                    .map(|d| Arc::new(d.unwrap()))
                    .collect();
                self.read(meta, at, &deletions, &mut seen).await?;
            }
        }
        seen.sort();
        Ok(seen)
    }

    async fn read(
        &self,
        meta: &scoria_block::BlockMeta,
        at: usize,
        deletions: &[Arc<Deletion>],
        seen: &mut Vec<Seen>,
    ) -> Result<(), String> {
        let dataset = &meta.datasets[at];
        let mut sources = Sources::default();
        for table in &meta.tables {
            let open = OpenTable::new(table).map_err(|e| e.to_string())?;
            let rows = dataset.rows(table.table);
            let ranges = open
                .ranges(&[rows], Columns::Plain)
                .map_err(|e| e.to_string())?;
            let fetched = self
                .blocks
                .fetch(meta, table.table, &ranges, Purpose::Query)
                .await
                .map_err(|e| e.to_string())?;
            sources.insert(Arc::new(open), fetched.into_parts().0);
        }
        let text = |e: scoria_block::BlockError| e.to_string();
        let series = decode_series(&sources, dataset).map_err(text)?;
        let rows = decode_profiles(&sources, meta, dataset).map_err(text)?;
        let symbols = decode_symbols(&sources, dataset).map_err(text)?;
        let hidden = Hidden::of(deletions, &dataset.kinds, &series);
        for row in 0..rows.len() {
            let run = rows.run(row);
            let row = rows.row(row);
            if hidden.hides(row.kind, row.series, row.time_ns) {
                continue;
            }
            let kind = &dataset.kinds[row.kind as usize];
            let mut samples: BTreeMap<String, i64> = BTreeMap::new();
            let read = SampleRead {
                runs: &[run],
                columns: Columns::Plain,
                n_stacks: dataset.n_stacks,
            };
            if let Some((open, fetched)) = sources.get(Table::of_kind(kind)) {
                decode_samples((open, fetched), read, &mut |batch, _| {
                    for (rank, value) in batch.stack.iter().zip(&batch.value) {
                        let node = symbols.nodes[*rank as usize];
                        let name = leaf(&symbols.symbols, node);
                        *samples.entry(name).or_default() += value;
                    }
                })
                .map_err(text)?;
            }
            let pod = series[row.series as usize].get("pod").unwrap_or_default();
            seen.push((
                dataset.tenant.to_string(),
                format!("{}/{pod}", dataset.service),
                kind.to_string(),
                row.seq,
                samples,
            ));
        }
        Ok(())
    }

    /// Lets time pass.
    pub(crate) async fn wait(&self, by: Duration) {
        tokio::time::sleep(by).await;
        assert!(self.clock.monotonic() >= by);
    }
}

fn leaf(symbols: &Symbols, node: u32) -> String {
    let location = symbols.stack(node).next().unwrap();
    let function = symbols.location(location).lines[0].function;
    symbols.string(symbols.function(function).name).to_owned()
}

/// Symbols of four functions, of which each block has others.
fn symbols(salt: u64) -> Symbols {
    let mut tables = SymbolTables::default();
    for n in 0..4u64 {
        tables.strings.push(&format!("function-{}", (salt + n) % 6));
        tables.functions.push(scoria_symbols::Function {
            name: n as u32 + 1,
            system_name: 0,
            filename: 0,
            start_line: 0,
        });
        tables.lines.push(scoria_symbols::Line {
            function: n as u32,
            line: 1,
        });
        tables.location_lines_end.push(n as u32 + 1);
        tables.location_address.push(0);
        tables.location_mapping.push(u32::MAX);
        tables.node_parent.push(n as u32);
        tables.node_location.push(n as u32);
    }
    // Through a dictionary, as heads have them.
    let mut dictionary = Dictionary::new();
    dictionary.absorb(&Symbols::from_tables(tables).unwrap());
    dictionary.snapshot()
}

fn level0(from: u64, hour: i64) -> EncodedBlock {
    let kinds: Vec<ProfileType> = [
        "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        "memory:inuse_space:bytes:space:bytes",
    ]
    .map(|kind| kind.parse().unwrap())
    .to_vec();
    let mut writer = BlockWriter::new(BlockSpec {
        id: BlockId(u128::from(from) + 1),
        level: 0,
        streams: vec![StreamRange {
            stream: stream(),
            from: Seq(from),
            to: Seq(from + 10),
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    })
    .unwrap();
    for tenant in TENANTS {
        for service in SERVICES {
            let symbols = symbols(from / 10);
            let series =
                ["a", "b"].map(|pod| Labels::from_pairs([("service_name", service), ("pod", pod)]));
            let (mut profiles, mut samples) = (ProfileRows::default(), SampleBatch::default());
            for n in 0..8u32 {
                profiles.push(ProfileRow {
                    kind: n % 2,
                    series: n / 2 % 2,
                    time_ns: hour * HOUR_NS + i64::from(n) * 1_000_000_000,
                    seq: from + 1 + u64::from(n),
                    samples_start: samples.len() as u64,
                    n_samples: 4,
                    total: 10,
                    ..ProfileRow::default()
                });
                samples.stack.extend([1, 2, 3, 4]);
                samples.value.extend([1, 2, 3, 4]);
            }
            writer
                .add(DatasetInput {
                    tenant: &TenantId::parse(tenant).unwrap(),
                    service,
                    symbols: &symbols,
                    series: &series,
                    kinds: &kinds,
                    profiles: &profiles,
                    samples: &samples,
                })
                .unwrap();
        }
    }
    writer.finish().unwrap()
}

/// Polls a future so many times and then drops it: the process dies at that await.
pub(crate) struct Killed<F> {
    future: Pin<Box<F>>,
    left: u32,
}

impl<F: Future> Killed<F> {
    pub(crate) fn after(polls: u32, future: F) -> Self {
        Self {
            future: Box::pin(future),
            left: polls,
        }
    }
}

impl<F: Future> Future for Killed<F> {
    /// What the future came to, if it did.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match pin!(&mut self.future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Pending,
        }
    }
}
