//! Metas of blocks: the catalogue's form with its checksum made right, so that the fields behind
//! it are reached, and manifests. What is read must be written back to the same meaning, and every
//! table of it must open or be refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scoria_block::{BlockMeta, OpenTable};

fuzz_target!(
    // The block crate turns panics of the Parquet crate into errors; only others shall count.
    init: std::panic::set_hook(Box::new(|_| ())),
    |data: &[u8]| {
        let _ = BlockMeta::from_manifest(data);
        let mut bytes = data.to_vec();
        if bytes.len() < 4 {
            return;
        }
        let end = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        let Ok(meta) = BlockMeta::decode(&bytes) else {
            return;
        };
        let mut again = Vec::new();
        meta.encode(&mut again);
        assert_eq!(BlockMeta::decode(&again).expect("it was just written"), meta);
        let manifest = meta.to_manifest().expect("a meta is JSON");
        assert_eq!(BlockMeta::from_manifest(&manifest).expect("just written"), meta);
        for table in &meta.tables {
            let _ = OpenTable::new(table);
        }
    }
);
