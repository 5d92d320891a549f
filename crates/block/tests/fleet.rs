//! How small a block of real profiles is: ceilings on bytes per profile and per sample.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeMap;

use scoria_block::{
    Columns, EncodedBlock, SampleRead, Table, decode_profiles, decode_samples, decode_symbols,
};
use scoria_symbols::Symbols;
use support::reading::{fetch_dataset, object, open_all, spell};
use support::{Fleet, FleetShape, cpu_fleet, heap_fleet};

fn breakdown(title: &str, block: &EncodedBlock) {
    let profiles = block
        .meta
        .datasets
        .iter()
        .map(|d| d.n_profiles())
        .sum::<u64>() as f64;
    eprintln!(
        "{title}: {} profiles, {} bytes, {:.1} per profile",
        profiles,
        block.meta.bytes,
        block.meta.bytes as f64 / profiles
    );
    for (table, bytes) in &block.tables {
        let meta = block.meta.table(*table).unwrap();
        eprintln!(
            "  {table:<10} {:>9} rows {:>9} bytes {:>8.2} per row {:>8.2} per profile; tail {} pages {}",
            meta.rows,
            bytes.len(),
            bytes.len() as f64 / meta.rows as f64,
            bytes.len() as f64 / profiles,
            meta.tail.len(),
            meta.page_checksums.len(),
        );
        columns(bytes, profiles);
    }
    let mut entry = Vec::new();
    block.meta.encode(&mut entry);
    eprintln!(
        "  catalogue entry {} bytes, manifest {}",
        entry.len(),
        block.manifest.len()
    );
}

/// Bytes of each column, as the footer has them.
fn columns(file: &bytes::Bytes, profiles: f64) {
    use parquet::file::metadata::ParquetMetaDataReader;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).unwrap();
    for column in 0..metadata.file_metadata().schema_descr().num_columns() {
        let chunks = metadata
            .row_groups()
            .iter()
            .map(|group| group.column(column));
        let bytes: i64 = chunks.clone().map(|c| c.compressed_size()).sum();
        let values: i64 = chunks.clone().map(|c| c.num_values()).sum();
        eprintln!(
            "      {:<40} {:>9} {:>8.3} per value {:>8.2} per profile {:?}",
            metadata.row_group(0).column(column).column_path().string(),
            bytes,
            bytes as f64 / values as f64,
            bytes as f64 / profiles,
            metadata
                .row_group(0)
                .column(column)
                .encodings()
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn fifteen_minutes_of_sixty_pods_are_small() {
    let Some(fleet) = cpu_fleet(FleetShape {
        pods: 60,
        steps: 60,
        seed: 7,
    }) else {
        return;
    };
    let block = fleet.block();
    breakdown("cpu fleet", &block);
    let profiles = block.meta.datasets[0].n_profiles();
    let samples = block.meta.table(Table::Samples).unwrap();
    assert!(samples.bytes as f64 / samples.rows as f64 <= 1.3);
    assert!(block.meta.bytes / profiles <= 350);
}

/// Symbols are shared by fewer profiles here.
#[test]
fn a_small_service_is_small_too() {
    let Some(fleet) = cpu_fleet(FleetShape {
        pods: 2,
        steps: 60,
        seed: 7,
    }) else {
        return;
    };
    let block = fleet.block();
    breakdown("two pods", &block);
    assert!(block.meta.bytes / block.meta.datasets[0].n_profiles() <= 1200);
}

/// D4: no profile's sum changes on the way, however its samples fall on pages and row groups.
#[test]
fn sums_of_a_fleet_stay() {
    let Some(fleet) = cpu_fleet(FleetShape {
        pods: 100,
        steps: 60,
        seed: 3,
    }) else {
        return;
    };
    let block = fleet.block();
    assert!(block.meta.table(Table::Samples).unwrap().rows > 1024 * 1024);
    let dataset = &block.meta.datasets[0];
    let sources = fetch_dataset(&open_all(&block.meta).unwrap(), dataset, &|table| {
        object(&block, table).unwrap().clone()
    })
    .unwrap();
    let profiles = decode_profiles(&sources, &block.meta, dataset).unwrap();
    let symbols = decode_symbols(&sources, dataset).unwrap();
    let runs: Vec<_> = (0..profiles.len()).map(|at| profiles.run(at)).collect();
    let (open, fetched) = sources.get(Table::Samples).unwrap();
    let read = SampleRead {
        runs: &runs,
        columns: Columns::Plain,
        n_stacks: dataset.n_stacks,
    };
    let mut sums = vec![0; runs.len()];
    let mut by_node = vec![0; symbols.symbols.nodes_len()];
    decode_samples((open, fetched), read, &mut |batch, pieces| {
        for piece in pieces {
            sums[piece.run] += batch.value[piece.samples.clone()].iter().sum::<i64>();
        }
        for (&stack, &value) in batch.stack.iter().zip(&batch.value) {
            by_node[symbols.nodes[stack as usize] as usize] += value;
        }
    })
    .unwrap();
    assert_eq!(sums, profiles.total);
    assert_eq!(by_leaf(&symbols.symbols, &by_node), fleet_by_leaf(&fleet));
}

/// Values by the spelled-out stack.
fn by_leaf(symbols: &Symbols, by_node: &[i64]) -> BTreeMap<Vec<String>, i64> {
    let hit = by_node.iter().zip(0..).filter(|(value, _)| **value != 0);
    hit.map(|(&value, node)| (spell(symbols, node), value))
        .collect()
}

fn fleet_by_leaf(fleet: &Fleet) -> BTreeMap<Vec<String>, i64> {
    let mut by_node = vec![0; fleet.symbols.nodes_len()];
    for (&stack, &value) in fleet.samples.stack.iter().zip(&fleet.samples.value) {
        by_node[stack as usize] += value;
    }
    by_leaf(&fleet.symbols, &by_node)
}

#[test]
fn heap_snapshots_are_small() {
    let Some(fleet) = heap_fleet(FleetShape {
        pods: 20,
        steps: 30,
        seed: 7,
    }) else {
        return;
    };
    let block = fleet.block();
    breakdown("heap fleet", &block);
    let samples = block.meta.datasets[0].n_samples();
    assert!(block.meta.bytes as f64 / samples as f64 <= 1.7);
}
