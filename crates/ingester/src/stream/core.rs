//! Accepting: queue, batch in flight, acknowledgement, and the cut from one generation to the next.

use std::collections::VecDeque;
use std::time::Duration;

use scoria_model::{Epoch, RetryKey, Seq, Timestamp};

use super::flush::{Flush, Sealed};
use super::keys::{KeyState, NO_KEY, RetryKeys};
use super::{
    CarriedKey, CutReason, Effect, Generation, Input, NewRecord, Now, Outcome, Problem, Push,
    Recovered, Refusal, RequestId, StreamSettings,
};

/// One stream. See the [module page](super).
#[derive(Debug)]
pub struct StreamCore<P> {
    pub(super) settings: StreamSettings,
    pub(super) epoch: Epoch,
    keys: RetryKeys,
    log: Log,
    /// The last failure, until a segment could be opened again.
    log_failure: Option<String>,
    next_generation: u64,
    /// The last durable record.
    durable: Seq,
    queue: Batch<P>,
    in_flight: Option<Batch<P>>,
    cut_wanted: Option<CutReason>,
    pub(super) open: Option<OpenGeneration>,
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) flush: Option<Flush>,
    pub(super) committed: Seq,
    /// Whether every key of sealed segments lies durable in a later one.
    pub(super) keys_carried: bool,
    pub(super) flush_failures: (u32, String),
    pub(super) fenced: bool,
    recovered: bool,
    finished: bool,
    shown: Vec<Problem>,
}

/// Whether records can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Log {
    Opening(Generation),
    Open,
    /// Closed by a failure; the next attempt is due at the given monotonic time.
    Broken {
        retry_at: Duration,
    },
    /// Closed for good.
    Stopped,
}

/// The generation that takes records.
#[derive(Debug, Clone)]
pub(super) struct OpenGeneration {
    pub(super) number: Generation,
    /// The last record before it.
    pub(super) from: Seq,
    first_record_at: Option<Duration>,
}

#[derive(Debug)]
struct Batch<P> {
    number: u64,
    bytes: u64,
    entries: Vec<Waiting<P>>,
}

/// A request that waits for its batch. Without fresh parts it has no record of its own and waits
/// for the first copies of its parts.
#[derive(Debug)]
struct Waiting<P> {
    request: RequestId,
    outcomes: Vec<Outcome>,
    fresh_keys: Vec<RetryKey>,
    fresh_parts: Vec<u32>,
    arrived: Now,
    /// Taken when the record is handed to the log.
    payload: Option<P>,
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    pub retry_keys: usize,
    pub retry_keys_forgotten_early: u64,
    pub queued_bytes: u64,
    /// Sealed generations whose records the catalogue does not hold yet.
    pub uncommitted_generations: usize,
    /// Segments that go as soon as their retry keys are durable elsewhere.
    pub segments_awaiting_keys: usize,
    pub durable: Seq,
    pub committed: Seq,
}

impl<P> Batch<P> {
    fn new(number: u64) -> Self {
        Self {
            number,
            bytes: 0,
            entries: Vec::new(),
        }
    }
}

/// What is known of a request's parts before it is taken.
struct Sorted {
    outcomes: Vec<Outcome>,
    fresh_keys: Vec<RetryKey>,
    fresh_parts: Vec<u32>,
    /// The latest batch that holds a first copy.
    waits_for: Option<u64>,
}

impl<P> StreamCore<P> {
    /// A new stream, and the opening of its first segment, which carries `keys` of earlier ones.
    pub fn open(
        settings: StreamSettings,
        epoch: Epoch,
        keys: &[CarriedKey],
        now: Now,
    ) -> (Self, Vec<Effect<P>>) {
        let mut core = Self::empty(settings, epoch, Seq(0));
        core.keys.restore(keys, now);
        let mut effects = Vec::new();
        core.open_next(now, &mut effects);
        core.show_problems(&mut effects);
        (core, effects)
    }

    /// A stream of an earlier process: takes no record, flushes what [`recover`](super::recover)
    /// found. `newest_key` is the newest arrival in any of its segments.
    pub fn recovered(
        settings: StreamSettings,
        epoch: Epoch,
        committed: Seq,
        generations: &[Recovered],
        newest_key: Timestamp,
        now: Now,
    ) -> (Self, Vec<Effect<P>>) {
        let mut core = Self::empty(settings, epoch, committed);
        core.log = Log::Stopped;
        core.recovered = true;
        core.keys_carried = false;
        let left = core
            .settings
            .retry_window
            .saturating_sub(super::keys::age(newest_key, now.wall));
        for generation in generations {
            core.durable = core.durable.max(generation.to);
            core.sealed.push_back(Sealed::new(
                generation.generation,
                (generation.from, generation.to),
                now.monotonic + left,
            ));
        }
        let mut effects = Vec::new();
        core.advance_flush(now, &mut effects);
        (core, effects)
    }

