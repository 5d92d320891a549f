//! A simulated ingester: drives its streams, its log and its heads as the role does.
//!
//! # Invariants
//! - Effects are carried out in their order; an append ends at an event of its own, so that
//!   pushes, ticks and crashes fall between.
//! - Whatever a process knew is gone when it ends; only its disk stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use scoria_ingester::head::Heads;
use scoria_ingester::record::RecordWriter;
use scoria_ingester::stream::{
    CarriedKey, CutReason, Effect, Generation, Input, NewRecord, Now, Push, RequestId, StreamCore,
    StreamSettings,
};
use scoria_model::{Epoch, Incarnation, NodeId, Seq, StreamId, Timestamp};
use scoria_storage::CatalogueState;
use scoria_storage::testing::Seeded;

use super::Mutation;
use super::blocks::Built;
use super::check::{Broken, Tally};
use super::disk::{CrashKind, SimDisk};
use super::flush::{Flusher, Job};
use super::log::OpenSegment;
use super::profiles::{PartId, stored_in};
use super::replay::{replay_stream, streams_on};
use super::schedule::stream_settings;
use super::world::{Event, Life, World};

/// The epoch of every stream: nobody takes one over here.
pub(super) const EPOCH: Epoch = Epoch(1);
/// When the wall clocks start.
const WALL_START_NS: i64 = 1_700_000_000_000_000_000;

/// A request's profiles as they wait for the log.
pub(super) type Payload = Vec<Bytes>;

/// A machine: its disk and, when it is up, its process.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) disk: SimDisk,
    pub(super) life: u64,
    pub(super) process: Option<Process>,
    pub(super) wall_offset_ns: i64,
    settings: StreamSettings,
    pub(super) seeded: Seeded,
}

/// What dies with the process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) slots: Vec<Slot>,
    /// The slot of the stream that takes records, once the catalogue knows it.
    pub(super) open: Option<usize>,
    /// Keys that the first segment will carry.
    carried: Vec<CarriedKey>,
    pub(super) segment: Option<OpenSegment>,
    pub(super) batch: Option<(Generation, Vec<NewRecord<Payload>>)>,
    waiting: BTreeMap<RequestId, Waiting>,
    next_request: u64,
    pub(super) flusher: Flusher,
    /// For the mistake of that name: the dictionaries of a segment that failed.
    pub(super) unlogged: Option<RecordWriter>,
}

#[derive(Debug)]
struct Waiting {
    request: usize,
    attempt: u32,
    parts: Vec<PartId>,
}

/// A stream of the process.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: StreamId,
    pub(super) core: StreamCore<Payload>,
    pub(super) generations: BTreeMap<Generation, LiveGeneration>,
    /// Records up to here are only in blocks.
    dropped_to: Seq,
    /// Segments to delete, oldest first: a later one says which records of an earlier one do not
    /// count, so it goes only after all before it are gone.
    pub(super) undeleted: BTreeSet<Generation>,
    finished: bool,
}

/// The heads of a generation.
#[derive(Debug)]
pub(super) struct LiveGeneration {
    pub(super) heads: Heads,
    pub(super) to: Seq,
    pub(super) built: Option<Built>,
}

impl Node {
    pub(super) fn new(index: usize, seeded: &mut Seeded) -> Self {
        Self {
            index,
            disk: SimDisk::new(seeded.fork()),
            life: 0,
            process: None,
            wall_offset_ns: 0,
            settings: stream_settings(&mut seeded.fork()),
            seeded: seeded.fork(),
        }
    }

    fn name(&self) -> NodeId {
        NodeId(Arc::from(format!("node-{}", self.index)))
    }

    /// Whether the process answers queries.
    pub(super) fn is_serving(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.open.is_some())
    }

    pub(super) fn is_settled(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            process.open.is_some()
                && process.flusher.is_idle()
                && process.batch.is_none()
                && process.slots.iter().enumerate().all(|(at, slot)| {
                    let open = process.open == Some(at);
                    open || slot.finished
                })
                && process.slots.iter().all(|slot| {
                    let stats = slot.core.stats();
                    stats.uncommitted_generations == 0 && stats.queued_bytes == 0
                })
        })
    }

    /// What is left to do, for a message.
    pub(super) fn unsettled(&self) -> String {
        let Some(process) = &self.process else {
            return format!("node {} is down", self.index);
        };
        let mut text = format!("node {}: {}", self.index, process.flusher.describe());
        for (at, slot) in process.slots.iter().enumerate() {
            let stats = slot.core.stats();
            let _ = write!(
                text,
                ", slot {at} ({}) finished={} committed {} of {}, {} generations",
                slot.id,
                slot.finished,
                stats.committed.0,
                stats.durable.0,
                stats.uncommitted_generations
            );
        }
        text
    }
}

