//! Reading back what earlier processes logged.
//!
//! # Invariants
//! - A record is taken only when all before it in its segment were read: its dictionary ids mean
//!   nothing otherwise.
//! - Damage ends a segment, is reported with file and offset, and puts a copy of the file into
//!   quarantine; only what a torn tail holds, which was never acknowledged, is cut off quietly and
//!   counted.
//!
//! # What it must not know
//! The catalogue: it is told how far each stream is committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use scoria_model::{ByteBudget, RetryKey, Seq, StreamId, Timestamp};

use crate::generation::LiveGeneration;
use crate::metrics::ReplayFigures;
use crate::record::{RecordReader, Replayed};
use crate::retry_key::of_tenant;
use crate::segment::{
    FrameKind, LogDisk, SegmentBytes, SegmentEnd, SegmentError, SegmentName, SegmentReader, Step,
};
use crate::stream::{CarriedKey, Generation, NO_KEY, Recovered, SegmentSummary, recover};

/// The log of one earlier stream.
#[derive(Debug)]
pub(crate) struct ReplayedStream {
    pub(crate) stream: Arc<StreamId>,
    pub(crate) generations: Vec<(Recovered, Arc<LiveGeneration>)>,
    /// The newest arrival of any record or key.
    pub(crate) newest: Timestamp,
}

/// All of a disk.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) streams: Vec<ReplayedStream>,
    pub(crate) keys: Vec<CarriedKey>,
    /// What is wrong and was put into quarantine, for people.
    pub(crate) damages: Vec<Damage>,
    /// Damaged segments of which no copy could be kept.
    pub(crate) unkept: Vec<String>,
    pub(crate) figures: ReplayFigures,
}

/// A segment that could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log segment {segment} is damaged at offset {offset}: {what}; a copy is kept at {kept}")]
pub(crate) struct Damage {
    pub(crate) segment: String,
    pub(crate) offset: u64,
    pub(crate) what: String,
    pub(crate) kept: String,
}

/// Why the log could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("cannot list the log segments: {0}")]
    List(std::io::Error),
    #[error(transparent)]
    Version(SegmentError),
}

/// Reads every segment of the disk. `committed` says how far blocks hold a stream.
///
/// # Errors
/// [`ReplayError`]; a single bad segment is none.
pub(crate) fn replay(
    disk: &dyn LogDisk,
    committed: &dyn Fn(&StreamId) -> Seq,
    heads: &ByteBudget,
) -> Result<Replay, ReplayError> {
    let mut streams: BTreeMap<StreamId, BTreeMap<Generation, String>> = BTreeMap::new();
    for name in disk.list().map_err(ReplayError::List)? {
        match name.parse::<SegmentName>() {
            Ok(segment) => {
                let of_stream = streams.entry(segment.stream).or_default();
                of_stream.insert(segment.generation, name);
            }
            Err(error) => tracing::warn!(%error, "passed over a file in the log directory"),
        }
    }
    let mut replay = Replay::default();
    for (stream, names) in streams {
        let from = committed(&stream);
        replay.read_stream(disk, Arc::new(stream), from, names, heads)?;
    }
    Ok(replay)
}

/// One segment with its header read.
struct Opened {
    name: String,
    generation: Generation,
    first_seq: Seq,
    reader: SegmentReader<Box<dyn SegmentBytes>>,
}

impl Replay {
    fn read_stream(
        &mut self,
        disk: &dyn LogDisk,
        stream: Arc<StreamId>,
        committed: Seq,
        names: BTreeMap<Generation, String>,
        heads: &ByteBudget,
    ) -> Result<(), ReplayError> {
        let mut opened = Vec::new();
        for (generation, name) in names {
            self.figures.segments += 1;
            opened.extend(self.open(disk, &stream, generation, name)?);
        }
        let first_seqs: Vec<Seq> = opened.iter().map(|o| o.first_seq).collect();
        let mut live = Vec::new();
        let mut summaries = Vec::new();
        let mut newest = Timestamp::default();
        let mut from = committed;
        for (at, mut segment) in opened.into_iter().enumerate() {
            let below = first_seqs[at + 1..].iter().min().copied();
            let until = Seq(below.map_or(u64::MAX, |first| first.0.saturating_sub(1)));
            let number = segment.generation;
            let generation = LiveGeneration::new(Arc::clone(&stream), number, from, heads);
            let mut summary = SegmentSummary {
                generation: number,
                first_seq: segment.first_seq,
                last_seq: Seq(segment.first_seq.0.saturating_sub(1)),
            };
            newest = newest.max(segment.reader.header().created);
            let wanted = Wanted {
                after: committed,
                until,
            };
            let damage = self.read_segment(
                &mut segment,
                &wanted,
                &generation,
                (&mut summary, &mut newest),
            );
            if let Some((offset, what)) = damage {
                self.quarantine(disk, &segment.name, offset, what);
            }
            summaries.push(summary);
            generation.account(0);
            from = from.max(summary.last_seq.min(until));
            generation.reach(from);
            live.push(Arc::new(generation));
        }
        let ranges = recover(summaries, committed);
        self.streams.push(ReplayedStream {
            stream,
            generations: ranges.into_iter().zip(live).collect(),
            newest,
        });
        Ok(())
    }

