//! Flushing: sealed generations go to the store and into the catalogue in order, one at a time;
//! then their segments are deleted and, after a grace period, their heads.

use std::time::Duration;

use scoria_model::Seq;

use super::{CommitOutcome, Effect, Generation, Now, StreamCore, StreamView};

/// A generation that takes no further record.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    number: Generation,
    from: Seq,
    to: Seq,
    /// From when on none of the retry keys in its segment matters.
    keys_expire_at: Duration,
    committed_at: Option<Duration>,
    segment: Presence,
    heads: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Kept,
    Gone,
}

/// The flush under way: of the first generation that is not committed.
#[derive(Debug, Clone)]
pub(super) struct Flush {
    number: Generation,
    from: Seq,
    to: Seq,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Uploading,
    /// The upload is tried again at this monotonic time.
    UploadPaused(Duration),
    Committing,
    CommitPaused(Duration),
}

impl Sealed {
    pub(super) fn new(
        number: Generation,
        (from, to): (Seq, Seq),
        keys_expire_at: Duration,
    ) -> Self {
        Self {
            number,
            from,
            to,
            keys_expire_at,
            committed_at: None,
            segment: Presence::Kept,
            heads: Presence::Kept,
        }
    }

    pub(super) fn is_committed(&self) -> bool {
        self.committed_at.is_some()
    }

    /// Whether only the retry keys in its segment keep that from being deleted.
    pub(super) fn awaits_keys(&self) -> bool {
        self.is_committed() && self.segment == Presence::Kept
    }
}

impl<P> StreamCore<P> {
    /// Starts what is due: the next flush, or another attempt at the present one.
    pub(super) fn advance_flush(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        // An adopter owns what is not committed yet.
        if self.fenced {
            self.flush = None;
            return;
        }
        if self.flush.is_none() {
            self.start_next_flush(now, effects);
        }
        let Some(flush) = &mut self.flush else { return };
        let (generation, from, to) = (flush.number, flush.from, flush.to);
        match flush.stage {
            Stage::UploadPaused(at) if now.monotonic >= at => {
                flush.stage = Stage::Uploading;
                effects.push(Effect::StartFlush {
                    generation,
                    from,
                    to,
                });
            }
            Stage::CommitPaused(at) if now.monotonic >= at => {
                flush.stage = Stage::Committing;
                effects.push(Effect::Commit {
                    generation,
                    from,
                    to,
                });
            }
            _ => {}
        }
    }

    /// Ends a pause between attempts.
    pub(super) fn hurry_flush(&mut self, now: Now) {
        if let Some(flush) = &mut self.flush {
            match &mut flush.stage {
                Stage::UploadPaused(at) | Stage::CommitPaused(at) => *at = now.monotonic,
                Stage::Uploading | Stage::Committing => {}
            }
        }
    }

    fn start_next_flush(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        for sealed in self.sealed.iter_mut().filter(|s| !s.is_committed()) {
            let (generation, from, to) = (sealed.number, sealed.from, sealed.to);
            if from == to {
                sealed.committed_at = Some(now.monotonic);
                effects.push(Effect::Committed { generation, to });
                continue;
            }
            self.flush = Some(Flush {
                number: generation,
                from,
                to,
                stage: Stage::Uploading,
            });
            effects.push(Effect::StartFlush {
                generation,
                from,
                to,
            });
            return;
        }
    }

    pub(super) fn uploaded(&mut self, generation: Generation, effects: &mut Vec<Effect<P>>) {
        let Some(flush) = self.flush_at(generation, Stage::Uploading) else {
            return;
        };
        flush.stage = Stage::Committing;
        effects.push(Effect::Commit {
            generation,
            from: flush.from,
            to: flush.to,
        });
    }

    pub(super) fn upload_failed(&mut self, generation: Generation, reason: String, now: Now) {
        if self.flush_at(generation, Stage::Uploading).is_some() {
            let at = self.flush_failed(reason, now);
            if let Some(flush) = &mut self.flush {
                flush.stage = Stage::UploadPaused(at);
            }
        }
    }

