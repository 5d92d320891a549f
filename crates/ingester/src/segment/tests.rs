//! Segments written, cut off, and with every single bit changed.

use std::sync::Arc;

use scoria_model::{Incarnation, NodeId, Seq, StreamId, Timestamp};

use super::*;
use crate::stream::Generation;

fn header() -> SegmentHeader {
    SegmentHeader {
        stream: StreamId {
            node: NodeId(Arc::from("node-0")),
            incarnation: Incarnation(7),
            n: 0,
        },
        generation: Generation(3),
        first_seq: Seq(11),
        created: Timestamp::from_millis(1_700_000_000_000),
        salt: 0xdead_beef,
    }
}

const HEADER_BYTES: usize = 46 + 25 + 4;

fn name() -> String {
    SegmentName {
        stream: header().stream,
        generation: Generation(3),
    }
    .to_string()
}

/// Five records in three batches, the second of which compresses.
fn batches() -> Vec<Vec<Vec<u8>>> {
    vec![
        vec![b"first".to_vec(), vec![]],
        vec![vec![7; 700], (0..=255).collect()],
        vec![b"SFRM in a record is no frame".to_vec()],
    ]
}

fn write(seal: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let disk = DirDisk::open(dir.path()).unwrap();
    let mut writer = SegmentWriter::create(&disk, &header(), &[b"keys".to_vec()]).unwrap();
    let mut seq = 11;
    for batch in batches() {
        let length = writer.append(Seq(seq), &batch).unwrap();
        assert_eq!(length, writer.length());
        seq += batch.len() as u64;
    }
    let length = writer.length();
    if seal {
        writer.finish(Seq(seq)).unwrap();
    }
    assert_eq!(disk.list().unwrap(), [name()]);
    let bytes = std::fs::read(dir.path().join(name())).unwrap();
    if !seal {
        assert_eq!(bytes.len() as u64, length);
    }
    bytes
}

type Read = (Vec<(u64, Vec<u8>)>, usize, SegmentEnd);

fn read(bytes: &[u8]) -> Result<Read, SegmentError> {
    let mut reader = SegmentReader::open("segment", bytes)?;
    let mut records = Vec::new();
    let mut key_frames = 0;
    loop {
        match reader.step()? {
            Step::Frame(frame) if frame.kind == FrameKind::Records => {
                records.extend(frame.records().map(|(seq, r)| (seq.0, r.to_vec())));
                assert_eq!(frame.last_seq().0, records.last().unwrap().0);
            }
            Step::Frame(_) => key_frames += 1,
            Step::End(end) => return Ok((records, key_frames, end)),
        }
    }
}

fn written() -> Vec<(u64, Vec<u8>)> {
    (11..).zip(batches().into_iter().flatten()).collect()
}

#[test]
fn what_was_written_is_read() {
    let sealed = write(true);
    assert!(sealed.len() < 700, "the second batch is not compressed");
    let (records, key_frames, end) = read(&sealed).unwrap();
    assert_eq!(records, written());
    assert_eq!((key_frames, end), (1, SegmentEnd::Sealed));
    let (records, _, end) = read(&write(false)).unwrap();
    assert_eq!((records, end), (written(), SegmentEnd::Unsealed));
    let reader = SegmentReader::open("segment", sealed).unwrap();
    assert_eq!(*reader.header(), header());
}

#[test]
fn every_truncation_is_a_torn_tail() {
    let bytes = write(true);
    for length in 0..bytes.len() {
        match read(&bytes[..length]) {
            Err(SegmentError::Unborn { bytes, .. }) => assert_eq!(bytes, length as u64),
            Err(e) => panic!("{length}: {e}"),
            Ok((records, _, end)) => {
                assert!(written().starts_with(&records), "{length}");
                match end {
                    SegmentEnd::Unsealed => {}
                    SegmentEnd::Torn { offset, bytes } => {
                        assert_eq!(offset + bytes, length as u64);
                    }
                    end => panic!("{length}: {end:?}"),
                }
            }
        }
    }
}

#[test]
fn every_changed_bit_is_seen_and_what_comes_before_it_is_kept() {
    let bytes = write(true);
    let last_frame = bytes.len() - 32;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            match read(&changed) {
                Err(SegmentError::Damaged { offset, .. }) => {
                    assert!(offset == 0 && at < HEADER_BYTES, "{at}");
                }
                Err(e) => panic!("{at}: {e}"),
                Ok((
                    records,
                    _,
                    SegmentEnd::Damaged {
                        offset, resumes_at, ..
                    },
                )) => {
                    assert!(written().starts_with(&records));
                    assert!(offset <= at as u64 && (at as u64) < resumes_at, "{at}");
                }
                // Only the end mark itself: no record is behind it.
                Ok((records, _, SegmentEnd::Torn { offset, .. })) => {
                    assert_eq!((records, offset), (written(), last_frame as u64), "{at}");
                }
                Ok((_, _, end)) => panic!("{at}: {end:?}"),
            }
        }
    }
}

