//! Reading a simulated disk at start-up, as the role reads a real one.

use std::collections::{BTreeMap, BTreeSet};

use scoria_ingester::head::Heads;
use scoria_ingester::record::{RecordReader, Replayed as Record};
use scoria_ingester::segment::{
    FrameKind, LogDisk, SegmentBytes, SegmentEnd, SegmentError, SegmentName, SegmentReader, Step,
};
use scoria_ingester::stream::{CarriedKey, Generation, Recovered, SegmentSummary, recover};
use scoria_model::{Seq, StreamId, Timestamp};

use super::Mutation;
use super::check::Broken;
use super::disk::SimDisk;

/// What the log of one stream holds.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) generations: Vec<(Recovered, Heads)>,
    pub(super) keys: Vec<CarriedKey>,
    /// The newest arrival of any record or key.
    pub(super) newest: Timestamp,
    pub(super) torn_tails: u64,
}

type Reader = SegmentReader<Box<dyn SegmentBytes>>;

/// Reads all segments of a stream. Nothing that this simulation does to a disk may damage what was
/// synced, so any damage is a broken rule.
pub(super) fn replay_stream(
    disk: &SimDisk,
    stream: &StreamId,
    committed: Seq,
    mutation: Mutation,
) -> Result<Replayed, Broken> {
    let mut replayed = Replayed::default();
    let mut opened = Vec::new();
    for (generation, name) in segments_of(disk, stream) {
        let bytes = disk
            .open(&name)
            .map_err(|e| ("D1", format!("{name}: {e}")))?;
        match SegmentReader::open(&name, bytes) {
            Ok(reader) => opened.push((generation, reader)),
            Err(SegmentError::Unborn { .. }) => {
                replayed.torn_tails += 1;
                let _ = disk.delete(&name);
            }
            // The power went while it was being made. The role keeps a copy and goes on; had it
            // held anything acknowledged, the count of profiles would show it.
            Err(SegmentError::Damaged { offset: 0, .. }) => {
                replayed.torn_tails += 1;
                let _ = disk.delete(&name);
            }
            Err(error) => return Err(("D1", error.to_string())),
        }
    }
    let first_seqs: Vec<Seq> = opened.iter().map(|(_, r)| r.header().first_seq).collect();
    let mut summaries = Vec::new();
    let mut heads = Vec::new();
    for (at, (generation, mut reader)) in opened.into_iter().enumerate() {
        let below = first_seqs[at + 1..].iter().min();
        let until = match below {
            Some(first) if mutation != Mutation::CountFailedAppends => Seq(first.0 - 1),
            _ => Seq(u64::MAX),
        };
        let header = reader.header();
        replayed.newest = replayed.newest.max(header.created);
        let mut summary = SegmentSummary {
            generation,
            first_seq: header.first_seq,
            last_seq: Seq(header.first_seq.0 - 1),
        };
        let mut live = Heads::new();
        replayed.read_segment(&mut reader, (committed, until), &mut summary, &mut live)?;
        if mutation == Mutation::CountFailedAppends {
            summary.first_seq = Seq(u64::MAX);
        }
        summaries.push(summary);
        heads.push(live);
    }
    let ranges = recover(summaries, committed);
    replayed.generations = ranges.into_iter().zip(heads).collect();
    Ok(replayed)
}

/// The streams of which the disk has segments.
pub(super) fn streams_on(disk: &SimDisk) -> BTreeSet<StreamId> {
    let names = disk.list().unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| name.parse::<SegmentName>().ok())
        .map(|segment| segment.stream)
        .collect()
}

fn segments_of(disk: &SimDisk, stream: &StreamId) -> BTreeMap<Generation, String> {
    let names = disk.list().unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| {
            let parsed: SegmentName = name.parse().ok()?;
            (parsed.stream == *stream).then_some((parsed.generation, name))
        })
        .collect()
}

impl Replayed {
    fn read_segment(
        &mut self,
        reader: &mut Reader,
        (after, until): (Seq, Seq),
        summary: &mut SegmentSummary,
        heads: &mut Heads,
    ) -> Result<(), Broken> {
        let mut records = RecordReader::new();
        let named = |what: String| {
            let generation = summary.generation.0;
            ("D1", format!("segment {generation}: {what}"))
        };
        loop {
            let frame = match reader.step().map_err(|e| ("D1", e.to_string()))? {
                Step::Frame(frame) => frame,
                Step::End(SegmentEnd::Sealed | SegmentEnd::Unsealed) => return Ok(()),
                Step::End(SegmentEnd::Torn { .. }) => {
                    self.torn_tails += 1;
                    return Ok(());
                }
                Step::End(damaged @ SegmentEnd::Damaged { .. }) => {
                    return Err(named(format!("{damaged:?}")));
                }
            };
            let numbered = frame.kind == FrameKind::Records;
            for (seq, bytes) in frame.records() {
                let record = records
                    .replay(bytes)
                    .map_err(|error| named(format!("record {}: {error}", seq.0)))?;
                match record {
                    Record::Push(push) if numbered => {
                        self.newest = self.newest.max(push.arrival);
                        summary.last_seq = seq;
                        if seq <= until {
                            self.keys.extend(push.keys.iter().map(|&key| CarriedKey {
                                key,
                                arrival: push.arrival,
                            }));
                        }
                        if seq > after && seq <= until {
                            heads.append(&push, seq);
                        }
                    }
                    Record::Push(_) => return Err(named("a push among the keys".to_owned())),
                    Record::RetryKeys(keys) => {
                        for (arrival, key) in keys {
                            self.newest = self.newest.max(arrival);
                            self.keys.push(CarriedKey { key, arrival });
                        }
                    }
                }
            }
        }
    }
}