    /// Opens a segment, or does away with one that cannot be used.
    fn open(
        &mut self,
        disk: &dyn LogDisk,
        stream: &StreamId,
        generation: Generation,
        name: String,
    ) -> Result<Option<Opened>, ReplayError> {
        let opened = disk
            .open(&name)
            .map_err(|source| SegmentError::Read {
                name: name.clone(),
                offset: 0,
                source,
            })
            .and_then(|bytes| SegmentReader::open(&name, bytes));
        let what = match opened {
            Ok(reader) => {
                let header = reader.header();
                if header.stream == *stream && header.generation == generation {
                    return Ok(Some(Opened {
                        generation,
                        first_seq: header.first_seq,
                        name,
                        reader,
                    }));
                }
                format!(
                    "its header says that it is segment {} of {}",
                    header.generation.0, header.stream
                )
            }
            Err(SegmentError::Unborn { bytes, .. }) => {
                self.figures.torn_bytes += bytes;
                discard(disk, &name);
                return Ok(None);
            }
            Err(error @ SegmentError::Version { .. }) => return Err(ReplayError::Version(error)),
            Err(SegmentError::Damaged { what, .. }) => what,
            Err(error @ SegmentError::Read { .. }) => error.to_string(),
        };
        if self.quarantine(disk, &name, 0, what) {
            discard(disk, &name);
        }
        Ok(None)
    }

    /// Feeds the segment's records to the generation; where and why it stopped, unless at an end.
    fn read_segment(
        &mut self,
        segment: &mut Opened,
        wanted: &Wanted,
        generation: &LiveGeneration,
        (summary, newest): (&mut SegmentSummary, &mut Timestamp),
    ) -> Option<(u64, String)> {
        let mut records = RecordReader::new();
        loop {
            let frame = match segment.reader.step() {
                Ok(Step::Frame(frame)) => frame,
                Ok(Step::End(SegmentEnd::Sealed | SegmentEnd::Unsealed)) => return None,
                Ok(Step::End(SegmentEnd::Torn { offset, bytes })) => {
                    self.figures.torn_bytes += bytes;
                    tracing::info!(
                        segment = segment.name,
                        offset,
                        bytes,
                        "cut off a torn tail that was never acknowledged"
                    );
                    return None;
                }
                Ok(Step::End(SegmentEnd::Damaged {
                    offset,
                    resumes_at,
                    what,
                })) => {
                    let what = format!("{what}; valid again at offset {resumes_at}");
                    return Some((offset, what));
                }
                Err(SegmentError::Read { offset, source, .. }) => {
                    return Some((offset, format!("it cannot be read: {source}")));
                }
                Err(error) => return Some((0, error.to_string())),
            };
            let numbered = frame.kind == FrameKind::Records;
            if numbered && frame.first_seq != summary.last_seq.next() {
                let what = format!(
                    "record {} follows record {}",
                    frame.first_seq.0, summary.last_seq.0
                );
                return Some((frame.offset, what));
            }
            for (seq, bytes) in frame.records() {
                match records.replay(bytes) {
                    Err(error) => return Some((frame.offset, error.to_string())),
                    Ok(Replayed::Push(push)) => {
                        *newest = (*newest).max(push.arrival);
                        summary.last_seq = seq;
                        self.figures.records += 1;
                        if seq <= wanted.until {
                            let keys = push.keys.iter().map(|&key| CarriedKey {
                                key: of_tenant(&push.tenant, key),
                                arrival: push.arrival,
                            });
                            self.keys.extend(keys.filter(|k| k.key != NO_KEY));
                        }
                        if seq > wanted.after && seq <= wanted.until {
                            generation.apply(seq, &push);
                        }
                    }
                    Ok(Replayed::RetryKeys(keys)) => self.take_keys(keys, newest),
                }
            }
        }
    }

    fn take_keys(&mut self, keys: Vec<(Timestamp, RetryKey)>, newest: &mut Timestamp) {
        for (arrival, key) in keys {
            *newest = (*newest).max(arrival);
            self.keys.push(CarriedKey { key, arrival });
        }
    }

    /// Reports damage and keeps a copy of the file; false if it could not be kept.
    fn quarantine(&mut self, disk: &dyn LogDisk, name: &str, offset: u64, what: String) -> bool {
        let kept = disk.quarantine(name);
        let damage = Damage {
            segment: name.to_owned(),
            offset,
            what,
            kept: match &kept {
                Ok(place) => place.clone(),
                Err(error) => format!("its place, since it cannot be quarantined: {error}"),
            },
        };
        tracing::error!(segment = name, offset, damage = %damage.what, kept = damage.kept,
            "a log segment is damaged; what follows the damage is not served");
        self.figures.damaged_segments += 1;
        self.damages.push(damage);
        if kept.is_err() {
            self.unkept.push(name.to_owned());
        }
        kept.is_ok()
    }
}

/// Which records count: those after what blocks hold and before what a later segment gives out.
struct Wanted {
    after: Seq,
    until: Seq,
}

fn discard(disk: &dyn LogDisk, name: &str) {
    if let Err(error) = disk.delete(name) {
        tracing::warn!(segment = name, %error, "cannot delete a log segment; tried again at the next start");
    }
}
