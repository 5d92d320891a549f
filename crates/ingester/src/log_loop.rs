//! The log thread: drives the streams, writes the log, feeds the heads.
//!
//! It is one ordinary thread, because appending blocks: while a batch is written and synced,
//! events gather in the channel; they are handed to the stream before it hears how the batch
//! ended, so that the next batch takes them all.
//!
//! # Invariants
//! - Effects of a stream are carried out in their order; only an append waits until the channel is
//!   drained.
//! - The dictionaries of a segment live and die with it.

mod append;
mod effects;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use scoria_model::{ByteBudget, Clock, Permit, RetryKey, StreamId, TenantId};
use tokio::sync::{mpsc, oneshot};

use self::append::OpenSegment;
use crate::flush::FlushJob;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::segment::LogDisk;
use crate::stream::{
    CutReason, Effect, Generation, Input, NewRecord, Now, Outcome, Push, Refusal, RequestId,
    StreamCore,
};
use crate::tails::Tails;

/// The parts of a request, checked.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) tenant: TenantId,
    pub(crate) parts: Vec<Bytes>,
    /// Memory for what the heads will take, by a generous guess.
    pub(crate) permit: Permit,
}

/// The answer to a push.
pub(crate) type PushReply = Result<Vec<Outcome>, Refusal>;

/// What the log thread is told.
#[derive(Debug)]
pub(crate) enum Event {
    Push {
        keys: Vec<RetryKey>,
        bytes: u64,
        payload: Payload,
        reply: oneshot::Sender<PushReply>,
    },
    /// How a job of the flusher ended, for the stream of this slot.
    Flush(usize, Input<Payload>),
    /// Take nothing more, flush, and say so through the sender.
    Drain(oneshot::Sender<()>),
    /// Leave everything as it is and end.
    Stop,
}

/// The slot of the stream that takes records.
pub(crate) const OPEN_SLOT: usize = 0;

/// A stream with its identity.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    pub(crate) id: Arc<StreamId>,
    pub(crate) core: StreamCore<Payload>,
    /// Generations whose segments are to be deleted, oldest first. A later segment's `first_seq`
    /// says which records of an older one do not count, so that it must not go before it.
    pub(crate) undeleted: VecDeque<Generation>,
}

/// What the log thread works with.
#[derive(Debug)]
pub(crate) struct LogParts {
    pub(crate) disk: Arc<dyn LogDisk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tails: Arc<Tails>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Metrics,
    pub(crate) heads: ByteBudget,
    pub(crate) heads_cut_bytes: u64,
    /// The open generation is cut when flushing it would take this many bytes.
    pub(crate) flush_cut_bytes: u64,
    pub(crate) tick: Duration,
    pub(crate) flusher: mpsc::UnboundedSender<FlushJob>,
    /// Segments that are damaged and could not be copied into quarantine: never deleted.
    pub(crate) keep: Vec<String>,
}

/// The log thread's state.
#[derive(Debug)]
pub(crate) struct LogLoop {
    parts: LogParts,
    slots: Vec<StreamSlot>,
    segment: Option<OpenSegment>,
    append: Option<(Generation, Vec<NewRecord<Payload>>)>,
    /// Inputs that carrying out an effect has given: they come after the effects beside it.
    inputs: VecDeque<(usize, Input<Payload>)>,
    handling: bool,
    waiting: HashMap<RequestId, oneshot::Sender<PushReply>>,
    next_request: u64,
    draining: Option<oneshot::Sender<()>>,
    next_tick: Duration,
}

/// Whether the loop goes on.
#[derive(Debug, PartialEq, Eq)]
enum Course {
    On,
    Stop,
}

impl LogLoop {
    /// `first` are the effects with which each slot's stream began.
    pub(crate) fn new(
        parts: LogParts,
        slots: Vec<StreamSlot>,
        first: Vec<Vec<Effect<Payload>>>,
    ) -> Self {
        let mut this = Self {
            next_tick: parts.clock.monotonic() + parts.tick,
            parts,
            slots,
            segment: None,
            append: None,
            inputs: VecDeque::new(),
            handling: true,
            waiting: HashMap::new(),
            next_request: 1,
            draining: None,
        };
        for (slot, effects) in first.into_iter().enumerate() {
            this.carry_out(slot, effects);
        }
        this.handle_all();
        this
    }

