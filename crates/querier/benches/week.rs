//! Seven days of one service of a hundred pods, from a store that takes 30 ms for each request: what
//! a flame graph of all of it reads, in how many rounds, and how long it takes.
//!
//! The days are over and merged as a compactor with 256 MiB merges them, the last one is there hour
//! by hour, and the range begins and ends within a five minutes. Runs on the fleet of real profiles
//! and does nothing without the corpus. Building the week takes some minutes and a gigabyte; without
//! optimisation it is one of a profile a minute.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and prints what it measured"
)]

#[path = "../../block/tests/support/mod.rs"]
mod fleet;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::reading::{fetch_dataset, object, open_all};
use fleet::{Fleet, FleetShape, cpu_fleet};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use prometheus_client::registry::Registry;
use scoria_block::{
    BlockSpec, BlockWriter, EncodedBlock, Keep, MergeInput, MergeRules, Resends, Sources, Table,
};
use scoria_model::{BlockId, ByteBudget, Clock, Epoch, Limits, Seq, StreamId, TenantId, Timestamp};
use scoria_querier::{Components, LimitsOf, Querier, QueryStats, Settings};
use scoria_query::request::SelectMergeStacktraces;
use scoria_storage::testing::HeldClock;
use scoria_storage::{
    BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, GuardedStore, Metrics, Op,
    RequestMetrics, RequestPolicy, Txn,
};

const PODS: usize = 100;
const DAYS: i64 = 7;
/// Profiles of each pod in an hour.
const STEPS: usize = if cfg!(debug_assertions) { 60 } else { 240 };
const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_NS: i64 = 24 * HOUR_NS;
/// When it is asked, in the day after the seven.
const NOW_NS: i64 = 15 * HOUR_NS + 7 * 60_000_000_000 + 33_000_000_000;
/// What one dataset may take in a job of 256 MiB.
const HELD_BYTES: u64 = 64 << 20;
const TO: Seq = Seq(1 << 40);
const REQUEST: Duration = Duration::from_millis(30);
/// Bytes that are read along to save a request to a remote store.
const GAP: u64 = 256 << 10;

fn stream() -> StreamId {
    fleet::spec().streams.remove(0).stream
}

/// Midnight of the first day.
fn midnight() -> i64 {
    fleet::START_NS - fleet::START_NS.rem_euclid(DAY_NS)
}

/// Real profiles that move on from hour to hour.
struct Hours {
    bases: Vec<(Fleet, i64)>,
    next_id: u128,
}

impl Hours {
    fn new() -> Option<Self> {
        let base = |seed| {
            let shape = FleetShape {
                pods: PODS,
                steps: STEPS,
                seed,
            };
            Some((cpu_fleet(shape)?, fleet::START_NS))
        };
        Some(Self {
            bases: (1..=3).map(base).collect::<Option<_>>()?,
            next_id: 1,
        })
    }

    fn spec(&mut self, level: u8) -> BlockSpec {
        let mut spec = fleet::spec();
        spec.id = BlockId(self.next_id);
        spec.level = level;
        spec.streams[0].to = TO;
        self.next_id += 1;
        spec
    }

    /// Hour `at` of the week as it was merged; as it was flushed if it is not over.
    fn hour(&mut self, at: i64) -> EncodedBlock {
        let n = self.bases.len();
        let (fleet, start) = &mut self.bases[at as usize % n];
        let begins = midnight() + at * HOUR_NS;
        let moved = begins - *start;
        *start = begins;
        fleet.profiles.time_ns.iter_mut().for_each(|t| *t += moved);
        // Nobody's double.
        fleet
            .profiles
            .seq
            .iter_mut()
            .for_each(|seq| *seq += 1 << 20);
        let block = fleet.block();
        let mut merged = self.merge(1, &[block]);
        assert_eq!(merged.len(), 1);
        merged.remove(0)
    }

