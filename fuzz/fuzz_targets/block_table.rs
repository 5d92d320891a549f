//! One table of a small block, damaged: its pages as the store returns them must be refused or
//! give the rows they always gave; its footer, which a checksum guards, may not crash.
//!
//! Input: which table, what of it, then (offset, xor) in three bytes each.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use scoria_block::{
    BlockError, BlockMeta, Columns, Fetched, OpenTable, ProfileRows, SampleBatch, SampleRead,
    Sources, Table, decode_profiles, decode_samples, decode_series, decode_symbols,
};
use scoria_model::Labels;

macro_rules! object {
    ($name:literal) => {
        include_bytes!(concat!("../../crates/block/tests/fixtures/v1/", $name))
    };
}

const OBJECTS: [&[u8]; Table::COUNT] = [
    object!("series.parquet"),
    object!("profiles.parquet"),
    object!("samples.parquet"),
    object!("snapshots.parquet"),
    object!("stacks.parquet"),
    object!("locations.parquet"),
    object!("functions.parquet"),
    object!("mappings.parquet"),
    object!("strings.parquet"),
];

static META: LazyLock<BlockMeta> = LazyLock::new(|| {
    BlockMeta::from_manifest(object!("manifest.json")).expect("the fixture is sound")
});

type Rows = (Vec<Labels>, ProfileRows, String, Vec<u32>, Vec<SampleBatch>);

static WHOLE: LazyLock<Rows> =
    LazyLock::new(|| read(&META, Table::Series, OBJECTS[0]).expect("the fixture is sound"));

fn read(meta: &BlockMeta, damaged: Table, bytes: &[u8]) -> Result<Rows, BlockError> {
    let dataset = &meta.datasets[1];
    let mut sources = Sources::default();
    for table in &meta.tables {
        let open = OpenTable::new(table)?;
        open.ranges(&[dataset.rows(table.table)], Columns::WithSpans)?;
        let object = if table.table == damaged {
            Bytes::copy_from_slice(bytes)
        } else {
            Bytes::from_static(OBJECTS[table.table.index()])
        };
        sources.insert(Arc::new(open), Fetched::whole(object));
    }
    let series = decode_series(&sources, dataset)?;
    let profiles = decode_profiles(&sources, meta, dataset)?;
    let symbols = decode_symbols(&sources, dataset)?;
    let mut samples = Vec::new();
    for table in [Table::Samples, Table::Snapshots] {
        let kind_table = |at: usize| Table::of_kind(&dataset.kinds[profiles.kind[at] as usize]);
        let of_table = (0..profiles.len()).filter(|&at| kind_table(at) == table);
        let runs: Vec<_> = of_table.map(|at| profiles.run(at)).collect();
        let read = SampleRead { runs: &runs, columns: Columns::WithSpans, n_stacks: dataset.n_stacks };
        if let Some((open, fetched)) = sources.get(table) {
            decode_samples((open, fetched), read, &mut |batch, _| samples.push(batch.clone()))?;
        }
    }
    let tables = format!("{:?}", symbols.symbols.to_tables());
    Ok((series, profiles, tables, symbols.nodes, samples))
}

fn damage(bytes: &mut [u8], patches: &[u8]) {
    for patch in patches.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([patch[0], patch[1]]));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= patch[2];
        }
    }
}

fuzz_target!(
    // The block crate turns panics of the Parquet crate into errors; only others shall count.
    init: std::panic::set_hook(Box::new(|_| ())),
    |data: &[u8]| {
        let [table, what, patches @ ..] = data else {
            return;
        };
        let table = Table::ALL[usize::from(*table) % Table::COUNT];
        let mut object = OBJECTS[table.index()].to_vec();
        if what % 2 == 0 {
            damage(&mut object, patches);
            if let Ok(rows) = read(&META, table, &object) {
                assert_eq!(rows, *WHOLE);
            }
        } else {
            let mut meta = META.clone();
            if let Some(meta) = meta.tables.iter_mut().find(|meta| meta.table == table) {
                let mut tail = meta.tail.to_vec();
                damage(&mut tail, patches);
                meta.tail = Bytes::from(tail);
            }
            let _ = read(&meta, table, &object);
        }
    }
);
