use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use scoria_block::SampleBatch;

use super::*;
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