#[test]
fn frames_of_another_segment_are_not_taken() {
    let bytes = write(false);
    let other_header = SegmentHeader {
        salt: 1,
        ..header()
    };
    let other = [&other_header.encode(), &bytes[HEADER_BYTES..]].concat();
    let (records, key_frames, end) = read(&other).unwrap();
    assert_eq!((records.len(), key_frames), (0, 0));
    assert!(matches!(end, SegmentEnd::Torn { .. }));
}

#[test]
fn zeros_behind_the_last_batch_are_a_torn_tail() {
    let mut bytes = write(false);
    let length = bytes.len() as u64;
    bytes.resize(bytes.len() + 3 * (1 << 20), 0);
    let (records, _, end) = read(&bytes).unwrap();
    assert_eq!(records, written());
    assert_eq!(
        end,
        SegmentEnd::Torn {
            offset: length,
            bytes: 3 << 20
        }
    );
    assert!(matches!(
        read(&[0; 4096]),
        Err(SegmentError::Unborn { bytes: 4096, .. })
    ));
}

#[test]
fn damage_wider_than_a_window_is_crossed() {
    let bytes = write(true);
    let (head, tail) = bytes.split_at(bytes.len() - 32);
    for garbage in [(1 << 20) - 2, (1 << 20) + 1] {
        let mut wide = head.to_vec();
        wide.resize(head.len() + garbage, 0x53);
        wide.extend_from_slice(tail);
        let (records, _, end) = read(&wide).unwrap();
        assert_eq!(records, written());
        assert!(matches!(end, SegmentEnd::Damaged { resumes_at, .. }
            if resumes_at == (head.len() + garbage) as u64));
    }
}

/// A disk whose files fail to sync from the second time on, or from the start.
#[derive(Debug)]
struct FailingDisk {
    syncs_left: u32,
    deleted: parking_lot::Mutex<Vec<String>>,
}

#[derive(Debug)]
struct FailingFile {
    syncs_left: u32,
}

impl LogFile for FailingFile {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let left = self.syncs_left.checked_sub(1);
        // It recovers, as a disk may: the writer must not.
        self.syncs_left = left.unwrap_or(u32::MAX);
        left.map(drop)
            .ok_or_else(|| io::Error::other("fsync failed"))
    }
}

impl LogDisk for FailingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn SegmentBytes>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(FailingFile {
            syncs_left: self.syncs_left,
        }))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.deleted.lock().push(name.to_owned());
        Ok(())
    }

    fn quarantine(&self, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn keep_reserve(&self, _: u64) {}

    fn release_reserve(&self) -> bool {
        false
    }
}

fn failing_disk(syncs_left: u32) -> FailingDisk {
    FailingDisk {
        syncs_left,
        deleted: parking_lot::Mutex::default(),
    }
}

#[test]
fn a_writer_that_failed_once_stays_failed() {
    let disk = failing_disk(2);
    let mut writer = SegmentWriter::create(&disk, &header(), &[]).unwrap();
    writer.append(Seq(11), &[b"x"]).unwrap();
    let error = writer.append(Seq(12), &[b"y"]).unwrap_err();
    assert_eq!(error.to_string(), "fsync failed");
    let error = writer.append(Seq(12), &[b"y"]).unwrap_err();
    assert_eq!(error.to_string(), "the segment failed before");
}

#[test]
fn a_segment_that_cannot_be_started_is_removed() {
    let disk = failing_disk(0);
    assert!(SegmentWriter::create(&disk, &header(), &[]).is_err());
    assert_eq!(*disk.deleted.lock(), [name()]);
}

#[test]
fn the_directory_deletes_quarantines_and_reserves() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DirDisk::open(dir.path()).unwrap();
    drop(SegmentWriter::create(&disk, &header(), &[]).unwrap());
    let again = SegmentWriter::create(&disk, &header(), &[]).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(disk.list().unwrap(), [name()]);
    let there = disk.quarantine(&name()).unwrap();
    assert_eq!(disk.quarantine(&name()).unwrap(), there);
    disk.delete(&name()).unwrap();
    disk.delete(&name()).unwrap();
    assert!(disk.list().unwrap().is_empty());
    assert!(std::path::Path::new(&there).exists());
    disk.keep_reserve(1000);
    assert!(disk.release_reserve());
    assert!(!disk.release_reserve());
}

#[test]
fn names_read_back() {
    let name = name();
    assert_eq!(name, "node-0.0000000000000007.0.0000000003.log");
    assert_eq!(name.parse::<SegmentName>().unwrap().to_string(), name);
    for bad in [
        "",
        "x.log",
        "a.b.c.d.log",
        "reserve",
        "n.0000000000000007.0.1",
    ] {
        assert!(bad.parse::<SegmentName>().is_err(), "{bad}");
    }
}