impl Slot {
    pub(super) fn new(id: StreamId, core: StreamCore<Payload>, committed: Seq) -> Self {
        Self {
            id,
            core,
            generations: BTreeMap::new(),
            dropped_to: committed,
            undeleted: BTreeSet::new(),
            finished: false,
        }
    }
}

impl Process {
    /// Adds what is not in the blocks of `pin`; false if some of it was dropped.
    pub(super) fn add_tails(
        &self,
        pin: &CatalogueState,
        tally: &mut Tally,
    ) -> Result<bool, String> {
        // A process that is starting is not asked.
        let mut complete = self.open.is_some();
        for slot in &self.slots {
            // A stream that the pin does not know makes a query pin anew.
            complete &= pin.stream(&slot.id).is_some();
            let committed = pin.stream(&slot.id).map_or(Seq(0), |s| s.committed);
            complete &= committed >= slot.dropped_to;
            for generation in slot.generations.values() {
                if generation.to > committed {
                    tally.add(&stored_in(&generation.heads, (committed, generation.to))?);
                }
            }
        }
        // A stream that was open then and is not held any more has ended since.
        let held = |id: &StreamId| self.slots.iter().any(|slot| slot.id == *id);
        let of_node = |id: &StreamId| self.slots.iter().any(|slot| slot.id.node == id.node);
        complete &= pin.open_streams().all(|(id, _)| held(id) || !of_node(id));
        Ok(complete)
    }
}

impl World {
    pub(super) fn node_now(&self, node: usize) -> Now {
        let wall = WALL_START_NS + self.now.as_nanos() as i64 + self.nodes[node].wall_offset_ns;
        Now {
            monotonic: self.now,
            wall: Timestamp(wall),
        }
    }

    /// The process ends; its clients see their connections break.
    pub(super) fn end_process(&mut self, node: usize, kind: CrashKind) {
        let Some(process) = self.nodes[node].process.take() else {
            return;
        };
        self.figures.crashes += 1;
        self.trace.line(self.now, format!("node{node}"), || {
            format!("ends: {kind:?}")
        });
        self.nodes[node].disk.crash(kind);
        for waiting in process.waiting.into_values() {
            self.client_failed(waiting.request);
        }
        let wait = Duration::from_millis(100 + self.nodes[node].seeded.below(4000));
        self.after(wait, Event::Boot(node));
    }

    /// The process has ended within a call to its disk.
    pub(super) fn end_within_call(&mut self, life: Life) {
        let kind = if self.nodes[life.node].seeded.chance(500) {
            CrashKind::Killed
        } else {
            CrashKind::PowerLost
        };
        self.end_process(life.node, kind);
    }

    /// Starts a process: it opens a stream of its own in the catalogue before it reads its log.
    pub(super) fn boot(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        self.nodes[node].life += 1;
        let life = Life {
            node,
            number: self.nodes[node].life,
        };
        let view = Arc::clone(self.checker.newest());
        let version = view.version().0;
        self.trace.line(self.now, format!("node{node}"), || {
            format!("starts life {} at version {version}", life.number)
        });
        let own = StreamId {
            node: self.nodes[node].name(),
            incarnation: Incarnation(life.number),
            n: 0,
        };
        self.nodes[node].process = Some(Process {
            slots: Vec::new(),
            open: None,
            carried: Vec::new(),
            segment: None,
            batch: None,
            waiting: BTreeMap::new(),
            next_request: 1,
            flusher: Flusher::new(view, self.now),
            unlogged: None,
        });
        self.add_job(life, Job::OpenStream(own));
        self.after(Duration::from_millis(100), Event::Tick(life));
    }