    fn empty(settings: StreamSettings, epoch: Epoch, committed: Seq) -> Self {
        Self {
            keys: RetryKeys::new(settings.retry_window, settings.retry_keys_max),
            settings,
            epoch,
            log: Log::Stopped,
            log_failure: None,
            next_generation: 1,
            durable: committed,
            queue: Batch::new(1),
            in_flight: None,
            cut_wanted: None,
            open: None,
            sealed: VecDeque::new(),
            flush: None,
            committed,
            keys_carried: false,
            flush_failures: (0, String::new()),
            fenced: false,
            recovered: false,
            finished: false,
            shown: Vec::new(),
        }
    }

    /// Takes one input; the effects are to be carried out in order.
    pub fn handle(&mut self, now: Now, input: Input<P>) -> Vec<Effect<P>> {
        let mut effects = Vec::new();
        self.keys.expire(now.monotonic);
        match input {
            Input::Push(push) => self.push(now, push, &mut effects),
            Input::SegmentOpened(generation) => self.segment_opened(generation, now, &mut effects),
            Input::SegmentFailed { generation, reason } => {
                if self.log == Log::Opening(generation) {
                    self.break_log(now, reason, &mut effects);
                }
            }
            Input::Appended {
                generation,
                log_bytes,
            } => self.appended(generation, log_bytes, now, &mut effects),
            Input::AppendFailed { generation, reason } => {
                if self.is_open(generation) {
                    self.seal(CutReason::LogFailure, now, &mut effects);
                    self.break_log(now, reason, &mut effects);
                }
            }
            Input::Cut(reason) => self.want_cut(reason),
            Input::MemoryShort => self.drop_heads(now, Duration::ZERO, &mut effects),
            Input::Uploaded(generation) => self.uploaded(generation, &mut effects),
            Input::UploadFailed { generation, reason } => {
                self.upload_failed(generation, reason, now);
            }
            Input::CommitEnded {
                generation,
                outcome,
            } => self.commit_ended(generation, outcome, now, &mut effects),
            Input::KeysCarried => self.keys_carried = true,
            Input::Tick => self.tick(now, &mut effects),
        }
        self.go_on(now, &mut effects);
        effects
    }