    /// The outputs of a merge, of which each takes as many inputs as fit.
    fn merge(&mut self, level: u8, blocks: &[EncodedBlock]) -> Vec<EncodedBlock> {
        let mut outputs = Vec::new();
        let mut rest = blocks;
        while !rest.is_empty() {
            let mut writer = BlockWriter::new(self.spec(level)).unwrap();
            writer.without_spans();
            let sources: Vec<Sources> = rest.iter().map(whole).collect();
            let inputs: Vec<MergeInput<'_>> = rest
                .iter()
                .zip(&sources)
                .map(|(block, sources)| MergeInput {
                    block: &block.meta,
                    dataset: &block.meta.datasets[0],
                    sources,
                })
                .collect();
            let keep: Keep<'_> = &|_, _, _| Vec::new();
            let rules = MergeRules {
                keep,
                bytes_max: HELD_BYTES,
            };
            let of = (&TenantId::anonymous(), "prometheus");
            let merged = writer
                .add_merged(of, &inputs, rules, &mut Resends::default())
                .unwrap();
            rest = &rest[merged.inputs..];
            outputs.push(writer.finish().unwrap());
        }
        outputs
    }
}

fn whole(block: &EncodedBlock) -> Sources {
    let opened = open_all(&block.meta).unwrap();
    let bytes = |table| object(block, table).unwrap().clone();
    fetch_dataset(&opened, &block.meta.datasets[0], &bytes).unwrap()
}

struct World {
    store: Arc<ThrottledStore<InMemory>>,
    clock: Arc<dyn Clock>,
    catalogue: Catalogue,
}

impl World {
    async fn new() -> Self {
        let store = ThrottledStore::new(InMemory::new(), ThrottleConfig::default());
        let store = Arc::new(store);
        let clock: Arc<dyn Clock> = Arc::new(HeldClock::default());
        let metrics = Metrics::new(&mut Registry::default());
        let options = CatalogueOptions::new(Arc::clone(&clock), metrics);
        let catalogue = Catalogue::open(Arc::clone(&store) as _, options).await;
        Self {
            store,
            clock,
            catalogue: catalogue.unwrap(),
        }
    }

    fn blocks(&self, coalesce_gap: u64, requests: RequestPolicy) -> BlockStore {
        let options = BlockStoreOptions {
            metrics: Metrics::new(&mut Registry::default()),
            cache_bytes: 256 << 20,
            coalesce_gap,
        };
        let client = (Arc::clone(&self.store) as Arc<dyn ObjectStore>).into();
        let guarded = GuardedStore::new(client, requests, RequestMetrics::unregistered("week"));
        BlockStore::new(Arc::new(guarded), options)
    }

    /// One that has read nothing yet.
    fn querier(&self, datasets_in_flight: usize, blocks: BlockStore) -> Querier {
        let settings = Settings {
            datasets_in_flight,
            ..Settings::default()
        };
        let components = Components {
            catalogue: self.catalogue.clone(),
            blocks,
            ingesters: Vec::new(),
            memory: ByteBudget::new("queries", 8 << 30),
            limits: LimitsOf::all(Limits {
                max_query_lookback_ms: 0,
                max_query_length_ms: 0,
                ..Limits::default()
            }),
            clock: Arc::clone(&self.clock),
        };
        Querier::new(settings, components, &mut Registry::default())
    }
}

async fn build(world: &World) -> Option<()> {
    let mut hours = Hours::new()?;
    let blocks = world.blocks(0, RequestPolicy::local());
    let mut metas = Vec::new();
    let put = async |metas: &mut Vec<_>, block: EncodedBlock| {
        blocks.put_block(&block).await.unwrap();
        metas.push(Arc::new(block.meta));
    };
    let of = |block: &EncodedBlock, table| block.meta.table(table).map_or(0, |meta| meta.bytes);
    let (mut raw, mut rolled, mut profiles) = (0, 0, 0);
    for day in 0..DAYS {
        let merged: Vec<_> = (0..24).map(|hour| hours.hour(day * 24 + hour)).collect();
        for block in hours.merge(2, &merged) {
            let sums = [Table::Rollups, Table::Rollup5m, Table::Rollup1h];
            let sums: u64 = sums.map(|table| of(&block, table)).iter().sum();
            rolled += sums;
            raw += block.meta.bytes - sums;
            profiles += block.meta.datasets[0].n_profiles();
            put(&mut metas, block).await;
        }
    }
    println!(
        "{} blocks of {DAYS} days: {profiles} profiles of {} bytes, roll-ups {:.1} % beside them",
        metas.len(),
        raw / profiles,
        100.0 * rolled as f64 / raw as f64
    );
    for hour in 0..NOW_NS / HOUR_NS {
        put(&mut metas, hours.hour(DAYS * 24 + hour)).await;
    }
    let node = scoria_model::NodeId("node-1".into());
    let open = Txn::new().then(Op::OpenStream {
        stream: stream(),
        epoch: Epoch(1),
        owner: node.clone(),
        members: vec![node],
        quorum: 1,
    });
    let catalogue = &world.catalogue;
    catalogue.commit(open).await.unwrap();
    let flush = Txn::flush(&stream(), Epoch(1), (Seq(0), TO), metas);
    catalogue.commit(flush).await.unwrap();
    let close = Txn::new().then(Op::CloseStream {
        stream: stream(),
        epoch: Epoch(1),
        at: TO,
    });
    catalogue.commit(close).await.unwrap();
    Some(())
}

