//! M2: roll-ups say what the profiles say, in every bucket, and nothing else does.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use scoria_block::{
    BlockError, BlockMeta, BlockWriter, Columns, DatasetMeta, EncodedBlock, MergeInput, MergeRules,
    ProfileRows, Resends, Resolution, RollupRows, SampleRead, SampleRun, Sources, Table,
    check_rollups, decode_placed_profiles, decode_profiles, decode_rollups, decode_samples,
    decode_series, rows_of_kinds,
};
use scoria_model::Labels;
use support::made::dense;
use support::merging::{ROOMY, merge, sources, write};
use support::reading::{fetch_dataset, object, open_all};

/// Whether a merge of one block has memory enough for anything at all.
fn fits(block: &EncodedBlock, bytes_max: u64) -> bool {
    let dataset = &block.meta.datasets[0];
    let sources = sources(block, dataset);
    let mut spec = support::spec();
    spec.level = 1;
    let mut writer = BlockWriter::new(spec).unwrap();
    let input = MergeInput {
        block: &block.meta,
        dataset,
        sources: &sources,
    };
    let keep: scoria_block::Keep<'_> = &|_, _, _| Vec::new();
    let rules = MergeRules { keep, bytes_max };
    writer
        .add_merged(
            (&dataset.tenant, &dataset.service),
            &[input],
            rules,
            &mut Resends::default(),
        )
        .is_ok()
}

/// Kind, resolution, start, labels and period of a bucket.
type Key = (u32, Resolution, i64, String, i64);
type Sums = BTreeMap<u32, i64>;

fn runs(
    (sources, dataset): (&Sources, &DatasetMeta),
    table: Table,
    run: SampleRun,
) -> Vec<(u32, i64)> {
    let mut samples = Vec::new();
    if run.n == 0 {
        return samples;
    }
    let (open, fetched) = sources.get(table).unwrap();
    let read = SampleRead {
        runs: &[run],
        columns: Columns::Plain,
        n_stacks: dataset.n_stacks,
    };
    decode_samples((open, fetched), read, &mut |batch, _| {
        samples.extend(batch.stack.iter().copied().zip(batch.value.iter().copied()));
    })
    .unwrap();
    samples
}

/// What the roll-ups have to say, added up profile by profile.
fn expected(block: &BlockMeta, sources: &Sources) -> BTreeMap<Key, (u32, Sums)> {
    let dataset = &block.datasets[0];
    let series = decode_series(sources, dataset).unwrap();
    let rows = decode_profiles(sources, block, dataset).unwrap();
    let mut buckets: BTreeMap<Key, (u32, Sums)> = BTreeMap::new();
    for at in 0..rows.len() {
        let row = rows.row(at);
        let labels = &series[row.series as usize];
        let cut = ["owner", "service_name"].map(|name| (name, labels.get(name).unwrap()));
        let labels = Labels::from_pairs(cut).to_string();
        let table = Table::of_kind(&dataset.kinds[row.kind as usize]);
        for resolution in Resolution::ALL {
            let width = i64::from(resolution.seconds()) * 1_000_000_000;
            let start = row.time_ns.div_euclid(width) * width;
            let key = (row.kind, resolution, start, labels.clone(), row.period);
            let (profiles, sums) = buckets.entry(key).or_default();
            *profiles += 1;
            for (rank, value) in runs((sources, dataset), table, rows.run(at)) {
                *sums.entry(rank).or_default() += value;
            }
        }
    }
    buckets
        .values_mut()
        .for_each(|(_, sums)| sums.retain(|_, sum| *sum != 0));
    buckets
}

fn stored(
    block: &BlockMeta,
    sources: &Sources,
) -> (RollupRows, BTreeMap<Key, (u32, Option<Sums>)>) {
    let dataset = &block.datasets[0];
    let rollups = decode_rollups(sources, dataset).unwrap();
    let mut buckets = BTreeMap::new();
    for at in 0..rollups.rows.len() {
        let row = rollups.rows.row(at);
        let resolution = rollups.resolution[at];
        let labels = rollups.labels[row.series as usize].to_string();
        let key = (row.kind, resolution, row.time_ns, labels, row.period);
        let sums = rollups.written[at].then(|| {
            let samples = runs((sources, dataset), resolution.table(), rollups.rows.run(at));
            samples.into_iter().collect()
        });
        assert!(buckets.insert(key, (rollups.profiles[at], sums)).is_none());
    }
    (rollups, buckets)
}

