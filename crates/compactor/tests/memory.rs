//! What a round of merging takes at its peak, by what the allocator says: a job's memory is that
//! which is set, whatever it is given. What does not fit is divided over several outputs.
//!
//! A binary of its own with one test, so that nothing else allocates meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "test code, which says what it measured"
)]

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use peak_alloc::PeakAlloc;
use prometheus_client::registry::Registry;
use scoria_block::{
    BlockSpec, BlockWriter, DatasetInput, EncodedBlock, ProfileRow, ProfileRows, SampleBatch,
    StreamRange,
};
use scoria_compactor::{Compactor, Components, Metrics, PlanSettings, RetentionOf, Settings};
use scoria_model::{
    BlockId, Epoch, Incarnation, Labels, NodeId, ProfileType, Seq, StreamId, TenantId,
};
use scoria_storage::testing::HeldClock;
use scoria_storage::{
    BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, CatalogueState, Op, Txn,
};
use scoria_symbols::{Function, Line, SymbolTables, Symbols};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The default of `compactor.memory`.
const MEMORY: u64 = 256 << 20;
/// Blocks of one commit.
const AT_ONCE: usize = 500;

/// As many distinct stacks, which no other salt has: ten functions below each node, and all below
/// one of its own.
fn symbols(stacks: u32, salt: u32) -> Symbols {
    let mut tables = SymbolTables::default();
    for at in 0..11u32 {
        let name = match at {
            10 => format!("root{salt}"),
            at => format!("function{at}"),
        };
        let name = tables.strings.push(&name);
        tables.functions.push(Function {
            name,
            ..Function::default()
        });
        tables.location_mapping.push(u32::MAX);
        let address = if at == 10 {
            u64::from(salt) + 100
        } else {
            u64::from(at)
        };
        tables.location_address.push(address);
        tables.lines.push(Line {
            function: at,
            line: 1,
        });
        tables.location_lines_end.push(at + 1);
    }
    tables.node_parent.push(0);
    tables.node_location.push(10);
    for node in 0..stacks {
        tables.node_parent.push(1 + node / 10);
        tables.node_location.push(node % 10);
    }
    Symbols::from_tables(tables).unwrap()
}

fn stream(n: u32) -> StreamId {
    StreamId {
        node: NodeId("node".into()),
        incarnation: Incarnation(1),
        n,
    }
}

