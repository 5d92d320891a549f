//! F1: damage is an error that names the table, never a wrong answer or a panic.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use scoria_block::{BlockError, BlockMeta, EncodedBlock, FORMAT_VERSION, OpenTable, Table};
use support::made::{fixed, write};
use support::reading::{Opened, Row, object, open_all, read_dataset};

/// Reads a dataset of a block of which one object was replaced.
fn read_with(
    (block, opened): (&EncodedBlock, &Opened),
    table: Table,
    bytes: &Bytes,
) -> Result<Vec<Row>, BlockError> {
    read_dataset((&block.meta, opened), &block.meta.datasets[1], &|other| {
        if other == table {
            bytes.clone()
        } else {
            object(block, other).unwrap().clone()
        }
    })
}

fn names(error: &BlockError, table: Table) -> bool {
    match error {
        BlockError::Damaged { table: named, .. } | BlockError::NotFetched { table: named, .. } => {
            *named == table
        }
        _ => false,
    }
}

#[test]
fn every_flipped_byte_of_every_table_is_noticed_where_it_is_read() {
    let block = write(&fixed());
    let all = Table::ALL.into_iter().filter(|table| !table.is_rollup());
    assert_eq!(block.tables.len(), all.count());
    let opened = open_all(&block.meta).unwrap();
    let series = object(&block, Table::Series).unwrap();
    let whole = read_with((&block, &opened), Table::Series, series).unwrap();
    for (table, bytes) in &block.tables {
        let pages_end = bytes.len() - block.meta.table(*table).unwrap().tail.len();
        let mut noticed = 0;
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            match read_with((&block, &opened), *table, &Bytes::from(damaged)) {
                Ok(rows) => assert_eq!(rows, whole, "{table} byte {at}"),
                Err(error) => {
                    assert!(names(&error, *table), "{table} byte {at}: {error}");
                    noticed += 1;
                }
            }
        }
        // The rest are the magic, the footer, which is read from the meta, and columns for others.
        let unread = match table {
            Table::Series | Table::Profiles => 400,
            Table::Samples | Table::Snapshots => 250,
            _ => 4,
        };
        assert!(
            noticed + unread >= pages_end,
            "{table}: {noticed} of {pages_end}"
        );
    }
}

#[test]
fn every_truncation_of_every_table_is_noticed() {
    let block = write(&fixed());
    let opened = open_all(&block.meta).unwrap();
    for (table, bytes) in &block.tables {
        let pages_end = bytes.len() - block.meta.table(*table).unwrap().tail.len();
        let mut noticed = 0;
        for length in 0..pages_end {
            match read_with((&block, &opened), *table, &bytes.slice(..length)) {
                Ok(_) => {}
                Err(error) => {
                    assert!(names(&error, *table), "{table} cut to {length}: {error}");
                    noticed += 1;
                }
            }
        }
        assert!(noticed > pages_end / 3, "{table}: {noticed} of {pages_end}");
    }
}

#[test]
fn every_flip_and_every_truncation_of_a_meta_is_an_error() {
    let block = write(&fixed());
    let mut entry = Vec::new();
    block.meta.encode(&mut entry);
    type Decode = fn(&[u8]) -> Result<BlockMeta, BlockError>;
    let forms: [(&[u8], Decode); 2] = [
        (&entry, BlockMeta::decode),
        (&block.manifest, BlockMeta::from_manifest),
    ];
    for (bytes, decode) in forms {
        assert_eq!(decode(bytes).unwrap(), block.meta);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            assert!(decode(&damaged).is_err(), "byte {at}");
        }
    }
}

/// A meta that was signed with damage in it may give wrong rows, but no panic.
#[test]
fn signed_damage_does_not_panic() {
    let block = write(&fixed());
    let opened = open_all(&block.meta).unwrap();
    let mut survivors = 0;
    for (nth, (table, bytes)) in block.tables.iter().enumerate() {
        let mut meta = block.meta.tables[nth].clone();
        let tail = meta.tail.clone();
        for at in 0..tail.len() {
            let mut damaged = tail.to_vec();
            damaged[at] ^= 1 << (at % 8);
            meta.tail = Bytes::from(damaged);
            if let Ok(open) = OpenTable::new(&meta) {
                let mut opened = opened.clone();
                opened[nth] = Arc::new(open);
                drop(read_with((&block, &opened), *table, bytes));
                survivors += 1;
            }
        }
    }
    assert!(survivors > 0);
}

/// Pages whose checksums were computed over damage may give wrong rows, but no panic.
#[test]
fn signed_pages_do_not_panic() {
    let block = write(&fixed());
    let opened = open_all(&block.meta).unwrap();
    for (nth, (table, bytes)) in block.tables.iter().enumerate() {
        let meta = &block.meta.tables[nth];
        let pages = opened[nth].page_ranges();
        for (page, range) in pages.into_iter().enumerate() {
            for at in range.clone().step_by(7) {
                let mut damaged = bytes.to_vec();
                damaged[at as usize] ^= 1 << (at % 8);
                let mut meta = meta.clone();
                meta.page_checksums[page] =
                    crc32fast::hash(&damaged[range.start as usize..range.end as usize]);
                let mut opened = opened.clone();
                opened[nth] = Arc::new(OpenTable::new(&meta).unwrap());
                drop(read_with((&block, &opened), *table, &Bytes::from(damaged)));
            }
        }
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let mut block = write(&fixed());
    block.meta.version = FORMAT_VERSION + 1;
    let mut entry = Vec::new();
    block.meta.encode(&mut entry);
    let newer = [
        BlockMeta::decode(&entry).unwrap_err(),
        BlockMeta::from_manifest(&block.meta.to_manifest().unwrap()).unwrap_err(),
    ];
    for refused in newer {
        assert_eq!(
            refused,
            BlockError::Version {
                version: u64::from(FORMAT_VERSION) + 1,
                supported: FORMAT_VERSION
            }
        );
    }
}
