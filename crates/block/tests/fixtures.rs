//! F1: every released format keeps a block here that must still decode.
//!
//! `fixtures/v1/` holds the objects of a small block as a store has them, the catalogue's form of
//! its meta, and `rows.txt`, what is in it. `SCORIA_WRITE_FIXTURES=1` writes the directory of the
//! current version anew, which is right only as long as that version has not been released.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use scoria_block::{BlockMeta, FORMAT_VERSION, Table, check_rollups};
use support::made::hours;
use support::merging::{ROOMY, merge, write};
use support::reading::{Row, fetch_dataset, open_all, read_dataset};

fn directory(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{version}"))
}

fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        writeln!(out, "{row:?}").unwrap();
    }
    out
}

fn rows_of(version: u32, meta: &BlockMeta) -> Vec<Row> {
    let opened = open_all(meta).unwrap();
    let object = |table: Table| {
        Bytes::from(std::fs::read(directory(version).join(table.file_name())).unwrap())
    };
    let mut rows = Vec::new();
    for dataset in &meta.datasets {
        rows.extend(read_dataset((meta, &opened), dataset, &object).unwrap());
        let sources = fetch_dataset(&opened, dataset, &object).unwrap();
        check_rollups(&sources, (meta, dataset), ROOMY).unwrap();
    }
    rows.sort();
    rows
}

#[test]
fn every_released_version_still_decodes() {
    if std::env::var_os("SCORIA_WRITE_FIXTURES").is_some() {
        write_fixtures();
    }
    for version in 1..=FORMAT_VERSION {
        let read = |name: &str| std::fs::read(directory(version).join(name)).unwrap();
        let meta = BlockMeta::from_manifest(&read("manifest.json")).unwrap();
        assert_eq!(
            BlockMeta::decode(&read("catalogue-entry.bin")).unwrap(),
            meta
        );
        let expected = String::from_utf8(read("rows.txt")).unwrap();
        assert_eq!(
            text(&rows_of(version, &meta)),
            expected,
            "version {version}"
        );
    }
}

fn write_fixtures() {
    let directory = directory(FORMAT_VERSION);
    // A merge, so that it has roll-ups.
    let made = hours(&[20, 2]);
    let block = merge(&[write(&made, 0)], ROOMY);
    let mut rows: Vec<Row> = made.rows();
    rows.sort();
    let mut entry = Vec::new();
    block.meta.encode(&mut entry);
    std::fs::create_dir_all(&directory).unwrap();
    for (table, bytes) in &block.tables {
        std::fs::write(directory.join(table.file_name()), bytes).unwrap();
    }
    std::fs::write(directory.join("manifest.json"), &block.manifest).unwrap();
    std::fs::write(directory.join("catalogue-entry.bin"), entry).unwrap();
    std::fs::write(directory.join("rows.txt"), text(&rows)).unwrap();
}