async fn ask(querier: &Querier) -> QueryStats {
    let now = midnight() + DAYS * DAY_NS + NOW_NS;
    let end_ms = now / 1_000_000;
    let request = SelectMergeStacktraces {
        profile_type: "process_cpu:cpu:nanoseconds:cpu:nanoseconds".to_owned(),
        label_selector: r#"{service_name="prometheus"}"#.to_owned(),
        start_ms: end_ms - DAYS * DAY_NS / 1_000_000,
        end_ms,
        ..SelectMergeStacktraces::default()
    };
    let tenants = [TenantId::anonymous()];
    let now = Timestamp(now);
    let answer = querier.tree(&tenants, &request, now).await.unwrap();
    answer.stats
}

fn main() {
    let runtime = |paused| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(paused)
            .build()
            .unwrap()
    };
    let real = runtime(false);
    let Some(world) = real.block_on(async {
        let world = World::new().await;
        build(&world).await.map(|()| world)
    }) else {
        return;
    };
    world
        .store
        .config_mut(|config| config.wait_get_per_call = REQUEST);
    // With nothing to wait for but the store.
    let virtually = runtime(true);
    let (stats, took) = virtually.block_on(async {
        let before = tokio::time::Instant::now();
        let querier = world.querier(1000, world.blocks(GAP, unbounded()));
        (ask(&querier).await, before.elapsed())
    });
    let exact = world.querier(1000, world.blocks(0, unbounded()));
    let exact = virtually.block_on(ask(&exact));
    let along = stats.bytes_fetched as f64 / exact.bytes_fetched as f64;
    // Q5.
    assert!(along <= 1.2, "{along:.2} times what is needed is read");
    println!(
        "{} datasets, {} by roll-ups: {:.1} MB ({along:.2} times what is needed) in {} requests, {} samples, {} rounds of {} ms",
        stats.datasets,
        stats.rolled,
        stats.bytes_fetched as f64 / 1e6,
        stats.requests,
        stats.samples,
        took.as_millis() / REQUEST.as_millis(),
        REQUEST.as_millis()
    );
    for run in 0..5 {
        // As a server reaches a remote store.
        let blocks = world.blocks(GAP, RequestPolicy::remote());
        let querier = world.querier(Settings::default().datasets_in_flight, blocks);
        let cpu = processor_time();
        let before = Instant::now();
        real.block_on(ask(&querier));
        let cold = before.elapsed();
        let used = processor_time() - cpu;
        let before = Instant::now();
        real.block_on(ask(&querier));
        println!(
            "run {run}: cold {} ms, of which {} ms of processor; again {} ms",
            cold.as_millis(),
            used.as_millis(),
            before.elapsed().as_millis()
        );
    }
}

/// Requests wait only for others whose answers they need.
fn unbounded() -> RequestPolicy {
    RequestPolicy {
        requests_max: 1 << 20,
        ..RequestPolicy::remote()
    }
}

/// What the threads of the process have used of processors.
fn processor_time() -> Duration {
    let of_thread = |entry: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let path = entry.ok()?.path().join("schedstat");
        let text = std::fs::read_to_string(path).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    Duration::from_nanos(threads.filter_map(of_thread).sum())
}
