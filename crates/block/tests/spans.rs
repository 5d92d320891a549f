//! What span and trace ids cost at rest: their own bytes and next to nothing else.
#![allow(clippy::unwrap_used, reason = "test code")]

use scoria_block::{
    BlockSpec, BlockWriter, DatasetInput, EncodedBlock, ProfileRow, ProfileRows, SampleBatch,
    StreamRange,
};
use scoria_model::{BlockId, Incarnation, Labels, NodeId, Seq, StreamId, TenantId};
use scoria_symbols::{SymbolTables, Symbols};

const PROFILES: usize = 1000;
const SAMPLES: usize = 1000;
/// All ids are different.
const SPANS: usize = PROFILES * SAMPLES;
const STACKS: u32 = 5000;

/// A chain of calls under `main` for each stack.
fn symbols() -> Symbols {
    let mut tables = SymbolTables::default();
    for at in 0..=STACKS {
        let name = format!("example.com/shop.Handler{at}");
        tables.push_plain(&name, u64::from(at), 7);
    }
    tables.node_parent = vec![u32::MAX, 0];
    tables.node_location = vec![u32::MAX, 0];
    for at in 1..=STACKS {
        tables.node_parent.push(1);
        tables.node_location.push(at);
    }
    Symbols::from_tables(tables).unwrap()
}

/// Numbers that look random to a compressor and are all different: each step can be undone.
fn id(at: u64) -> u64 {
    let mut id = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}

fn block(fill: impl Fn(&mut SampleBatch, u64)) -> EncodedBlock {
    let mut rows = ProfileRows::default();
    let mut samples = SampleBatch::default();
    for profile in 0..PROFILES {
        rows.push(ProfileRow {
            time_ns: 1_700_000_000_000_000_000 + profile as i64 * 15_000_000_000,
            period: 10_000_000,
            total: SAMPLES as i64 * 10_000_000,
            samples_start: samples.len() as u64,
            n_samples: SAMPLES as u32,
            seq: profile as u64 + 1,
            ..ProfileRow::default()
        });
        for sample in 0..SAMPLES as u32 {
            let at = (profile * SAMPLES) as u64 + u64::from(sample);
            // As real profiles are: about a byte a sample at rest.
            let step = STACKS / SAMPLES as u32;
            samples.stack.push(2 + sample * step + id(at) as u32 % step);
            samples.value.push(10_000_000 * (1 + (id(at) >> 58) as i64));
            fill(&mut samples, at);
        }
    }
    let node = NodeId(std::sync::Arc::from("node"));
    let mut writer = BlockWriter::new(BlockSpec {
        id: BlockId(1),
        level: 0,
        streams: vec![StreamRange {
            stream: StreamId {
                node,
                incarnation: Incarnation(1),
                n: 0,
            },
            from: Seq(0),
            to: Seq(PROFILES as u64),
        }],
        inputs: Vec::new(),
        merge: None,
        rollup_labels: Vec::new(),
    })
    .unwrap();
    let kind = "process_cpu:cpu:nanoseconds:cpu:nanoseconds".parse();
    writer
        .add(DatasetInput {
            tenant: &TenantId::anonymous(),
            service: "shop",
            symbols: &symbols(),
            series: &[Labels::from_pairs([("service_name", "shop")])],
            kinds: &[kind.unwrap()],
            profiles: &rows,
            samples: &samples,
        })
        .unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_million_spans_cost_their_ids() {
    let without = block(|_, _| {}).meta.bytes;
    let with = block(|samples, at| {
        samples.span.push(id(at));
        let (high, low) = (id(at | 1 << 40), id(at | 1 << 50));
        let trace = u128::from(high) << 64 | u128::from(low);
        samples.trace.push(trace.to_be_bytes());
    });
    let with = with.meta.bytes;
    let ids = (SPANS * (8 + 16)) as u64;
    let more = with as f64 - without as f64 - ids as f64;
    eprintln!(
        "{SPANS} samples: {without} bytes without ids, {with} with them, {ids} of which are ids: beyond these {:+.2} % of what is stored without",
        100.0 * more / without as f64
    );
    assert!(more < 0.05 * without as f64);
}
