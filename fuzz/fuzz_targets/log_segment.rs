//! A log segment: as it is, and behind a good header with every frame's marker and checksum made
//! right, so that the lengths, the decompression and the records behind them are reached.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use scoria_ingester::segment::{SegmentEnd, SegmentHeader, SegmentReader, Step};
use scoria_ingester::stream::Generation;
use scoria_model::{Incarnation, NodeId, Seq, StreamId, Timestamp};

const SALT: u32 = 7;
const FRAME_HEADER_BYTES: usize = 32;

fuzz_target!(|data: &[u8]| {
    read(data);
    let mut segment = header();
    let start = segment.len();
    segment.extend_from_slice(data);
    make_frames_right(&mut segment[start..]);
    read(&segment);
});

fn read(bytes: &[u8]) {
    let Ok(mut reader) = SegmentReader::open("fuzz", bytes) else {
        return;
    };
    let mut end = 0;
    loop {
        match reader.step().expect("memory can be read") {
            Step::Frame(frame) => {
                assert!(frame.offset >= end);
                end = frame.offset + FRAME_HEADER_BYTES as u64;
                let n = frame.records().len() as u64;
                assert_eq!(frame.last_seq().0 + 1, frame.first_seq.0 + n);
                frame
                    .records()
                    .for_each(|(seq, _)| assert!(seq >= frame.first_seq));
            }
            Step::End(last) => {
                match last {
                    SegmentEnd::Torn {
                        offset,
                        bytes: left,
                    } => {
                        assert_eq!(offset + left, bytes.len() as u64);
                    }
                    SegmentEnd::Damaged {
                        offset, resumes_at, ..
                    } => assert!(offset < resumes_at && resumes_at < bytes.len() as u64),
                    SegmentEnd::Sealed | SegmentEnd::Unsealed => {}
                }
                return;
            }
        }
    }
}

fn header() -> Vec<u8> {
    SegmentHeader {
        stream: StreamId {
            node: NodeId(Arc::from("fuzz")),
            incarnation: Incarnation(1),
            n: 0,
        },
        generation: Generation(1),
        first_seq: Seq(1),
        created: Timestamp(0),
        salt: SALT,
    }
    .encode()
}

fn make_frames_right(mut left: &mut [u8]) {
    while left.len() >= FRAME_HEADER_BYTES {
        let stored = u32::from_le_bytes([left[8], left[9], left[10], left[11]]) as usize;
        let end = FRAME_HEADER_BYTES + stored.min(left.len() - FRAME_HEADER_BYTES);
        let (frame, rest) = left.split_at_mut(end);
        frame[..4].copy_from_slice(b"SFRM");
        let mut hasher = crc32fast::Hasher::new_with_initial(SALT);
        hasher.update(&frame[8..]);
        let crc = hasher.finalize();
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        left = rest;
    }
}
