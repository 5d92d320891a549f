//! What a dataset costs in the catalogue.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use scoria_block::DatasetInput;
use scoria_block::{BlockMeta, BlockWriter, ProfileRow, ProfileRows, SampleBatch};
use scoria_model::{Labels, ProfileType, TenantId};
use scoria_symbols::{SymbolTables, Symbols};
use support::Dice;

const KINDS: [&str; 6] = [
    "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
    "memory:alloc_objects:count:space:bytes",
    "memory:alloc_space:bytes:space:bytes",
    "memory:inuse_objects:count:space:bytes",
    "memory:inuse_space:bytes:space:bytes",
    "goroutine:goroutine:count:goroutine:count",
];

fn symbols(dice: &mut Dice) -> Symbols {
    let mut tables = SymbolTables::default();
    for at in 0..300 {
        tables
            .strings
            .push(&format!("function-{at}-{}", dice.next()));
        tables.location_mapping.push(u32::MAX);
        tables.location_address.push(dice.next());
        tables.location_lines_end.push(0);
        tables.node_parent.push(dice.below(at + 1) as u32);
        tables.node_location.push(at as u32);
    }
    Symbols::from_tables(tables).unwrap()
}

/// `n` services of ten tenants, each with a few profiles of six types.
fn meta_of(n: usize) -> BlockMeta {
    let mut dice = Dice::new(9);
    let kinds: Vec<ProfileType> = KINDS.iter().map(|kind| kind.parse().unwrap()).collect();
    let mut writer = BlockWriter::new(support::spec()).unwrap();
    for at in 0..n {
        let symbols = symbols(&mut dice);
        let (mut profiles, mut samples) = (ProfileRows::default(), SampleBatch::default());
        for profile in 0..12 {
            profiles.push(ProfileRow {
                kind: profile % 6,
                series: 0,
                time_ns: support::START_NS + dice.below(900_000_000_000) as i64,
                samples_start: samples.len() as u64,
                n_samples: 40,
                ..ProfileRow::default()
            });
            for _ in 0..40 {
                samples.stack.push(dice.below(300) as u32);
                samples.value.push(dice.below(1000) as i64);
            }
        }
        let tenant = TenantId::parse(&format!("tenant-{}", at * 10 / n)).unwrap();
        writer
            .add(DatasetInput {
                tenant: &tenant,
                service: &format!("payments/checkout-{at:04}"),
                symbols: &symbols,
                series: &[Labels::from_pairs([("pod", "a")])],
                kinds: &kinds,
                profiles: &profiles,
                samples: &samples,
            })
            .unwrap();
    }
    writer.finish().unwrap().meta
}

fn entry_bytes(meta: &BlockMeta) -> usize {
    let mut entry = Vec::new();
    meta.encode(&mut entry);
    assert_eq!(BlockMeta::decode(&entry).unwrap(), *meta);
    entry.len()
}

#[test]
fn a_dataset_takes_at_most_100_bytes_of_a_catalogue_entry() {
    let meta = meta_of(200);
    let bytes = entry_bytes(&meta);
    let tails: usize = meta.tables.iter().map(|table| table.tail.len()).sum();
    let pages: usize = meta
        .tables
        .iter()
        .map(|table| table.page_checksums.len())
        .sum();
    let mut bare = meta;
    bare.tables.iter_mut().for_each(|table| {
        table.tail.clear();
        table.page_checksums.clear();
    });
    let rows = entry_bytes(&bare);
    eprintln!(
        "200 datasets: entry {bytes} bytes, of which {rows} without footers ({tails} before compression) and {pages} page checksums"
    );
    assert!(rows <= 100 * 200, "{rows}");
    // Footers, page index and page checksums included, since datasets share row groups and pages.
    assert!(bytes <= 150 * 200, "{bytes}");
}