    /// The catalogue knows the process's own stream. From here on no commit of an earlier life can
    /// land any more, since its number is taken; so what is committed now stays so until this
    /// process commits, and the log can be read against it.
    pub(super) fn stream_opened(&mut self, life: Life, own: StreamId) {
        let now = self.node_now(life.node);
        let settings = self.nodes[life.node].settings.clone();
        let Some(view) = self.view(life) else {
            return;
        };
        let mut first = Vec::new();
        for (id, committed) in self.earlier_streams(life.node, &own, &view) {
            match self.recover_stream(life, id, committed) {
                Ok(effects) => first.push(effects),
                Err(broken) => return self.broken(broken),
            }
        }
        let Some(process) = self.process(life) else {
            return;
        };
        let carried = std::mem::take(&mut process.carried);
        let (core, effects) = StreamCore::open(settings, EPOCH, &carried, now);
        process.open = Some(process.slots.len());
        process.slots.push(Slot::new(own, core, Seq(0)));
        first.push(effects);
        for (slot, effects) in first.into_iter().enumerate() {
            self.carry_out(life, slot, effects);
        }
    }

    /// What the catalogue knows as unfinished, and whatever else lies on the disk, with how far it
    /// is committed.
    fn earlier_streams(
        &self,
        node: usize,
        own: &StreamId,
        view: &CatalogueState,
    ) -> Vec<(StreamId, Seq)> {
        let mut earlier: BTreeSet<StreamId> = streams_on(&self.nodes[node].disk);
        let of_node = |id: &StreamId| id.node == own.node && id != own;
        let unfinished = view.open_streams().filter(|(id, _)| of_node(id));
        earlier.extend(unfinished.map(|(id, _)| id.clone()));
        let committed = |id: &StreamId| view.stream(id).map_or(Seq(0), |state| state.committed);
        earlier
            .into_iter()
            .map(|id| (id.clone(), committed(&id)))
            .collect()
    }

    /// Takes up a stream of an earlier life; what it begins with.
    fn recover_stream(
        &mut self,
        life: Life,
        id: StreamId,
        committed: Seq,
    ) -> Result<Vec<Effect<Payload>>, Broken> {
        let now = self.node_now(life.node);
        let node = &self.nodes[life.node];
        let replayed = replay_stream(&node.disk, &id, committed, self.mutation)?;
        self.figures.torn_tails += replayed.torn_tails;
        let ranges: Vec<_> = replayed
            .generations
            .iter()
            .map(|(range, _)| *range)
            .collect();
        let (core, effects) = StreamCore::recovered(
            node.settings.clone(),
            EPOCH,
            committed,
            &ranges,
            replayed.newest,
            now,
        );
        let mut slot = Slot::new(id, core, committed);
        for (range, heads) in replayed.generations {
            let live = LiveGeneration {
                heads,
                to: range.to,
                built: None,
            };
            slot.generations.insert(range.generation, live);
        }
        if let Some(process) = self.process(life) {
            process.carried.extend(replayed.keys);
            process.slots.push(slot);
        }
        Ok(effects)
    }

    /// A request arrives.
    pub(super) fn receive(
        &mut self,
        node: usize,
        request: usize,
        attempt: u32,
        parts: Vec<PartId>,
    ) {
        let life = Life {
            node,
            number: self.nodes[node].life,
        };
        let Some((slot, process)) = self
            .process(life)
            .and_then(|process| Some((process.open?, process)))
        else {
            self.figures.refused += 1;
            return self.client_failed(request);
        };
        let id = RequestId(process.next_request);
        process.next_request += 1;
        let payload: Payload = parts.iter().map(|part| part.encode()).collect();
        let push = Push {
            request: id,
            keys: parts.iter().map(|part| part.key()).collect(),
            bytes: payload.iter().map(|part| part.len() as u64).sum(),
            payload,
        };
        let waiting = Waiting {
            request,
            attempt,
            parts,
        };
        process.waiting.insert(id, waiting);
        self.input(life, slot, Input::Push(push));
    }

    pub(super) fn tick(&mut self, life: Life) {
        let slots = self.process(life).map_or(0, |process| process.slots.len());
        for slot in 0..slots {
            self.input(life, slot, Input::Tick);
        }
    }