    pub fn stats(&self) -> StreamStats {
        StreamStats {
            retry_keys: self.keys.len(),
            retry_keys_forgotten_early: self.keys.forgotten_early(),
            queued_bytes: self.queue.bytes,
            uncommitted_generations: self.sealed.iter().filter(|s| !s.is_committed()).count(),
            segments_awaiting_keys: self.sealed.iter().filter(|s| s.awaits_keys()).count(),
            durable: self.durable,
            committed: self.committed,
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a stream that was asked to shut down has nothing left to write or to flush.
    pub fn is_idle(&self) -> bool {
        self.log == Log::Stopped
            && self.in_flight.is_none()
            && self.sealed.iter().all(Sealed::is_committed)
    }

    /// What every input may have made possible.
    fn go_on(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        if self.fenced {
            self.stop_fenced(now, effects);
        }
        if self.in_flight.is_none()
            && let Some(reason) = self.cut_wanted
        {
            self.cut(reason, now, effects);
        }
        self.start_batch(effects);
        self.advance_flush(now, effects);
        self.delete_segments(now, effects);
        if self.recovered && !self.finished && self.sealed.is_empty() {
            self.finished = true;
            effects.push(Effect::Finished {
                committed: self.committed,
            });
        }
        self.show_problems(effects);
    }

    fn push(&mut self, now: Now, push: Push<P>, effects: &mut Vec<Effect<P>>) {
        let sorted = self.sort_parts(&push.keys);
        let request = push.request;
        if sorted.fresh_parts.is_empty() && sorted.waits_for.is_none() {
            effects.push(Effect::Ack {
                request,
                outcomes: sorted.outcomes,
            });
            return;
        }
        if let Some(refusal) = self.refusal(push.bytes) {
            effects.push(Effect::Fail { request, refusal });
            return;
        }
        let has_record = !sorted.fresh_parts.is_empty();
        let waiting = Waiting {
            request,
            outcomes: sorted.outcomes,
            fresh_keys: sorted.fresh_keys,
            fresh_parts: sorted.fresh_parts,
            arrived: now,
            payload: has_record.then_some(push.payload),
        };
        match &mut self.in_flight {
            Some(batch) if !has_record && sorted.waits_for == Some(batch.number) => {
                batch.entries.push(waiting);
            }
            _ => {
                for &key in &waiting.fresh_keys {
                    self.keys.set_pending(key, self.queue.number);
                }
                self.queue.bytes += push.bytes;
                self.queue.entries.push(waiting);
            }
        }
    }

    fn sort_parts(&self, keys: &[RetryKey]) -> Sorted {
        let mut sorted = Sorted {
            outcomes: Vec::with_capacity(keys.len()),
            fresh_keys: Vec::new(),
            fresh_parts: Vec::new(),
            waits_for: None,
        };
        let mut in_request = hashbrown::HashSet::<_, foldhash::fast::RandomState>::default();
        for (place, &key) in (0u32..).zip(keys) {
            let known = self.keys.get(key);
            if let Some(KeyState::Pending(batch)) = known {
                sorted.waits_for = sorted.waits_for.max(Some(batch));
            }
            if known.is_some() || (key != NO_KEY && !in_request.insert(key)) {
                sorted.outcomes.push(Outcome::Duplicate);
                continue;
            }
            sorted.outcomes.push(Outcome::Stored);
            sorted.fresh_parts.push(place);
            if key != NO_KEY {
                sorted.fresh_keys.push(key);
            }
        }
        sorted
    }

    fn refusal(&self, wanted: u64) -> Option<Refusal> {
        if self.fenced {
            return Some(Refusal::Fenced);
        }
        if let Some(reason) = &self.log_failure {
            let reason = reason.clone();
            return Some(Refusal::LogUnavailable { reason });
        }
        if self.log == Log::Stopped || self.cut_wanted == Some(CutReason::Shutdown) {
            return Some(Refusal::Stopping);
        }
        let queued = self.queue.bytes;
        let limit = self.settings.queue_bytes_max;
        // A request larger than the whole queue may pass when it is alone.
        let full = queued > 0 && queued.saturating_add(wanted) > limit;
        full.then_some(Refusal::Overloaded {
            queued,
            wanted,
            limit,
        })
    }

    fn start_batch(&mut self, effects: &mut Vec<Effect<P>>) {
        if self.in_flight.is_some() || self.log != Log::Open || self.queue.entries.is_empty() {
            return;
        }
        let Some(open) = &self.open else { return };
        let next = Batch::new(self.queue.number + 1);
        let mut batch = std::mem::replace(&mut self.queue, next);
        let mut seq = self.durable;
        let records: Vec<NewRecord<P>> = batch
            .entries
            .iter_mut()
            .filter_map(|entry| {
                let payload = entry.payload.take()?;
                seq = seq.next();
                Some(NewRecord {
                    seq,
                    arrival: entry.arrived.wall,
                    parts: entry.fresh_parts.clone(),
                    keys: entry.fresh_keys.clone(),
                    payload,
                })
            })
            .collect();
        // Only resends whose first copies ended meanwhile: they need no record, but their place in
        // the order of batches is what makes their answer right.
        if records.is_empty() {
            acknowledge(batch, effects);
            return;
        }
        effects.push(Effect::Append {
            generation: open.number,
            records,
        });
        self.in_flight = Some(batch);
    }

    fn appended(
        &mut self,
        generation: Generation,
        log_bytes: u64,
        now: Now,
        effects: &mut Vec<Effect<P>>,
    ) {
        let Some(open) = self.open.as_mut().filter(|o| o.number == generation) else {
            return;
        };
        let Some(batch) = self.in_flight.take() else {
            return;
        };
        open.first_record_at.get_or_insert(now.monotonic);
        for entry in &batch.entries {
            if !entry.fresh_parts.is_empty() {
                self.durable = self.durable.next();
            }
            for &key in &entry.fresh_keys {
                self.keys.set_stored(key, entry.arrived.monotonic);
            }
        }
        if log_bytes >= self.settings.cut_log_bytes {
            self.want_cut(CutReason::LogBytes);
        }
        effects.push(Effect::ApplyToHead {
            generation,
            through: self.durable,
        });
        acknowledge(batch, effects);
    }

    fn segment_opened(&mut self, generation: Generation, now: Now, effects: &mut Vec<Effect<P>>) {
        if self.log != Log::Opening(generation) {
            return;
        }
        self.log = Log::Open;
        if self.log_failure.take().is_some() {
            // What hindered the log, a full disk say, may have hindered the flush as well.
            self.hurry_flush(now);
        }
        self.keys_carried = true;
        self.open = Some(OpenGeneration {
            number: generation,
            from: self.durable,
            first_record_at: None,
        });
        self.delete_segments(now, effects);
    }

    fn open_next(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        let generation = Generation(self.next_generation);
        self.next_generation += 1;
        self.log = Log::Opening(generation);
        effects.push(Effect::OpenSegment {
            generation,
            first_seq: self.durable.next(),
            carried: self.keys.carried(now),
        });
    }

    fn want_cut(&mut self, reason: CutReason) {
        if self.cut_wanted != Some(CutReason::Shutdown) {
            self.cut_wanted = Some(reason);
        }
    }

    fn cut(&mut self, reason: CutReason, now: Now, effects: &mut Vec<Effect<P>>) {
        let shutdown = reason == CutReason::Shutdown;
        match self.log {
            // What queued before the last cut still gets its record.
            Log::Open if shutdown && !self.queue.entries.is_empty() => return,
            Log::Opening(_) if shutdown => return,
            Log::Open => {
                let empty = self.open.as_ref().is_none_or(|o| o.from == self.durable);
                if shutdown || !empty {
                    self.seal(reason, now, effects);
                }
                if shutdown {
                    self.log = Log::Stopped;
                } else if !empty {
                    self.open_next(now, effects);
                }
            }
            Log::Broken { .. } if shutdown => self.log = Log::Stopped,
            Log::Opening(_) | Log::Broken { .. } | Log::Stopped => {}
        }
        self.cut_wanted = None;
    }

    fn seal(&mut self, reason: CutReason, now: Now, effects: &mut Vec<Effect<P>>) {
        let Some(open) = self.open.take() else { return };
        self.keys_carried = false;
        self.sealed.push_back(Sealed::new(
            open.number,
            (open.from, self.durable),
            now.monotonic + self.settings.retry_window,
        ));
        effects.push(Effect::Seal {
            generation: open.number,
            reason,
        });
    }

    fn break_log(&mut self, now: Now, reason: String, effects: &mut Vec<Effect<P>>) {
        self.fail_waiting(
            &Refusal::LogUnavailable {
                reason: reason.clone(),
            },
            effects,
        );
        self.log_failure = Some(reason);
        self.log = Log::Broken {
            retry_at: now.monotonic + self.settings.reopen_pause,
        };
    }

    fn fail_waiting(&mut self, refusal: &Refusal, effects: &mut Vec<Effect<P>>) {
        let next = Batch::new(self.queue.number + 1);
        let queue = std::mem::replace(&mut self.queue, next);
        for batch in self.in_flight.take().into_iter().chain([queue]) {
            for entry in batch.entries {
                entry.fresh_keys.iter().for_each(|&k| self.keys.forget(k));
                effects.push(Effect::Fail {
                    request: entry.request,
                    refusal: refusal.clone(),
                });
            }
        }
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        if let Log::Broken { retry_at } = self.log
            && now.monotonic >= retry_at
        {
            self.open_next(now, effects);
        }
        let old = self.open.as_ref().and_then(|o| o.first_record_at);
        if old.is_some_and(|at| now.monotonic.saturating_sub(at) >= self.settings.cut_age) {
            self.want_cut(CutReason::Age);
        }
        self.drop_heads(now, self.settings.grace, effects);
    }

    fn stop_fenced(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        if self.log != Log::Stopped {
            self.seal(CutReason::Fenced, now, effects);
            self.fail_waiting(&Refusal::Fenced, effects);
            self.log = Log::Stopped;
        }
    }

    fn is_open(&self, generation: Generation) -> bool {
        self.open.as_ref().is_some_and(|o| o.number == generation)
    }

    fn show_problems(&mut self, effects: &mut Vec<Effect<P>>) {
        let mut problems = Vec::new();
        if let Some(reason) = &self.log_failure {
            problems.push(Problem::Log {
                reason: reason.clone(),
            });
        }
        let (failures, reason) = &self.flush_failures;
        if *failures >= self.settings.flush_failures_red {
            problems.push(Problem::Flush {
                failures: *failures,
                reason: reason.clone(),
            });
        }
        if self.fenced {
            problems.push(Problem::Fenced);
        }
        if problems != self.shown {
            self.shown.clone_from(&problems);
            effects.push(Effect::SetReady(problems));
        }
    }
}

fn acknowledge<P>(batch: Batch<P>, effects: &mut Vec<Effect<P>>) {
    effects.extend(batch.entries.into_iter().map(|entry| Effect::Ack {
        request: entry.request,
        outcomes: entry.outcomes,
    }));
}