    /// Runs until it is told to stop or nobody can tell it anything any more.
    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        loop {
            let course = if self.append.is_some() {
                self.run_batch(events)
            } else {
                self.wait(events)
            };
            if course == Course::Stop {
                return;
            }
            self.tick_if_due();
            self.say_when_drained();
        }
    }

    fn wait(&mut self, events: &Receiver<Event>) -> Course {
        let left = self.next_tick.saturating_sub(self.parts.clock.monotonic());
        // A clock that is held still must not make this spin or sleep for ever.
        match events.recv_timeout(left.clamp(Duration::from_millis(1), self.parts.tick)) {
            Ok(event) => match self.take(event) {
                Course::On => self.drain(events),
                Course::Stop => Course::Stop,
            },
            Err(RecvTimeoutError::Timeout) => Course::On,
            Err(RecvTimeoutError::Disconnected) => Course::Stop,
        }
    }

    /// Hands everything that has come to the streams.
    fn drain(&mut self, events: &Receiver<Event>) -> Course {
        while let Ok(event) = events.try_recv() {
            if self.take(event) == Course::Stop {
                return Course::Stop;
            }
        }
        Course::On
    }

    fn run_batch(&mut self, events: &Receiver<Event>) -> Course {
        let Some((generation, records)) = self.append.take() else {
            return Course::On;
        };
        let ended = self.write_batch(generation, records);
        let course = self.drain(events);
        self.handle(OPEN_SLOT, ended);
        self.watch_memory();
        course
    }

    fn take(&mut self, event: Event) -> Course {
        match event {
            Event::Push {
                keys,
                bytes,
                payload,
                reply,
            } => {
                let request = RequestId(self.next_request);
                self.next_request += 1;
                self.waiting.insert(request, reply);
                let push = Push {
                    request,
                    keys,
                    bytes,
                    payload,
                };
                self.handle(OPEN_SLOT, Input::Push(push));
            }
            Event::Flush(slot, input) => self.handle(slot, input),
            Event::Drain(done) => {
                self.draining = Some(done);
                self.handle(OPEN_SLOT, Input::Cut(CutReason::Shutdown));
            }
            Event::Stop => return Course::Stop,
        }
        Course::On
    }

    fn handle(&mut self, slot: usize, input: Input<Payload>) {
        self.inputs.push_back((slot, input));
        if !std::mem::replace(&mut self.handling, true) {
            self.handle_all();
        }
    }

    fn handle_all(&mut self) {
        while let Some((slot, input)) = self.inputs.pop_front() {
            let now = self.now();
            if let Some(stream) = self.slots.get_mut(slot) {
                let effects = stream.core.handle(now, input);
                self.carry_out(slot, effects);
            }
        }
        self.handling = false;
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.parts.clock.monotonic(),
            wall: self.parts.clock.now(),
        }
    }

    fn tick_if_due(&mut self) {
        let now = self.parts.clock.monotonic();
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + self.parts.tick;
        for slot in 0..self.slots.len() {
            self.handle(slot, Input::Tick);
        }
        if let Some(segment) = &mut self.segment {
            segment.account();
        }
        self.watch_memory();
        let uncommitted = self
            .slots
            .iter()
            .map(|s| s.core.stats().uncommitted_generations);
        let stats = self.slots[OPEN_SLOT].core.stats();
        let bytes = self.parts.tails.bytes();
        self.parts.metrics.show(stats, uncommitted.sum(), bytes);
    }

    /// Cuts when the open generation is large, and gives up what blocks hold when memory is short.
    fn watch_memory(&mut self) {
        let open = self.segment.as_ref().map_or(0, OpenSegment::heads_bytes);
        let to_flush = self.segment.as_ref().map_or(0, OpenSegment::flush_bytes);
        if open >= self.parts.heads_cut_bytes || to_flush >= self.parts.flush_cut_bytes {
            self.handle(OPEN_SLOT, Input::Cut(CutReason::Memory));
        }
        let heads = &self.parts.heads;
        if heads.used() >= heads.limit() - heads.limit() / 8 {
            for slot in 0..self.slots.len() {
                self.handle(slot, Input::MemoryShort);
            }
            // Where the flush cannot keep up, more and smaller generations would not help it.
            if open >= self.parts.heads_cut_bytes / 4 {
                self.handle(OPEN_SLOT, Input::Cut(CutReason::Memory));
            }
        }
    }

    fn say_when_drained(&mut self) {
        if self.draining.is_some() && self.slots[OPEN_SLOT].core.is_idle() {
            let slot = &self.slots[OPEN_SLOT];
            let stats = slot.core.stats();
            let done = self.draining.take();
            // The stream ends where it is committed: nobody needs to ask for its tail any more.
            let _ = self.parts.flusher.send(FlushJob::Close {
                stream: Arc::clone(&slot.id),
                epoch: slot.core.epoch(),
                at: stats.committed,
                done,
            });
        }
    }
}
