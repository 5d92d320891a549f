use std::collections::BTreeMap;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use proptest::collection::vec;
use proptest::prelude::*;
use scoria_block::SampleBatch;
use scoria_model::ByteBudget;
use scoria_query::functions::FunctionTree;

use super::functions::TreeMemory;
use super::*;
use crate::metrics::Metrics;
use crate::record::tests::{Told, any_profile, part, write};
use crate::record::{RecordReader, RecordWriter, Replayed};

/// Everything that heads show, by tenant, service, series and type.
type Shown = BTreeMap<(String, String, String, String), Vec<(i64, i64, u32, u64, u32, i64)>>;

fn shown(heads: &Heads) -> Shown {
    let mut shown = Shown::new();
    for head in heads.iter() {
        let snapshot = head.snapshot();
        assert_eq!(snapshot.n_profiles() as u64, head.n_profiles());
        let mut batch = SampleBatch::default();
        for row in snapshot.rows().iter().flat_map(|chunk| chunk.iter()) {
            batch.clear();
            snapshot.samples(&row, &mut batch).unwrap();
            assert!(batch.is_even());
            assert_eq!(batch.len(), row.n_samples as usize);
            assert!(
                batch
                    .stack
                    .iter()
                    .all(|&node| (node as usize) < snapshot.symbols().nodes_len())
            );
            let sum = batch.value.iter().fold(0i64, |sum, v| sum.wrapping_add(*v));
            assert_eq!(sum, row.total);
            let key = (
                snapshot.tenant().to_string(),
                snapshot.service().to_owned(),
                snapshot.series()[row.series as usize].to_string(),
                snapshot.kinds()[row.kind as usize].to_string(),
            );
            let value = (
                row.time_ns,
                row.duration_ns,
                row.n_samples,
                row.seq,
                row.place,
                row.total,
            );
            shown.entry(key).or_default().push(value);
        }
    }
    shown
}

proptest! {
    #[test]
    fn heads_show_the_same_live_and_replayed(
        pushes in vec(vec(vec(any_profile(), 0..4), 1..3), 1..8),
    ) {
        let (mut writer, mut reader) = (RecordWriter::new(), RecordReader::new());
        let (mut live, mut replayed) = (Heads::new(), Heads::new());
        let mut profiles = 0;
        for (seq, parts) in (1..).map(Seq).zip(&pushes) {
            profiles += parts.iter().map(Vec::len).sum::<usize>() as u64;
            let parts: Vec<_> = (0..).zip(parts).map(|(key, told)| part(key, told)).collect();
            let record = write(&mut writer, "a", &parts);
            live.append(&record.push, seq);
            match reader.replay(&record.bytes).unwrap() {
                Replayed::Push(push) => replayed.append(&push, seq),
                Replayed::RetryKeys(_) => prop_assert!(false),
            }
        }
        prop_assert_eq!(shown(&live), shown(&replayed));
        prop_assert_eq!(live.iter().map(Head::n_profiles).sum::<u64>(), profiles);
        prop_assert_eq!(live.bytes(), live.iter().map(Head::bytes).sum::<u64>());
    }

    #[test]
    fn what_is_collected_for_a_block_is_what_queries_see(
        pushes in vec(vec(any_profile(), 0..4), 1..6),
        from in any::<i8>(),
    ) {
        let mut writer = RecordWriter::new();
        let mut heads = Heads::new();
        for (seq, told) in (1..).map(Seq).zip(&pushes) {
            heads.append(&write(&mut writer, "a", &[part(0, told)]).push, seq);
        }
        for head in heads.iter() {
            let snapshot = head.snapshot();
            let (_, whole) = snapshot.collect(|_| true).unwrap();
            let named = |at| whole.span_of(at) != 0 || whole.trace_of(at) != [0; 16];
            prop_assert_eq!(snapshot.has_spans(), (0..whole.len()).any(named));
            let (rows, all) = snapshot.collect(|row| row.time_ns >= i64::from(from)).unwrap();
            prop_assert!(all.is_even());
            let mut one = SampleBatch::default();
            let wanted = snapshot.rows().iter().flat_map(|chunk| chunk.iter())
                .filter(|row| row.time_ns >= i64::from(from));
            let mut n = 0;
            for (at, row) in wanted.enumerate() {
                one.clear();
                snapshot.samples(&row, &mut one).unwrap();
                let start = rows.samples_start[at] as usize;
                for sample in 0..one.len() {
                    prop_assert_eq!(one.stack[sample], all.stack[start + sample]);
                    prop_assert_eq!(one.value[sample], all.value[start + sample]);
                    prop_assert_eq!(one.span_of(sample), all.span_of(start + sample));
                    prop_assert_eq!(one.trace_of(sample), all.trace_of(start + sample));
                }
                n += one.len();
            }
            prop_assert_eq!(n, all.len());
        }
    }
}

fn busy(n: i64) -> Told {
    Told {
        series: (n % 3) as u8,
        kind: 0,
        times: (n, 10, 10),
        samples: (0..40)
            .map(|stack| (stack, 1 + (i64::from(stack) * n) % 977, 0))
            .collect(),
    }
}

