//! What goes into a block comes out of it, and nothing else.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use proptest::prelude::*;
use scoria_block::{BlockError, BlockMeta, BlockWriter, Columns, OpenTable, Table};
use support::made::{datasets, fixed, write};
use support::reading::{object, open_all, read_block, read_dataset};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn datasets_round_trip(made in datasets()) {
        let block = write(&made);
        let mut expected: Vec<_> = made.iter().flat_map(|made| made.rows()).collect();
        expected.sort();
        prop_assert_eq!(read_block(&block).unwrap(), expected);

        let mut entry = Vec::new();
        block.meta.encode(&mut entry);
        prop_assert_eq!(&BlockMeta::decode(&entry).unwrap(), &block.meta);
        prop_assert_eq!(&BlockMeta::from_manifest(&block.manifest).unwrap(), &block.meta);
        let bytes: u64 = block.tables.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        prop_assert_eq!(bytes, block.meta.bytes);
    }

    /// R1: a dataset that is read alone gives its own rows only.
    #[test]
    fn datasets_do_not_mix(made in datasets()) {
        let block = write(&made);
        let opened = open_all(&block.meta).unwrap();
        for made in made.iter().filter(|made| !made.profiles.is_empty()) {
            let dataset = block.meta.dataset(&made.tenant, &made.service).unwrap();
            let rows = read_dataset((&block.meta, &opened), dataset, &|table| object(&block, table).unwrap().clone());
            prop_assert_eq!(rows.unwrap(), made.rows());
        }
    }

    #[test]
    fn meta_of_any_bytes_is_refused_or_sound(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut signed = bytes.clone();
        signed.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        if let Ok(meta) = BlockMeta::decode(&signed) {
            meta.tables.iter().for_each(|table| drop(OpenTable::new(table)));
        }
        prop_assert!(BlockMeta::from_manifest(&bytes).is_err());
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (a, b) = (write(&fixed()), write(&fixed()));
    assert_eq!(a.tables, b.tables);
    assert_eq!(a.manifest, b.manifest);
}

#[test]
fn an_empty_block_has_no_tables() {
    let block = write(&[]);
    assert!(block.tables.is_empty() && block.meta.datasets.is_empty());
    assert_eq!(
        BlockMeta::from_manifest(&block.manifest).unwrap(),
        block.meta
    );
}

#[test]
fn datasets_out_of_order_are_refused() {
    let made = fixed();
    let mut writer = BlockWriter::new(support::spec()).unwrap();
    writer.add(made[1].input()).unwrap();
    for again in [&made[1], &made[0]] {
        let refused = writer.add(again.input()).unwrap_err();
        assert!(matches!(refused, BlockError::Input { .. }), "{refused}");
    }
}

#[test]
fn rows_that_point_nowhere_are_refused() {
    type Break = fn(&mut support::made::Made);
    let breaks: [Break; 6] = [
        |made| made.profiles.kind[3] = 5,
        |made| made.profiles.series[3] = 4,
        |made| made.profiles.stream[3] = 1,
        |made| made.profiles.samples_start[3] = u64::MAX,
        |made| made.samples.stack[2] = 1000,
        |made| made.samples.value.truncate(1),
    ];
    for broken in breaks {
        let mut made = fixed().remove(0);
        broken(&mut made);
        let mut writer = BlockWriter::new(support::spec()).unwrap();
        let refused = writer.add(made.input()).unwrap_err();
        assert!(matches!(refused, BlockError::Input { .. }), "{refused}");
    }
}

#[test]
fn span_columns_are_there_only_where_samples_name_spans() {
    let (mut with, mut without) = (fixed(), fixed());
    with.truncate(2);
    without.truncate(1);
    let read = |made: &[_], columns| {
        let block = write(made);
        let meta = block.meta.table(Table::Samples).unwrap();
        let ranges = OpenTable::new(meta)
            .unwrap()
            .ranges(std::slice::from_ref(&(0..meta.rows)), columns);
        ranges.unwrap().iter().map(|r| r.end - r.start).sum::<u64>()
    };
    assert_eq!(
        read(&without, Columns::Plain),
        read(&without, Columns::WithSpans)
    );
    assert!(read(&with, Columns::Plain) < read(&with, Columns::WithSpans));
}

#[test]
fn rows_beyond_a_table_cannot_be_planned() {
    let block = write(&fixed());
    let meta = block.meta.table(Table::Samples).unwrap();
    let open = OpenTable::new(meta).unwrap();
    for rows in [[0..1, 1..meta.rows + 1], [2..4, 3..5], [5..6, 0..1]] {
        let refused = open.ranges(&rows, Columns::Plain).unwrap_err();
        assert!(matches!(refused, BlockError::Rows { .. }), "{refused}");
    }
    assert_eq!(open.ranges(&[3..3, 4..4], Columns::Plain).unwrap(), []);
}
