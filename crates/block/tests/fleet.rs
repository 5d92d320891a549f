//! How small a block of real profiles is: ceilings on bytes per profile and per sample.
mod support;

use scoria_block::{EncodedBlock, Table};
use support::{FleetShape, cpu_fleet, heap_fleet};

fn breakdown(title: &str, block: &EncodedBlock) {
    let profiles = block
        .meta
        .datasets
        .iter()
        .map(|d| d.n_profiles())
        .sum::<u64>() as f64;
    println!(
        "{title}: {} profiles, {} bytes, {:.1} per profile",
        profiles,
        block.meta.bytes,
        block.meta.bytes as f64 / profiles
    );
    for (table, bytes) in &block.tables {
        let meta = block.meta.table(*table).unwrap();
        println!(
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
    println!(
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
        println!(
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
}
