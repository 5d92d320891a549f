//! The log of a simulated ingester: opens segments, writes batches, feeds heads, deletes segments.
//!
//! # Invariants
//! - A batch is written at an event of its own, after the effect that asked for it.
//! - Segments are deleted oldest first, and none before all older ones of its stream are gone: a
//!   later one says which records of an earlier one do not count.

use std::collections::VecDeque;
use std::time::Duration;

use scoria_ingester::head::Heads;
use scoria_ingester::record::{self, RecordWriter, Taken};
use scoria_ingester::segment::{LogDisk, SegmentHeader, SegmentName, SegmentWriter};
use scoria_ingester::stream::{CarriedKey, CutReason, Generation, Input, NewRecord};
use scoria_model::Seq;
use scoria_model::part::PartView;

use super::Mutation;
use super::node::{LiveGeneration, Payload};
use super::profiles::PartId;
use super::world::{Event, Life, World};

#[derive(Debug)]
pub(super) struct OpenSegment {
    slot: usize,
    generation: Generation,
    writer: SegmentWriter,
    records: RecordWriter,
    encoded: VecDeque<(Seq, record::Push)>,
    /// For the mistake of that name: batches that count as durable and are not written yet.
    owed: VecDeque<(Seq, Vec<Vec<u8>>)>,
}

impl World {
    pub(super) fn open_segment(
        &mut self,
        life: Life,
        (slot, generation): (usize, Generation),
        first_seq: Seq,
        carried: Vec<CarriedKey>,
    ) {
        let created = self.node_now(life.node).wall;
        let node = &mut self.nodes[life.node];
        let salt = node.seeded.draw() as u32;
        let disk = node.disk.clone();
        let mutation = self.mutation;
        let Some(process) = self.process(life) else {
            return;
        };
        let header = SegmentHeader {
            stream: process.slots[slot].id.clone(),
            generation,
            first_seq,
            created,
            salt,
        };
        let keys: Vec<_> = carried.iter().map(|c| (c.arrival, c.key)).collect();
        let keys = if keys.is_empty() || mutation == Mutation::ForgetRetryKeys {
            Vec::new()
        } else {
            vec![RecordWriter::encode_retry_keys(&keys)]
        };
        let writer = SegmentWriter::create(&disk, &header, &keys);
        let records = process.unlogged.take().unwrap_or_default();
        let opened = match writer {
            Ok(writer) => {
                process.segment = Some(OpenSegment {
                    slot,
                    generation,
                    writer,
                    records,
                    encoded: VecDeque::new(),
                    owed: VecDeque::new(),
                });
                let live = LiveGeneration {
                    heads: Heads::new(),
                    to: Seq(first_seq.0 - 1),
                    built: None,
                };
                process.slots[slot].generations.insert(generation, live);
                Input::SegmentOpened(generation)
            }
            Err(error) => Input::SegmentFailed {
                generation,
                reason: error.to_string(),
            },
        };
        if disk.has_crashed() {
            return self.end_within_call(life);
        }
        let is_open = matches!(opened, Input::SegmentOpened(_));
        self.input(life, slot, opened);
        if is_open {
            let slots = self.process(life).map_or(0, |process| process.slots.len());
            for other in (0..slots).filter(|&other| other != slot) {
                self.input(life, other, Input::KeysCarried);
            }
        }
    }

    pub(super) fn append(
        &mut self,
        life: Life,
        slot: usize,
        generation: Generation,
        records: Vec<NewRecord<Payload>>,
    ) {
        let wait = Duration::from_micros(200 + self.nodes[life.node].seeded.below(60_000));
        let mutation = self.mutation;
        let Some(process) = self.process(life) else {
            return;
        };
        if mutation == Mutation::AcknowledgeBeforeLog
            && let Some(segment) = &mut process.segment
        {
            let (first, bytes) = segment.encode(&records);
            segment.owed.push_back((first, bytes));
            let appended = Input::Appended {
                generation,
                log_bytes: 0,
            };
            self.after(wait, Event::BatchDone(life));
            return self.input(life, slot, appended);
        }
        process.batch = Some((generation, records));
        self.after(wait, Event::BatchDone(life));
    }