/// A block of level 0 with one dataset of `profiles`, each of which has each stack once.
fn block(n: u32, (stacks, salt): (u32, u32), profiles: u32) -> EncodedBlock {
    let mut writer = BlockWriter::new(BlockSpec {
        id: BlockId(u128::from(n) + 1),
        level: 0,
        streams: vec![StreamRange {
            stream: stream(n),
            from: Seq(0),
            to: Seq(1000),
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    })
    .unwrap();
    let symbols = symbols(stacks, salt);
    // After the nodes that are above them all.
    let first = symbols.nodes_len() as u32 - stacks;
    let kind: ProfileType = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
        .parse()
        .unwrap();
    let (mut rows, mut samples) = (ProfileRows::default(), SampleBatch::default());
    for at in 0..profiles {
        rows.push(ProfileRow {
            time_ns: i64::from(at) * 1_000_000_000,
            seq: u64::from(at) + 1,
            samples_start: samples.stack.len() as u64,
            n_samples: stacks,
            total: i64::from(stacks),
            ..ProfileRow::default()
        });
        samples.stack.extend(first..first + stacks);
        samples.value.resize(samples.stack.len(), i64::from(at) + 1);
    }
    writer
        .add(DatasetInput {
            tenant: &TenantId::anonymous(),
            service: "api",
            symbols: &symbols,
            series: &[Labels::from_pairs([("service_name", "api")])],
            kinds: &[kind],
            profiles: &rows,
            samples: &samples,
        })
        .unwrap();
    writer.finish().unwrap()
}

/// The same rows as records of another stream.
fn of_stream(block: &EncodedBlock, n: u32) -> EncodedBlock {
    let mut block = block.clone();
    block.meta.id = BlockId(u128::from(n) + 1);
    block.meta.streams[0].stream = stream(n);
    block
}

async fn commit(catalogue: &Catalogue, blocks: &[EncodedBlock]) {
    let node = NodeId("node".into());
    let (mut open, mut add) = (Txn::new(), Txn::new());
    for block in blocks {
        let range = &block.meta.streams[0];
        open = open.then(Op::OpenStream {
            stream: range.stream.clone(),
            epoch: Epoch(1),
            owner: node.clone(),
            members: vec![node.clone()],
            quorum: 1,
        });
        add = add.then(Op::AddBlock(Arc::new(block.meta.clone())));
        add = add.then(Op::Advance {
            stream: range.stream.clone(),
            epoch: Epoch(1),
            from: range.from,
            to: range.to,
        });
    }
    catalogue.commit(open).await.unwrap();
    catalogue.commit(add).await.unwrap();
}

/// What a round over the blocks did.
struct Round {
    /// Bytes of the heap at the peak, beyond what was there before and the outputs, which the store
    /// in memory keeps.
    peak: u64,
    state: Arc<CatalogueState>,
}

async fn round(blocks: impl Iterator<Item = EncodedBlock>) -> Round {
    let clock = Arc::new(HeldClock::default());
    let store = Arc::new(InMemory::new());
    let metrics = || scoria_storage::Metrics::new(&mut Registry::default());
    let catalogue = Catalogue::open(
        Arc::clone(&store) as _,
        CatalogueOptions::new(Arc::clone(&clock) as _, metrics()),
    )
    .await
    .unwrap();
    let store = BlockStore::new(
        store,
        BlockStoreOptions {
            metrics: metrics(),
            cache_bytes: 0,
            coalesce_gap: 0,
        },
    );
    let mut written = Vec::new();
    let mut blocks = blocks.peekable();
    while let Some(block) = blocks.next() {
        store.put_block(&block).await.unwrap();
        written.push(block);
        if written.len() == AT_ONCE || blocks.peek().is_none() {
            commit(&catalogue, &written).await;
            written.clear();
        }
    }
    clock.advance(Duration::from_secs(2 * 3600));
    let settings = Settings {
        rollup_labels: Vec::new(),
        plan: PlanSettings {
            small_bytes: 1,
            // All of it is one job's.
            job_blocks: usize::MAX,
            job_bytes: u64::MAX,
            ..PlanSettings::default()
        },
        interval: Duration::from_secs(1),
        memory_bytes: MEMORY,
        garbage_grace: Duration::from_secs(600),
        orphan_grace: Duration::from_secs(1200),
        orphan_scan: Duration::from_secs(1200),
        log_keep: Duration::from_secs(3600),
        retention: RetentionOf::fixed(None),
    };
    let mut compactor = Compactor::new(
        settings,
        Components {
            catalogue: catalogue.clone(),
            blocks: store,
            clock,
            metrics: Metrics::new(&mut Registry::default()),
        },
    );
    let before = HEAP.current_usage() as u64;
    HEAP.reset_peak_usage();
    compactor.round().await.unwrap();
    let peak = HEAP.peak_usage() as u64 - before;
    let state = catalogue.state();
    let outputs = state.blocks().filter(|meta| meta.level == 1);
    Round {
        peak: peak.saturating_sub(outputs.map(|meta| meta.bytes).sum()),
        state,
    }
}

impl Round {
    /// The outputs; nothing is left of level 0, and nothing was given up.
    fn check(&self, what: &str, (profiles, samples): (u64, u64)) -> usize {
        let mib = self.peak as f64 / f64::from(1 << 20);
        let outputs: Vec<_> = self.state.blocks().collect();
        println!("{what}: {mib:.0} MiB, {} outputs", outputs.len());
        assert_eq!(self.state.quarantine().count(), 0, "{what}");
        assert!(outputs.iter().all(|meta| meta.level == 1), "{what}");
        let datasets = || outputs.iter().flat_map(|meta| &meta.datasets);
        let found: u64 = datasets().map(|dataset| dataset.n_profiles()).sum();
        assert_eq!(found, profiles, "{what}");
        let found: u64 = datasets().map(|dataset| dataset.n_samples()).sum();
        assert_eq!(found, samples, "{what}");
        assert!(self.peak <= MEMORY, "{what}: {mib:.0} MiB");
        outputs.len()
    }
}

#[tokio::test]
async fn a_job_keeps_to_its_memory() {
    let distinct = round((0..20).map(|n| block(n, (50_000, n), 1))).await;
    distinct.check("1,000,000 distinct stacks in 20 blocks", (20, 1_000_000));
    let stacks = distinct.state.blocks().flat_map(|meta| &meta.datasets);
    let stacks: u32 = stacks.map(|dataset| dataset.n_stacks).sum();
    assert_eq!(stacks, 1_000_000);
    drop(distinct);

    let more = round((0..60).map(|n| block(n, (50_000, n), 1))).await;
    let outputs = more.check("3,000,000 distinct stacks in 60 blocks", (60, 3_000_000));
    assert!(outputs > 1, "what does not fit is divided");
    drop(more);

    let one = block(0, (20, 0), 4);
    let many = (0..10_000).map(|n| of_stream(&one, n));
    let many = round(many).await;
    many.check("10,000 blocks", (40_000, 800_000));

    let one = block(0, (2000, 0), 100);
    drop(many);
    let large = (0..64).map(|n| of_stream(&one, n));
    let large = round(large).await;
    large.check("64 blocks of 200,000 samples", (6400, 12_800_000));
}