/// Holds the roll-ups of a block of one dataset against its profiles; how many buckets have sums.
fn check(block: &EncodedBlock) -> usize {
    let dataset = &block.meta.datasets[0];
    let sources = sources(block, dataset);
    check_rollups(&sources, (&block.meta, dataset), ROOMY).unwrap();
    let (expected, (rollups, stored)) = (
        expected(&block.meta, &sources),
        stored(&block.meta, &sources),
    );
    if rollups.rows.is_empty() {
        assert!(dataset.rolled.is_empty());
        return 0;
    }
    assert_eq!(
        stored.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    check_placed(&block.meta, &sources, &rollups);
    let mut unrolled = vec![[0u64; 2]; dataset.kinds.len()];
    let profiles = decode_profiles(&sources, &block.meta, dataset).unwrap();
    for at in 0..profiles.len() {
        let row = profiles.row(at);
        for resolution in Resolution::ALL {
            let start = resolution.bucket_of(row.time_ns);
            let of_row = |key: &Key| (key.0, key.1, key.2) == (row.kind, resolution, start);
            let written = stored
                .iter()
                .find(|(key, _)| of_row(key))
                .unwrap()
                .1
                .1
                .is_some();
            if !written {
                unrolled[row.kind as usize][resolution.index()] += u64::from(row.n_samples);
            }
        }
    }
    let told: Vec<_> = dataset.rolled.iter().map(|of| of.unrolled).collect();
    assert_eq!(told, unrolled);
    let mut written = 0;
    for (key, (profiles, sums)) in stored {
        let (expected_profiles, expected_sums) = &expected[&key];
        assert_eq!(profiles, *expected_profiles);
        if let Some(sums) = sums {
            assert_eq!(sums, *expected_sums, "{key:?}");
            written += 1;
        }
    }
    written
}

/// The rows that roll-ups say each type has are its rows, and those of them that are wanted are read.
fn check_placed(block: &BlockMeta, sources: &Sources, rollups: &RollupRows) {
    let dataset = &block.datasets[0];
    let whole = decode_profiles(sources, block, dataset).unwrap();
    let kinds = rows_of_kinds(dataset, rollups).unwrap();
    assert_eq!(kinds.len(), dataset.kinds.len());
    let place = |rows: &ProfileRows, at: usize| {
        let row = rows.row(at);
        let whose = (row.kind, row.series, row.time_ns, row.period);
        (whose, row.samples_start, row.n_samples)
    };
    let first = dataset.rows(Table::Profiles).start;
    for of in &kinds {
        let wanted = |kind, time: i64| kind == of.kind && time % 2 == 0;
        let one = std::slice::from_ref(of);
        let placed = decode_placed_profiles(sources, (dataset, one), &mut |kind, time| {
            wanted(kind, time)
        });
        let placed = placed.unwrap();
        let of_kind = (of.profiles.start - first) as usize..(of.profiles.end - first) as usize;
        let expected = of_kind.filter(|&at| wanted(whole.kind[at], whole.time_ns[at]));
        let expected: Vec<_> = expected.map(|at| place(&whole, at)).collect();
        let placed: Vec<_> = (0..placed.len()).map(|at| place(&placed, at)).collect();
        assert_eq!(placed, expected);
        // A row of another type, or one less, is found out.
        let mut moved = of.clone();
        moved.profiles.end = (moved.profiles.end + 1).min(dataset.rows(Table::Profiles).end);
        moved.profiles.start += 1;
        if !moved.profiles.is_empty() {
            let moved = [moved];
            let none = &mut |_, _| false;
            let skipped = whole.n_samples[(of.profiles.start - first) as usize];
            let read = decode_placed_profiles(sources, (dataset, &moved), none);
            assert!(read.is_err() || skipped == 0, "{of:?}");
        }
    }
    let mut fewer = rollups.clone();
    fewer.profiles[0] += 1;
    assert!(rows_of_kinds(dataset, &fewer).is_err() || rollups.resolution[0] != Resolution::Hour);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn roll_ups_say_what_the_profiles_say(made in prop::collection::vec(dense(), 1..4)) {
        let blocks: Vec<_> = made.iter().zip(0..).map(|(made, n)| write(made, n)).collect();
        let merged = merge(&blocks, ROOMY);
        check(&merged);
        // The same in two steps, and with memory for one array of sums at a time.
        if let Some((last, first)) = blocks.split_last() && !first.is_empty() {
            let steps = merge(&[merge(first, ROOMY), last.clone()], ROOMY);
            for table in [Table::Rollups, Table::Rollup5m, Table::Rollup1h] {
                prop_assert_eq!(object(&steps, table), object(&merged, table));
            }
        }
    }
}

#[test]
fn sums_are_written_where_they_are_few_and_an_hour_at_a_time() {
    // Twenty profiles of the same stacks in each of two hours, and one alone in a third.
    let made = support::made::hours(&[20, 20, 1]);
    let merged = merge(&[write(&made, 0)], ROOMY);
    assert!(check(&merged) > 0);
    let dataset = &merged.meta.datasets[0];
    let of_cpu = dataset.rolled[0];
    let alone = made.profiles.n_samples[made.profiles.len() - 1];
    assert_eq!(of_cpu.unrolled, [u64::from(alone); 2]);
    assert_eq!(of_cpu.samples, made.samples.len() as u64);
    let lonely = merge(&[write(&support::made::hours(&[1, 1, 1]), 0)], ROOMY);
    assert!(lonely.meta.datasets[0].rolled.is_empty());
    assert!(lonely.meta.table(Table::Rollups).is_none());
    assert!(lonely.meta.rollup_labels.is_empty());
}

#[test]
fn sums_that_take_more_than_their_memory_are_left_out() {
    // The least that is enough for its symbols and profiles is not for the sums of twelve buckets,
    // which get a quarter of it.
    let made = support::made::wide(2000);
    let block = write(&made, 0);
    let roomy = merge(std::slice::from_ref(&block), ROOMY);
    assert!(check(&roomy) > 0);
    let least = (10..30)
        .map(|bits| 1u64 << bits)
        .find(|&limit| fits(&block, limit));
    let tight = merge(&[block], least.unwrap());
    assert_eq!(check(&tight), 0);
    assert!(tight.meta.datasets[0].rolled.is_empty());
}

#[test]
fn an_hour_of_very_many_buckets_is_given_up() {
    let mut made = support::made::hours(&[300]);
    for (at, period) in made.profiles.period.iter_mut().enumerate() {
        *period = at as i64;
    }
    let merged = merge(&[write(&made, 0)], ROOMY);
    assert_eq!(check(&merged), 0);
    assert!(merged.meta.datasets[0].rolled.is_empty());
}

#[test]
fn roll_ups_of_other_profiles_are_found_out() {
    let (one, mut other) = (support::made::hours(&[20]), support::made::hours(&[20]));
    other.samples.value[3] += 1;
    other.profiles.total[0] += 1;
    let (one, other) = (
        merge(&[write(&one, 0)], ROOMY),
        merge(&[write(&other, 0)], ROOMY),
    );
    let dataset = &one.meta.datasets[0];
    let swapped = |tables: &[Table]| -> Result<(), BlockError> {
        let mut all = sources(&one, dataset);
        let foreign = sources(&other, &other.meta.datasets[0]);
        for table in tables {
            let (open, fetched) = foreign.get(*table).unwrap();
            all.insert(Arc::clone(open), fetched.clone());
        }
        check_rollups(&all, (&one.meta, dataset), ROOMY)
    };
    assert_eq!(swapped(&[]), Ok(()));
    for table in [Table::Rollups, Table::Rollup5m, Table::Rollup1h] {
        let found = swapped(&[table]).unwrap_err();
        assert!(found.to_string().contains(table.name()), "{table}: {found}");
    }
    let mut lying = dataset.clone();
    lying.rolled[0].unrolled[1] = 1;
    let told = check_rollups(&sources(&one, dataset), (&one.meta, &lying), ROOMY);
    assert!(told.unwrap_err().to_string().contains("without sums"));
}

#[test]
fn every_flipped_byte_of_a_roll_up_is_noticed() {
    let block = merge(&[write(&support::made::hours(&[20]), 0)], ROOMY);
    let dataset = &block.meta.datasets[0];
    let opened = open_all(&block.meta).unwrap();
    for table in [Table::Rollups, Table::Rollup5m, Table::Rollup1h] {
        let bytes = object(&block, table).unwrap();
        let pages_end = bytes.len() - block.meta.table(table).unwrap().tail.len();
        let mut noticed = 0;
        for at in 0..pages_end {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            let damaged = bytes::Bytes::from(damaged);
            let object = |of| match of == table {
                true => damaged.clone(),
                false => object(&block, of).unwrap().clone(),
            };
            let sources = fetch_dataset(&opened, dataset, &object).unwrap();
            if let Err(error) = check_rollups(&sources, (&block.meta, dataset), ROOMY) {
                assert!(error.to_string().contains(table.name()), "{error}");
                noticed += 1;
            }
        }
        // The magic, and the columns that only other readers need.
        let unread = if table == Table::Rollups { 60 } else { 140 };
        assert!(
            noticed + unread >= pages_end,
            "{table}: {noticed} of {pages_end}"
        );
    }
}