    pub(super) fn memory_short(&mut self, node: usize) {
        let life = Life {
            node,
            number: self.nodes[node].life,
        };
        let slots = self.process(life).map_or(0, |process| process.slots.len());
        for slot in 0..slots {
            self.input(life, slot, Input::MemoryShort);
            self.input(life, slot, Input::Cut(CutReason::Memory));
        }
    }

    /// Tells a stream something and carries out what it says.
    pub(super) fn input(&mut self, life: Life, slot: usize, input: Input<Payload>) {
        let now = self.node_now(life.node);
        let Some(stream) = self.process(life).and_then(|p| p.slots.get_mut(slot)) else {
            return;
        };
        let effects = stream.core.handle(now, input);
        self.carry_out(life, slot, effects);
    }

    pub(super) fn carry_out(&mut self, life: Life, slot: usize, effects: Vec<Effect<Payload>>) {
        for effect in effects {
            if self.violation.is_some() || !self.is_alive(life) {
                return;
            }
            self.trace.line(self.now, format!("node{}", life.node), || {
                format!("slot {slot}: {}", describe(&effect))
            });
            self.carry_out_one(life, slot, effect);
        }
    }

    fn carry_out_one(&mut self, life: Life, slot: usize, effect: Effect<Payload>) {
        match effect {
            Effect::OpenSegment {
                generation,
                first_seq,
                carried,
            } => self.open_segment(life, (slot, generation), first_seq, carried),
            Effect::Append {
                generation,
                records,
            } => self.append(life, slot, generation, records),
            Effect::ApplyToHead {
                generation,
                through,
            } => self.apply_to_head(life, slot, generation, through),
            Effect::Ack { request, outcomes } => {
                let duplicates = outcomes
                    .iter()
                    .filter(|o| **o == scoria_ingester::stream::Outcome::Duplicate);
                self.figures.duplicates += duplicates.count() as u64;
                self.answer(life, request, Answer::Stored);
            }
            Effect::Fail { request, .. } => self.answer(life, request, Answer::Refused),
            Effect::Seal { generation, reason } => self.seal(life, generation, reason),
            Effect::StartFlush {
                generation,
                from,
                to,
            } => {
                if self.mutation == Mutation::TruncateBeforeCommit {
                    self.delete_segment(life, slot, generation);
                }
                self.add_job(life, Job::Upload((slot, generation), (from, to)));
            }
            Effect::Commit {
                generation,
                from,
                to,
            } => self.add_job(life, Job::Commit((slot, generation), (from, to))),
            Effect::DeleteSegment(generation) => self.delete_segment(life, slot, generation),
            Effect::DropHeads(generation) => {
                if let Some(stream) = self.process(life).and_then(|p| p.slots.get_mut(slot))
                    && let Some(dropped) = stream.generations.remove(&generation)
                {
                    stream.dropped_to = stream.dropped_to.max(dropped.to);
                }
            }
            Effect::Finished { committed } => self.add_job(life, Job::Close(slot, committed)),
            Effect::Committed { .. } | Effect::SetReady(_) => {}
        }
    }

    /// The stream's end stands in the catalogue.
    pub(super) fn stream_finished(&mut self, life: Life, slot: usize) {
        if let Some(stream) = self.process(life).and_then(|p| p.slots.get_mut(slot)) {
            stream.finished = true;
        }
    }

    fn answer(&mut self, life: Life, request: RequestId, answer: Answer) {
        let Some(waiting) = self.process(life).and_then(|p| p.waiting.remove(&request)) else {
            return;
        };
        match answer {
            Answer::Stored => {
                self.figures.acknowledged += 1;
                self.clients.stored(&waiting.parts);
                self.answer_client(waiting.request, waiting.attempt);
            }
            Answer::Refused => {
                self.figures.refused += 1;
                self.client_failed(waiting.request);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Stored,
    Refused,
}

/// An effect without its payloads.
fn describe(effect: &Effect<Payload>) -> String {
    match effect {
        Effect::Append {
            generation,
            records,
        } => {
            let seqs: Vec<u64> = records.iter().map(|new| new.seq.0).collect();
            format!("Append to generation {}: {seqs:?}", generation.0)
        }
        Effect::OpenSegment {
            generation,
            first_seq,
            carried,
        } => format!(
            "OpenSegment {} from {}, carries {} keys",
            generation.0,
            first_seq.0,
            carried.len()
        ),
        other => format!("{other:?}"),
    }
}