    /// Encodes, writes and syncs what the stream handed over.
    pub(super) fn write_batch(&mut self, life: Life) {
        let disk = self.nodes[life.node].disk.clone();
        let Some(process) = self.process(life) else {
            return;
        };
        if let Some(segment) = &mut process.segment
            && let Some((first, bytes)) = segment.owed.pop_front()
        {
            // Whatever the disk says: it was acknowledged already.
            let _ = segment.writer.append(first, &bytes);
            if disk.has_crashed() {
                self.end_within_call(life);
            }
            return;
        }
        let Some((generation, records)) = process.batch.take() else {
            return;
        };
        let segment = process.segment.as_mut();
        let Some(segment) = segment.filter(|s| s.generation == generation) else {
            return self.broken(("Driver", format!("generation {} is not open", generation.0)));
        };
        let slot = segment.slot;
        let (first, bytes) = segment.encode(&records);
        let written = segment.writer.append(first, &bytes);
        if disk.has_crashed() {
            return self.end_within_call(life);
        }
        let ended = match written {
            Ok(log_bytes) => Input::Appended {
                generation,
                log_bytes,
            },
            Err(error) => {
                self.figures.failed_appends += 1;
                Input::AppendFailed {
                    generation,
                    reason: error.to_string(),
                }
            }
        };
        self.input(life, slot, ended);
    }

    pub(super) fn apply_to_head(
        &mut self,
        life: Life,
        slot: usize,
        generation: Generation,
        through: Seq,
    ) {
        let Some(process) = self.process(life) else {
            return;
        };
        let Some(segment) = &mut process.segment else {
            return;
        };
        let Some(live) = process.slots[slot].generations.get_mut(&generation) else {
            return;
        };
        while let Some((seq, push)) = segment.encoded.pop_front() {
            if seq > through {
                segment.encoded.push_front((seq, push));
                break;
            }
            live.heads.append(&push, seq);
            live.to = seq;
        }
    }

    pub(super) fn seal(&mut self, life: Life, generation: Generation, reason: CutReason) {
        let mutation = self.mutation;
        let disk = self.nodes[life.node].disk.clone();
        let Some(process) = self.process(life) else {
            return;
        };
        let Some(segment) = process.segment.take() else {
            return;
        };
        if matches!(reason, CutReason::LogFailure | CutReason::Fenced) {
            if mutation == Mutation::UseUnloggedDictionary {
                process.unlogged = Some(segment.records);
            }
            return;
        }
        let next = process.slots[segment.slot]
            .generations
            .get(&generation)
            .map_or(Seq(1), |live| live.to.next());
        // Its records are durable; only the mark at its end may be missing.
        let _ = segment.writer.finish(next);
        if disk.has_crashed() {
            self.end_within_call(life);
        }
    }

    pub(super) fn delete_segment(&mut self, life: Life, slot: usize, generation: Generation) {
        let disk = self.nodes[life.node].disk.clone();
        let Some(process) = self.process(life) else {
            return;
        };
        let slot = &mut process.slots[slot];
        slot.undeleted.insert(generation);
        while let Some(&oldest) = slot.undeleted.first() {
            let name = SegmentName {
                stream: slot.id.clone(),
                generation: oldest,
            };
            if disk.delete(&name.to_string()).is_err() {
                return;
            }
            slot.undeleted.remove(&oldest);
        }
    }
}

impl OpenSegment {
    fn encode(&mut self, records: &[NewRecord<Payload>]) -> (Seq, Vec<Vec<u8>>) {
        let mut bytes = Vec::with_capacity(records.len());
        for new in records {
            let taken: Vec<Taken<'_>> = new
                .parts
                .iter()
                .filter_map(|&place| PartView::parse(&new.payload[place as usize]).ok())
                .map(Taken::whole)
                .collect();
            let tenant = PartId(0).tenant();
            let encoded = self.records.encode(new.arrival, &tenant, &taken);
            bytes.push(encoded.bytes);
            self.encoded.push_back((new.seq, encoded.push));
        }
        (records.first().map_or(Seq(1), |new| new.seq), bytes)
    }
}
