//! Carrying out what the streams decide.

use std::sync::Arc;

use scoria_model::Seq;

use super::append::{OpenSegment, Reserve};
use super::{LogLoop, OPEN_SLOT, Payload};
use crate::flush::FlushJob;
use crate::segment::SegmentName;
use crate::stream::{CarriedKey, CutReason, Effect, Generation, Input, Outcome};

impl LogLoop {
    pub(super) fn carry_out(&mut self, slot: usize, effects: Vec<Effect<Payload>>) {
        for effect in effects {
            self.carry_out_one(slot, effect);
        }
    }

    fn carry_out_one(&mut self, slot: usize, effect: Effect<Payload>) {
        match effect {
            Effect::OpenSegment {
                generation,
                first_seq,
                carried,
            } => self.open_segment(generation, first_seq, &carried),
            Effect::Append {
                generation,
                records,
            } => self.append = Some((generation, records)),
            Effect::ApplyToHead { through, .. } => {
                if let Some(segment) = &mut self.segment {
                    segment.apply(through);
                }
            }
            Effect::Ack { request, outcomes } => {
                let stored = outcomes.iter().filter(|o| **o == Outcome::Stored).count();
                let duplicates = outcomes.len() - stored;
                self.parts.metrics.parts(stored as u64, duplicates as u64);
                if let Some(reply) = self.waiting.remove(&request) {
                    // Nobody waits any more if the caller went away.
                    let _ = reply.send(Ok(outcomes));
                }
            }
            Effect::Fail { request, refusal } => {
                self.parts.metrics.refused(refusal.reason());
                if let Some(reply) = self.waiting.remove(&request) {
                    let _ = reply.send(Err(refusal));
                }
            }
            Effect::Seal { generation, reason } => self.seal(generation, reason),
            Effect::StartFlush {
                generation,
                from,
                to,
            } => self.flush(slot, generation, (from, to), FlushJob::Upload),
            Effect::Commit {
                generation,
                from,
                to,
            } => self.flush(slot, generation, (from, to), FlushJob::Commit),
            Effect::Committed { generation, to } => {
                tracing::info!(stream = %self.slots[slot].id, generation = generation.0, to = to.0,
                    "a generation is committed");
            }
            Effect::DeleteSegment(generation) => {
                self.slots[slot].undeleted.push_back(generation);
                self.delete_segments(slot);
            }
            Effect::DropHeads(generation) => {
                self.parts.tails.remove(&self.slots[slot].id, generation);
            }
            Effect::SetReady(problems) => {
                for problem in &problems {
                    tracing::warn!(stream = %self.slots[slot].id, %problem, "not ready");
                }
                self.parts.health.set(slot, problems);
            }
            Effect::Finished { committed } => {
                let stream = &self.slots[slot];
                let _ = self.parts.flusher.send(FlushJob::Close {
                    stream: Arc::clone(&stream.id),
                    epoch: stream.core.epoch(),
                    at: committed,
                    done: None,
                });
            }
        }
    }

    fn open_segment(&mut self, generation: Generation, first_seq: Seq, carried: &[CarriedKey]) {
        let now = self.now();
        let stream = &self.slots[OPEN_SLOT].id;
        let mut stats = self.slots.iter().map(|slot| slot.core.stats());
        let reserve = if stats.any(|stats| stats.segments_awaiting_keys > 0) {
            Reserve::Use
        } else {
            Reserve::Keep
        };
        let created = OpenSegment::create(
            (&*self.parts.disk, reserve),
            (stream, generation),
            first_seq,
            carried,
            now,
            &self.parts.heads,
        );
        match created {
            Ok(segment) => {
                self.parts.tails.add(Arc::clone(&segment.generation));
                self.segment = Some(segment);
                self.handle(OPEN_SLOT, Input::SegmentOpened(generation));
                for slot in OPEN_SLOT + 1..self.slots.len() {
                    self.handle(slot, Input::KeysCarried);
                }
            }
            Err(error) => {
                // Said once: it is tried every second.
                if self.parts.health.refusing().is_none() {
                    tracing::warn!(generation = generation.0, %error, "cannot open a log segment");
                }
                self.handle(
                    OPEN_SLOT,
                    Input::SegmentFailed {
                        generation,
                        reason: error.to_string(),
                    },
                );
            }
        }
    }

    fn seal(&mut self, generation: Generation, reason: CutReason) {
        self.parts.metrics.cut(reason);
        let Some(segment) = self.segment.take() else {
            return;
        };
        debug_assert_eq!(segment.generation.number, generation);
        if matches!(reason, CutReason::LogFailure | CutReason::Fenced) {
            return segment.abandon();
        }
        if let Err(error) = segment.finish() {
            tracing::warn!(generation = generation.0, %error,
                "cannot mark a log segment as complete; its records are durable");
        }
    }

    fn flush(
        &self,
        slot: usize,
        generation: Generation,
        range: (Seq, Seq),
        job: impl FnOnce(crate::flush::Target) -> FlushJob,
    ) {
        let stream = &self.slots[slot];
        let Some(live) = self.parts.tails.get(&stream.id, generation) else {
            return;
        };
        let target = crate::flush::Target {
            slot,
            generation: live,
            epoch: stream.core.epoch(),
            range,
        };
        // The flusher ends only after this thread.
        let _ = self.parts.flusher.send(job(target));
    }

    /// Deletes the segments that are due, oldest first, as far as the disk lets it.
    fn delete_segments(&mut self, slot: usize) {
        let stream = &mut self.slots[slot];
        while let Some(&generation) = stream.undeleted.front() {
            let name = SegmentName {
                stream: (*stream.id).clone(),
                generation,
            }
            .to_string();
            if !self.parts.keep.contains(&name)
                && let Err(error) = self.parts.disk.delete(&name)
            {
                tracing::warn!(segment = name, %error,
                    "cannot delete a log segment; tried again with the next one and at the next start");
                return;
            }
            stream.undeleted.pop_front();
        }
    }
}
