//! One table of a small block, damaged: its pages as the store returns them must be refused or
//! give the rows they always gave; its footer, which a checksum guards, may not crash.
//!
//! Input: which table, what of it, then (offset, xor) in three bytes each.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use scoria_block::{
    BlockError, BlockMeta, Columns, Fetched, OpenTable, ProfileRows, SampleRead, Sources, Table,
    check_rollups, decode_placed_profiles, decode_profiles, decode_rollups, decode_samples,
    decode_series, decode_symbols, rows_of_kinds,
};

macro_rules! object {
    ($name:literal) => {
        include_bytes!(concat!("../../crates/block/tests/fixtures/v2/", $name))
    };
}

const OBJECTS: [&[u8]; Table::COUNT] = [
    object!("series.parquet"),
    object!("profiles.parquet"),
    object!("samples.parquet"),
    // The fixture has no rows of it; its pages are those of samples.
    &[],
    object!("stacks.parquet"),
    object!("locations.parquet"),
    object!("functions.parquet"),
    object!("mappings.parquet"),
    object!("strings.parquet"),
    object!("rollups.parquet"),
    object!("rollup_5m.parquet"),
    object!("rollup_1h.parquet"),
];

static META: LazyLock<BlockMeta> = LazyLock::new(|| {
    BlockMeta::from_manifest(object!("manifest.json")).expect("the fixture is sound")
});

static OPENED: LazyLock<Vec<Arc<OpenTable>>> = LazyLock::new(|| {
    let open = |table| Arc::new(OpenTable::new(table).expect("the fixture is sound"));
    META.tables.iter().map(open).collect()
});

static PROFILES: LazyLock<ProfileRows> = LazyLock::new(|| {
    decode_profiles(&sources(Table::Profiles, None), &META, &META.datasets[0])
        .expect("the fixture is sound")
});

/// What each table gives when it is whole.
static WHOLE: LazyLock<Vec<String>> = LazyLock::new(|| {
    let read = |table| read(table, &sources(table, None)).expect("the fixture is sound");
    Table::ALL.into_iter().map(read).collect()
});

/// All tables, one of them in place of what the fixture has.
fn sources(table: Table, damaged: Option<(Arc<OpenTable>, Bytes)>) -> Sources {
    let mut sources = Sources::default();
    for open in OPENED.iter() {
        let object = Bytes::from_static(OBJECTS[open.table().index()]);
        sources.insert(Arc::clone(open), Fetched::whole(object));
    }
    if let Some((open, object)) = damaged {
        assert_eq!(open.table(), table);
        sources.insert(open, Fetched::whole(object));
    }
    sources
}

/// What is decoded from a table, and from others with it.
fn read(table: Table, sources: &Sources) -> Result<String, BlockError> {
    let dataset = &META.datasets[0];
    match table {
        Table::Series => Ok(format!("{:?}", decode_series(sources, dataset)?)),
        Table::Profiles => {
            let whole = decode_profiles(sources, &META, dataset)?;
            let kinds = rows_of_kinds(dataset, &decode_rollups(sources, dataset)?)?;
            let mut some = |_, time: i64| time % 3 != 0;
            let placed = decode_placed_profiles(sources, (dataset, &kinds), &mut some)?;
            Ok(format!("{whole:?} {placed:?}"))
        }
        Table::Samples | Table::Snapshots => read_samples(table, sources),
        Table::Rollups | Table::Rollup5m | Table::Rollup1h => {
            check_rollups(sources, (&META, dataset), 1 << 20)?;
            let rollups = decode_rollups(sources, dataset)?;
            let kinds = rows_of_kinds(dataset, &rollups)?;
            Ok(format!("{rollups:?} {kinds:?}"))
        }
        _ => {
            let symbols = decode_symbols(sources, dataset)?;
            Ok(format!(
                "{:?} {:?}",
                symbols.symbols.to_tables(),
                symbols.nodes
            ))
        }
    }
}

fn read_samples(table: Table, sources: &Sources) -> Result<String, BlockError> {
    let dataset = &META.datasets[0];
    let kind_table = |at: usize| Table::of_kind(&dataset.kinds[PROFILES.kind[at] as usize]);
    let of_table = (0..PROFILES.len()).filter(|&at| kind_table(at) == table);
    let runs: Vec<_> = of_table.map(|at| PROFILES.run(at)).collect();
    let read = SampleRead {
        runs: &runs,
        columns: Columns::WithSpans,
        n_stacks: dataset.n_stacks,
    };
    let mut out = String::new();
    if let Some((open, fetched)) = sources.get(table) {
        open.ranges(&read.rows(), read.columns)?;
        decode_samples((open, fetched), read, &mut |batch, pieces| {
            out += &format!("{batch:?} {pieces:?}");
        })?;
    }
    Ok(out)
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
        let nth = usize::from(*table) % META.tables.len();
        let mut meta = META.tables[nth].clone();
        let table = meta.table;
        let mut object = OBJECTS[table.index()].to_vec();
        if what % 2 == 0 {
            damage(&mut object, patches);
            let open = Arc::clone(&OPENED[nth]);
            let sources = sources(table, Some((open, Bytes::from(object))));
            if let Ok(rows) = read(table, &sources) {
                assert_eq!(rows, WHOLE[table.index()]);
            }
        } else {
            let mut tail = meta.tail.to_vec();
            damage(&mut tail, patches);
            meta.tail = Bytes::from(tail);
            if let Ok(open) = OpenTable::new(&meta) {
                let _ = read(table, &sources(table, Some((Arc::new(open), Bytes::from(object)))));
            }
        }
    }
);