#[test]
fn snapshots_stay_as_they_were_while_chunks_fill() {
    let mut writer = RecordWriter::new();
    let mut heads = Heads::new();
    let mut snapshots = Vec::new();
    for n in 0..2500 {
        let record = write(&mut writer, "a", &[part(0, &[busy(n)])]);
        heads.append(&record.push, Seq(n as u64 + 1));
        if n % 500 == 0 {
            let head = heads.get(&record.push.tenant, "shop/api").unwrap();
            snapshots.push((n as usize + 1, head.snapshot()));
        }
    }
    for (n_profiles, snapshot) in snapshots {
        assert_eq!(snapshot.n_profiles(), n_profiles);
        let (rows, samples) = snapshot.collect(|_| true).unwrap();
        assert_eq!(samples.len(), n_profiles * 40);
        assert!(rows.time_ns.iter().copied().eq(0..n_profiles as i64));
        assert_eq!(
            samples.value.iter().sum::<i64>(),
            rows.total.iter().sum::<i64>()
        );
        let times = (Timestamp(0), Timestamp(n_profiles as i64 - 1));
        assert_eq!(snapshot.times(), Some(times));
    }
    let head = heads.iter().next().unwrap();
    let per_sample = heads.bytes() / head.n_samples();
    assert!(per_sample <= 16, "{per_sample} bytes per sample");
}

#[test]
fn tenants_are_apart() {
    let mut writer = RecordWriter::new();
    let mut heads = Heads::new();
    for (seq, tenant) in ["b", "a", "c"].into_iter().enumerate() {
        let record = write(&mut writer, tenant, &[part(0, &[busy(1)])]);
        heads.append(&record.push, Seq(seq as u64 + 1));
    }
    let tenants: Vec<&str> = heads.iter().map(|head| head.tenant().as_str()).collect();
    assert_eq!(tenants, ["a", "b", "c"]);
    let b = TenantId::parse("b").unwrap();
    let of_b: Vec<&Head> = heads.of_tenant(&b).collect();
    assert_eq!(of_b.len(), 1);
    assert_eq!(of_b[0].tenant().as_str(), "b");
    assert!(
        heads
            .get(&TenantId::parse("b").unwrap(), "shop/web")
            .is_none()
    );
}

/// A tree as texts: the path of names to each node of the stack tree.
fn paths(tree: &FunctionTree) -> Vec<String> {
    let mut paths = vec![String::new()];
    for at in 1..tree.len() {
        let above = &paths[tree.parents()[at] as usize];
        paths.push(format!("{above};{}", tree.name(at)));
    }
    let of_node = tree.node_of().iter();
    of_node.map(|&at| paths[at as usize].clone()).collect()
}

fn shows(registry: &Registry, line: &str) -> bool {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text.lines().any(|shown| shown == line)
}

#[test]
fn the_function_tree_grows_with_the_head_and_is_the_one_of_each_snapshot() {
    let mut registry = Registry::default();
    let memory = TreeMemory {
        budget: ByteBudget::new("function trees", 1 << 20),
        metrics: Metrics::new(&mut registry),
    };
    let mut writer = RecordWriter::new();
    let mut heads = Heads::new();
    let mut snapshots = Vec::new();
    for n in 0..12 {
        let told = Told {
            samples: (0..=n).map(|stack| (stack, 1, 0)).collect(),
            ..busy(1)
        };
        let record = write(&mut writer, "a", &[part(0, &[told])]);
        heads.append(&record.push, Seq(u64::from(n) + 1));
        let snapshot = heads.iter().next().unwrap().snapshot();
        let tree = snapshot.functions(&memory);
        // A query that still reads the tree of a smaller head is not disturbed.
        snapshots.push((snapshot, tree));
    }
    for (snapshot, tree) in &snapshots {
        let built = paths(&FunctionTree::of(snapshot.symbols()));
        assert_eq!(paths(tree), built);
        assert_eq!(paths(&snapshot.functions(&memory)), built);
    }
    let (newest, tree) = snapshots.last().unwrap();
    assert!(Arc::ptr_eq(tree, &newest.functions(&memory)), "kept");
    assert!(memory.budget.used() >= tree.bytes());
    let older: usize = snapshots[..11]
        .iter()
        .map(|(s, _)| s.symbols().nodes_len())
        .sum();
    // Each node once while the head grew, and the older trees again when they were asked for.
    let line = format!(
        "scoria_ingester_function_nodes_total{{outcome=\"built\"}} {}",
        older + newest.symbols().nodes_len()
    );
    assert!(shows(&registry, &line), "{line}");
    drop((heads, snapshots));
    assert_eq!(memory.budget.used(), 0, "gone with its head");
}

#[test]
fn a_function_tree_that_does_not_fit_serves_and_is_not_kept() {
    let memory = TreeMemory {
        budget: ByteBudget::new("function trees", 8),
        metrics: Metrics::unregistered(),
    };
    let mut writer = RecordWriter::new();
    let mut heads = Heads::new();
    heads.append(
        &write(&mut writer, "a", &[part(0, &[busy(1)])]).push,
        Seq(1),
    );
    let snapshot = heads.iter().next().unwrap().snapshot();
    let built = paths(&FunctionTree::of(snapshot.symbols()));
    for _ in 0..2 {
        assert_eq!(paths(&snapshot.functions(&memory)), built);
        assert_eq!(memory.budget.used(), 0);
    }
}
