//! The segment being written, with its dictionaries and the records on their way to the heads.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use scoria_model::part::PartView;
use scoria_model::{ByteBudget, Permit, Seq, StreamId};

use super::{LogLoop, Payload};
use crate::generation::LiveGeneration;
use crate::metrics::Ended;
use crate::record::{self, RecordWriter, Taken};
use crate::segment::{LogDisk, SegmentHeader, SegmentWriter};
use crate::stream::{CarriedKey, Generation, Input, NewRecord, Now};

/// One open segment.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) generation: Arc<LiveGeneration>,
    writer: SegmentWriter,
    records: RecordWriter,
    /// Records of the batch in flight: durable before they are visible.
    encoded: VecDeque<(Seq, record::Push)>,
    /// Of requests whose parts the heads hold but whose memory is not accounted to them yet.
    unaccounted: Vec<Permit>,
    heads_bytes: u64,
}

/// Whether a segment may be opened in the space that is kept for this on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserve {
    /// It lets older segments go.
    Use,
    /// Nothing would come of it but a few more records.
    Keep,
}

/// Bytes of applied requests after which the heads' memory is looked at.
const ACCOUNT_EVERY_BYTES: u64 = 4 << 20;

impl OpenSegment {
    /// Opens a segment on `disk`.
    pub(super) fn create(
        (disk, reserve): (&dyn LogDisk, Reserve),
        (stream, generation): (&Arc<StreamId>, Generation),
        first_seq: Seq,
        carried: &[CarriedKey],
        now: Now,
        heads: &ByteBudget,
    ) -> io::Result<Self> {
        let header = SegmentHeader {
            stream: (**stream).clone(),
            generation,
            first_seq,
            created: now.wall,
            salt: salt(),
        };
        let keys: Vec<_> = carried.iter().map(|c| (c.arrival, c.key)).collect();
        let keys = if keys.is_empty() {
            Vec::new()
        } else {
            vec![RecordWriter::encode_retry_keys(&keys)]
        };
        let created = SegmentWriter::create(disk, &header, &keys);
        let writer = match created {
            Err(e) if is_full(&e) && reserve == Reserve::Use && disk.release_reserve() => {
                SegmentWriter::create(disk, &header, &keys)?
            }
            created => {
                let writer = created?;
                // Twice what the next segment's keys would take now.
                disk.keep_reserve(2 * writer.length());
                writer
            }
        };
        let from = Seq(first_seq.0.saturating_sub(1));
        Ok(Self {
            generation: Arc::new(LiveGeneration::new(
                Arc::clone(stream),
                generation,
                from,
                heads,
            )),
            writer,
            records: RecordWriter::new(),
            encoded: VecDeque::new(),
            unaccounted: Vec::new(),
            heads_bytes: 0,
        })
    }

    /// Writes one batch; the length of the segment now.
    fn write(&mut self, records: Vec<NewRecord<Payload>>) -> io::Result<u64> {
        let mut first = None;
        let mut bytes = Vec::with_capacity(records.len());
        for new in records {
            first.get_or_insert(new.seq);
            let encoded = self.encode(&new)?;
            bytes.push(encoded.bytes);
            self.encoded.push_back((new.seq, encoded.push));
            self.unaccounted.push(new.payload.permit);
        }
        let first = first.ok_or(io::ErrorKind::InvalidInput)?;
        self.writer.append(first, &bytes)
    }

    fn encode(&mut self, new: &NewRecord<Payload>) -> io::Result<record::EncodedRecord> {
        let payload = &new.payload;
        let mut places = new.parts.iter().map(|&place| place as usize).peekable();
        let mut taken = Vec::with_capacity(payload.parts.len());
        let mut before = 0;
        for bytes in &payload.parts {
            // Checked when the request came; it cannot have changed.
            let part = PartView::parse(bytes).map_err(io::Error::other)?;
            let n_writes = part.keys().len();
            let mut writes = Vec::new();
            while let Some(place) = places.next_if(|place| *place < before + n_writes) {
                writes.push(place - before);
            }
            before += n_writes;
            if !writes.is_empty() {
                taken.push(Taken { part, writes });
            }
        }
        if places.next().is_some() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.records.encode(new.arrival, &payload.tenant, &taken))
    }

    /// Makes the records up to `through` visible.
    pub(super) fn apply(&mut self, through: Seq) {
        while let Some((seq, _)) = self.encoded.front()
            && *seq <= through
            && let Some((seq, push)) = self.encoded.pop_front()
        {
            self.generation.apply(seq, &push);
        }
        if self.unaccounted.iter().map(Permit::bytes).sum::<u64>() >= ACCOUNT_EVERY_BYTES {
            self.account();
        }
    }

    /// Turns the guesses of requests into what the heads really take.
    pub(super) fn account(&mut self) {
        self.unaccounted.clear();
        let beside = self.records.bytes();
        self.generation.account(beside);
        self.heads_bytes = self.generation.bytes() + beside;
    }

    /// Memory of the heads and of what the log keeps beside them, when it was last looked at.
    pub(super) fn heads_bytes(&self) -> u64 {
        self.heads_bytes
    }

    /// Memory that writing the heads into blocks would take now.
    pub(super) fn flush_bytes(&self) -> u64 {
        crate::flush::build::memory_needed(self.generation.samples())
    }

    /// Marks the segment as complete.
    pub(super) fn finish(self) -> io::Result<()> {
        self.generation.account(0);
        let next = self.generation.to().next();
        self.writer.finish(next)
    }

    /// Ends the segment after a failure: it is not touched again.
    pub(super) fn abandon(self) {
        self.generation.account(0);
    }
}

impl LogLoop {
    /// Encodes, writes and syncs a batch; what to tell the stream.
    pub(super) fn write_batch(
        &mut self,
        generation: Generation,
        records: Vec<NewRecord<Payload>>,
    ) -> Input<Payload> {
        let started = self.parts.clock.monotonic();
        let n_records = records.len();
        let Some(segment) = self
            .segment
            .as_mut()
            .filter(|s| s.generation.number == generation)
        else {
            return Input::AppendFailed {
                generation,
                reason: "its segment is not open".to_owned(),
            };
        };
        let before = segment.writer.length();
        let written = segment.write(records);
        let bytes = segment.writer.length().saturating_sub(before);
        let took = self.parts.clock.monotonic().saturating_sub(started);
        let metrics = &self.parts.metrics;
        metrics.batch(n_records, bytes, took, Ended::of(&written));
        match written {
            Ok(log_bytes) => Input::Appended {
                generation,
                log_bytes,
            },
            Err(error) => {
                tracing::error!(generation = generation.0, %error, "cannot append to the log");
                Input::AppendFailed {
                    generation,
                    reason: error.to_string(),
                }
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Random enough that no two segments share it but by accident.
fn salt() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) as u32
}