    pub(super) fn commit_ended(
        &mut self,
        generation: Generation,
        outcome: CommitOutcome,
        now: Now,
        effects: &mut Vec<Effect<P>>,
    ) {
        let Some(flush) = self.flush_at(generation, Stage::Committing) else {
            return;
        };
        let to = flush.to;
        let (view, reason) = match outcome {
            CommitOutcome::Landed => return self.landed(now, effects),
            CommitOutcome::Conflict(view) => (Some(view), "the commit's preconditions failed"),
            CommitOutcome::Unknown(view) => (Some(view), "the commit got no answer"),
            CommitOutcome::Failed(reason) => return self.commit_again(reason, now),
        };
        match view {
            Some(StreamView { epoch, .. }) if epoch != self.epoch => self.fenced = true,
            // An earlier attempt, whose answer was lost, is what landed.
            Some(StreamView { committed, .. }) if committed >= to => self.landed(now, effects),
            _ => self.commit_again(reason.to_owned(), now),
        }
    }

    fn commit_again(&mut self, reason: String, now: Now) {
        let at = self.flush_failed(reason, now);
        if let Some(flush) = &mut self.flush {
            flush.stage = Stage::CommitPaused(at);
        }
    }

    fn landed(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        let Some(flush) = self.flush.take() else {
            return;
        };
        self.flush_failures = (0, String::new());
        self.committed = flush.to;
        if let Some(sealed) = self.sealed.iter_mut().find(|s| s.number == flush.number) {
            sealed.committed_at = Some(now.monotonic);
        }
        effects.push(Effect::Committed {
            generation: flush.number,
            to: flush.to,
        });
    }

    fn flush_at(&mut self, generation: Generation, stage: Stage) -> Option<&mut Flush> {
        self.flush
            .as_mut()
            .filter(|f| f.number == generation && f.stage == stage)
    }

    /// Counts a failure; when to try again.
    fn flush_failed(&mut self, reason: String, now: Now) -> Duration {
        let (failures, shown) = &mut self.flush_failures;
        *failures = failures.saturating_add(1);
        *shown = reason;
        let doublings = (*failures - 1).min(16);
        let pause = self
            .settings
            .retry_pause
            .saturating_mul(1 << doublings)
            .min(self.settings.retry_pause_max);
        // Three to five quarters of the pause.
        let jitter = scatter(self.settings.jitter_seed ^ u64::from(*failures)) % 512;
        now.monotonic + pause.saturating_mul(768 + jitter as u32) / 1024
    }

    /// Deletes the segments of committed generations whose keys are safe elsewhere or worthless.
    pub(super) fn delete_segments(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        let carried = self.keys_carried;
        for sealed in &mut self.sealed {
            let keys_safe = carried || now.monotonic >= sealed.keys_expire_at;
            if sealed.awaits_keys() && keys_safe {
                sealed.segment = Presence::Gone;
                effects.push(Effect::DeleteSegment(sealed.number));
            }
        }
        self.forget_finished();
    }

    /// Drops the heads of generations that have been committed for at least `grace`.
    pub(super) fn drop_heads(&mut self, now: Now, grace: Duration, effects: &mut Vec<Effect<P>>) {
        for sealed in &mut self.sealed {
            let over = sealed
                .committed_at
                .is_some_and(|at| now.monotonic.saturating_sub(at) >= grace);
            if over && sealed.heads == Presence::Kept {
                sealed.heads = Presence::Gone;
                effects.push(Effect::DropHeads(sealed.number));
            }
        }
        self.forget_finished();
    }

    fn forget_finished(&mut self) {
        self.sealed
            .retain(|s| s.segment == Presence::Kept || s.heads == Presence::Kept);
    }
}

/// SplitMix64's finaliser.
const fn scatter(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
