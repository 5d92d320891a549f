//! Bytes of the catalogue: entries and snapshots, with the checksum made right, so that the fields
//! behind it are reached. What is read must be written back to the same meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scoria_model::CatalogueVersion;
use scoria_storage::CatalogueState;
use scoria_storage::catalogue::{Entry, snapshot};

const VERSION: CatalogueVersion = CatalogueVersion(1);

fuzz_target!(|data: &[u8]| {
    let _ = Entry::decode(VERSION, data);
    let mut bytes = data.to_vec();
    if bytes.len() < 4 {
        return;
    }
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    if let Ok(entry) = Entry::decode(VERSION, &bytes) {
        let again = entry.encode().expect("what was read fits an entry");
        assert_eq!(
            Entry::decode(VERSION, &again).expect("it was just written"),
            entry
        );
        let mut state = CatalogueState::default();
        if state.apply(&entry).is_ok() {
            let snapshot = snapshot::encode(&state).expect("one entry fits a snapshot");
            assert_eq!(
                snapshot::decode(VERSION, &snapshot).expect("just written"),
                state
            );
        }
    }
    let _ = snapshot::decode(VERSION, &bytes);
});
