use proptest::prelude::*;

use super::*;
use crate::catalogue::{CatalogueState, snapshot};
use crate::testing::{bare_meta, stream_id};

fn sample(blocks: u64) -> Entry {
    let stream = stream_id(3);
    let mut ops = vec![Op::OpenStream {
        stream: stream.clone(),
        epoch: Epoch(1),
        owner: NodeId("node-0".into()),
        members: vec![NodeId("node-0".into()), NodeId("node-1".into())],
        quorum: 2,
    }];
    ops.extend((0..blocks).map(|id| {
        let meta = bare_meta(u128::from(id), &stream, (0, 1 << 40));
        Op::AddBlock(Arc::new(meta))
    }));
    ops.extend([
        Op::Advance {
            stream: stream.clone(),
            epoch: Epoch(1),
            from: Seq(0),
            to: Seq(1 << 40),
        },
        Op::SealStream {
            stream: stream.clone(),
            epoch: Epoch(2),
            owner: NodeId("node-1".into()),
        },
        Op::CloseStream {
            stream,
            epoch: Epoch(2),
            at: Seq(1 << 40),
        },
    ]);
    Entry {
        version: CatalogueVersion(1),
        nonce: 1 << 100,
        ops,
    }
}

#[test]
fn what_is_written_is_read_back_small_and_large() {
    for blocks in [0, 1, 200] {
        let entry = sample(blocks);
        let bytes = entry.encode().unwrap();
        assert_eq!(bytes[5], if blocks == 200 { ZSTD } else { PLAIN });
        assert_eq!(Entry::decode(entry.version, &bytes).unwrap(), entry);
    }
}

/// The bytes of a version that has been released are read for ever.
#[test]
fn the_bytes_are_those_of_the_format() {
    let entry = Entry {
        version: CatalogueVersion(258),
        nonce: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        ops: vec![Op::CloseStream {
            stream: stream_id(2),
            epoch: Epoch(1),
            at: Seq(300),
        }],
    };
    let expected = concat!(
        "53434c45",
        "01",
        "00",
        "0201000000000000", // magic, format, coding, version
        "100f0e0d0c0b0a090807060504030201",
        "0f000000", // nonce, length
        "01",
        "05",
        "0c",
        "066e6f64652d30",
        "07",
        "02",
        "01",
        "ac02", // close stream
        "2b128031",
    );
    let hex: String = entry
        .encode()
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, expected);
}

/// A snapshot as it was before there were slices: nothing follows its blocks.
#[test]
fn a_state_without_merges_has_the_bytes_it_always_had() {
    let mut state = CatalogueState::default();
    state.apply(&sample(0)).unwrap();
    let bytes = snapshot::encode(&state).unwrap();
    let hex: String = bytes[HEAD_BYTES..bytes.len() - CRC_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = concat!(
        "01",
        "066e6f64652d30",
        "07",
        "03",
        "02",
        "066e6f64652d31",
        "02066e6f64652d30066e6f64652d31",
        "02",
        "808080808020",
        "01808080808020", // a stream with its end
        "00"              // blocks
    );
    assert_eq!(hex, expected);
}

#[test]
fn any_changed_missing_or_added_byte_is_an_error() {
    for blocks in [1, 20] {
        let entry = sample(blocks);
        let bytes = entry.encode().unwrap();
        for at in 0..bytes.len() {
            assert!(Entry::decode(entry.version, &bytes[..at]).is_err(), "{at}");
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << bit;
                let error = Entry::decode(entry.version, &damaged).unwrap_err();
                assert!(matches!(error, EntryError::Checksum { .. }), "{error}");
            }
        }
        let longer = [bytes.as_ref(), &[0]].concat();
        assert!(Entry::decode(entry.version, &longer).is_err());
    }
}

/// Damage behind a matching checksum: whatever the fields say, reading ends, and only what would be
/// written is accepted.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() - CRC_BYTES;
    let crc = crc32fast::hash(&bytes[..length]).to_le_bytes();
    bytes[length..].copy_from_slice(&crc);
    bytes
}

#[test]
fn every_field_is_checked_behind_a_matching_checksum() {
    let entry = sample(0);
    let bytes = entry.encode().unwrap().to_vec();
    let error = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = bytes.clone();
        change(&mut damaged);
        Entry::decode(entry.version, &with_checksum(damaged)).unwrap_err()
    };
    assert!(matches!(error(&|b| b[0] = b'X'), EntryError::Magic { .. }));
    assert!(matches!(
        error(&|b| b[4] = 2),
        EntryError::Format { found: 2 }
    ));
    assert!(matches!(
        error(&|b| b[5] = 9),
        EntryError::Coding { found: 9 }
    ));
    assert!(matches!(error(&|b| b[5] = ZSTD), EntryError::Body { .. }));
    assert!(matches!(error(&|b| b[6] = 7), EntryError::Version { .. }));
    assert!(matches!(error(&|b| b[30] += 1), EntryError::Body { .. }));
    assert!(matches!(
        error(&|b| b[33] = 0xff),
        EntryError::TooLong { .. }
    ));
    // The count of operations, then the first tag.
    assert!(matches!(
        error(&|b| b[HEAD_BYTES] = 99),
        EntryError::Field { .. }
    ));
    assert!(matches!(
        error(&|b| b[HEAD_BYTES] = 1),
        EntryError::Trailing { .. }
    ));
    assert!(matches!(
        error(&|b| b[HEAD_BYTES + 1] = 77),
        EntryError::Tag { tag: 77 }
    ));
}

proptest! {
    #[test]
    fn damage_behind_a_matching_checksum_never_panics(
        changes in prop::collection::vec((0usize..4096, any::<u8>()), 1..4),
        blocks in 0u64..3,
    ) {
        let mut bytes = sample(blocks).encode().unwrap().to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let bytes = with_checksum(bytes);
        if let Ok(entry) = Entry::decode(CatalogueVersion(1), &bytes) {
            let again = entry.encode().unwrap();
            prop_assert_eq!(Entry::decode(entry.version, &again).unwrap(), entry);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut framed = sample(0).encode().unwrap()[..HEAD_BYTES].to_vec();
        framed[30..34].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        framed.extend_from_slice(&bytes);
        framed.extend_from_slice(&[0; 4]);
        let framed = with_checksum(framed);
        let _ = Entry::decode(CatalogueVersion(1), &framed);
        let mut snapshot_bytes = framed;
        snapshot_bytes[..4].copy_from_slice(b"SCSN");
        let _ = snapshot::decode(CatalogueVersion(1), &with_checksum(snapshot_bytes));
    }
}

#[test]
fn a_snapshot_is_the_fold_and_damage_to_it_is_seen() {
    let mut state = CatalogueState::default();
    let mut first = sample(2);
    first.ops.truncate(4);
    state.apply(&first).unwrap();
    let bytes = snapshot::encode(&state).unwrap();
    assert_eq!(snapshot::decode(state.version(), &bytes).unwrap(), state);
    assert!(snapshot::decode(CatalogueVersion(2), &bytes).is_err());
    for at in 0..bytes.len() {
        assert!(snapshot::decode(state.version(), &bytes[..at]).is_err());
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x10;
        assert!(snapshot::decode(state.version(), &damaged).is_err());
    }
    // An entry is no snapshot.
    assert!(snapshot::decode(CatalogueVersion(1), &first.encode().unwrap()).is_err());
}
