//! Reads of parts of a large dataset: only what was planned is touched, and nothing is lost where
//! runs cross batches, pages and row groups.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::sync::Arc;

use scoria_block::{
    BlockError, Columns, DatasetInput, Fetched, OpenTable, ProfileRow, ProfileRows, SampleBatch,
    SampleRead, SampleRun, Table, decode_samples,
};
use scoria_block::{BlockWriter, EncodedBlock};
use scoria_model::{Labels, TenantId};
use scoria_symbols::{SymbolTables, Symbols};
use support::Dice;
use support::reading::{fetch, object};

const PROFILES: usize = 5600;

/// One dataset of more than one row group of samples, and (n, sum) of every profile.
fn large() -> (EncodedBlock, Vec<(u32, i64)>) {
    let mut dice = Dice::new(5);
    let mut tables = SymbolTables::default();
    tables.location_mapping.push(u32::MAX);
    tables.location_address.push(1);
    tables.location_lines_end.push(0);
    for node in 0..700u32 {
        tables.node_parent.push(node / 3);
        tables.node_location.push(0);
    }
    let symbols = Symbols::from_tables(tables).unwrap();
    let (mut profiles, mut samples) = (ProfileRows::default(), SampleBatch::default());
    let mut sums = Vec::new();
    for at in 0..PROFILES {
        // Profile 77 alone is longer than a batch; some have no samples at all.
        let n = if at == 77 {
            70_000
        } else {
            dice.below(400) as u32
        };
        let start = samples.len();
        for _ in 0..n {
            let rank = dice.below(700) * dice.below(700) / 700;
            samples.stack.push(rank as u32);
            samples.value.push(dice.below(90) as i64);
        }
        let total = samples.value[start..].iter().sum();
        sums.push((n, total));
        profiles.push(ProfileRow {
            time_ns: at as i64,
            total,
            samples_start: start as u64,
            n_samples: n,
            ..ProfileRow::default()
        });
    }
    let mut writer = BlockWriter::new(support::spec()).unwrap();
    let input = DatasetInput {
        tenant: &TenantId::anonymous(),
        service: "api",
        symbols: &symbols,
        series: &[Labels::default()],
        kinds: &["process_cpu:cpu:nanoseconds:cpu:nanoseconds"
            .parse()
            .unwrap()],
        profiles: &profiles,
        samples: &samples,
    };
    writer.add(input).unwrap();
    (writer.finish().unwrap(), sums)
}

fn runs_of(sums: &[(u32, i64)]) -> Vec<SampleRun> {
    let mut start = 0;
    sums.iter()
        .map(|&(n, _)| {
            let run = SampleRun { start, n };
            start += u64::from(n);
            run
        })
        .collect()
}

#[test]
fn parts_of_a_table_are_read_from_their_pages_alone() {
    let (block, sums) = large();
    let meta = block.meta.table(Table::Samples).unwrap();
    assert!(meta.rows > 1024 * 1024);
    let open = Arc::new(OpenTable::new(meta).unwrap());
    let all = runs_of(&sums);
    let file = object(&block, Table::Samples).unwrap();
    for (first, step) in [(0, 1), (3, 7), (70, 2), (0, 997), (5599, 1), (77, 9999)] {
        let chosen: Vec<usize> = (first..PROFILES).step_by(step).collect();
        let runs: Vec<SampleRun> = chosen.iter().map(|&at| all[at]).collect();
        let read = SampleRead {
            runs: &runs,
            columns: Columns::Plain,
            n_stacks: block.meta.datasets[0].n_stacks,
        };
        let ranges = open.ranges(&read.rows(), read.columns).unwrap();
        let mut read_sums = vec![(0, 0); runs.len()];
        decode_samples(
            (&open, &fetch(file, ranges.clone())),
            read,
            &mut |batch, pieces| {
                assert!(batch.is_even());
                assert_eq!(
                    pieces.iter().map(|p| p.samples.len()).sum::<usize>(),
                    batch.len()
                );
                for piece in pieces {
                    let sum: i64 = batch.value[piece.samples.clone()].iter().sum();
                    read_sums[piece.run].0 += piece.samples.len() as u32;
                    read_sums[piece.run].1 += sum;
                }
            },
        )
        .unwrap();
        let expected: Vec<(u32, i64)> = chosen.iter().map(|&at| sums[at]).collect();
        assert_eq!(read_sums, expected, "{first} {step}");
        for missing in 0..ranges.len().min(3) {
            let mut fewer = ranges.clone();
            fewer.remove(missing);
            let refused = decode_samples((&open, &fetch(file, fewer)), read, &mut |_, _| ());
            assert!(
                matches!(refused, Err(BlockError::NotFetched { .. })),
                "{refused:?}"
            );
        }
    }
}

/// Q5: what is planned is whole pages that hold rows of the read, and the dictionaries they need.
#[test]
fn a_read_of_one_profile_is_a_page_of_each_column_and_a_dictionary() {
    let (block, sums) = large();
    let meta = block.meta.table(Table::Samples).unwrap();
    let open = OpenTable::new(meta).unwrap();
    let run = runs_of(&sums)[1000];
    let rows = run.start..run.start + u64::from(run.n);
    let ranges = open
        .ranges(std::slice::from_ref(&rows), Columns::Plain)
        .unwrap();
    let bytes: u64 = ranges.iter().map(|r| r.end - r.start).sum();
    assert!(ranges.len() <= 3, "{ranges:?}");
    assert!(bytes < 80_000, "{bytes}");
    assert!(bytes * 20 < meta.bytes);
}

#[test]
fn ranks_beyond_the_dataset_are_damage() {
    let (block, sums) = large();
    let open = OpenTable::new(block.meta.table(Table::Samples).unwrap()).unwrap();
    let whole = Fetched::whole(object(&block, Table::Samples).unwrap().clone());
    let n_stacks = block.meta.datasets[0].n_stacks;
    // One sample too early: the differences of two profiles run into each other.
    let mut shifted = runs_of(&sums);
    shifted.drain(..10);
    shifted[0].start -= 1;
    shifted[0].n += 1;
    for (runs, n_stacks) in [(runs_of(&sums), n_stacks - 1), (shifted, n_stacks - 20)] {
        let read = SampleRead {
            runs: &runs,
            columns: Columns::Plain,
            n_stacks,
        };
        let refused = decode_samples((&open, &whole), read, &mut |_, _| ());
        assert!(
            matches!(
                refused,
                Err(BlockError::Damaged {
                    table: Table::Samples,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

/// What a query that filters by stack needs of a small dataset is a handful of ranges.
#[test]
fn a_dataset_of_a_shared_block_takes_few_ranges() {
    let block = support::made::write(&support::made::fixed());
    for dataset in &block.meta.datasets {
        for table in &block.meta.tables {
            let open = OpenTable::new(table).unwrap();
            let ranges = open
                .ranges(&[dataset.rows(table.table)], Columns::Plain)
                .unwrap();
            assert!(ranges.len() <= 2, "{}: {ranges:?}", table.table);
        }
    }
}
