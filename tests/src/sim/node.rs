//! A simulated ingester: drives its streams, its log and its heads as the role does.
//!
//! # Invariants
//! - Effects are carried out in their order; an append ends at an event of its own, so that
//!   pushes, ticks and crashes fall between.
//! - Whatever a process knew is gone when it ends; only its disk stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use scoria_ingester::head::Heads;
use scoria_ingester::record::{self, RecordWriter};
use scoria_ingester::segment::{LogDisk, SegmentHeader, SegmentName, SegmentWriter};
use scoria_ingester::stream::{
    CarriedKey, CutReason, Effect, Generation, Input, NewRecord, Now, Push, RequestId, StreamCore,
    StreamSettings,
};
use scoria_model::part::PartView;
use scoria_model::{Epoch, Incarnation, NodeId, Seq, StreamId, Timestamp};
use scoria_storage::CatalogueState;
use scoria_storage::testing::Seeded;

use super::Mutation;
use super::check::Tally;
use super::disk::{CrashKind, SimDisk};
use super::flush::{Built, Flusher, Job};
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
    seeded: Seeded,
}

/// What dies with the process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) slots: Vec<Slot>,
    /// The slot of the stream that takes records, once the catalogue knows it.
    pub(super) open: Option<usize>,
    /// Keys that the first segment will carry.
    carried: Vec<CarriedKey>,
    segment: Option<OpenSegment>,
    batch: Option<(Generation, Vec<NewRecord<Payload>>)>,
    waiting: BTreeMap<RequestId, Waiting>,
    next_request: u64,
    pub(super) flusher: Flusher,
    /// For the mistake of that name: the dictionaries of a segment that failed.
    unlogged: Option<RecordWriter>,
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
    undeleted: BTreeSet<Generation>,
    finished: bool,
}

/// The heads of a generation.
#[derive(Debug)]
pub(super) struct LiveGeneration {
    pub(super) heads: Heads,
    pub(super) to: Seq,
    pub(super) built: Option<Built>,
}

#[derive(Debug)]
struct OpenSegment {
    slot: usize,
    generation: Generation,
    writer: SegmentWriter,
    records: RecordWriter,
    encoded: VecDeque<(Seq, record::Push)>,
    /// For the mistake of that name: batches that count as durable and are not written yet.
    owed: VecDeque<(Seq, Vec<Vec<u8>>)>,
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
    fn node_now(&self, node: usize) -> Now {
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

    /// Starts a process: reads the catalogue and the log, serves and flushes what it finds, and
    /// opens a stream of its own.
    pub(super) fn boot(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        self.nodes[node].life += 1;
        let life = Life {
            node,
            number: self.nodes[node].life,
        };
        let name = self.nodes[node].name();
        let view = Arc::clone(self.checker.newest());
        self.trace.line(self.now, format!("node{node}"), || {
            format!(
                "starts life {} at version {}",
                life.number,
                view.version().0
            )
        });
        // What the catalogue knows as unfinished, and whatever else lies on the disk.
        let mut earlier: BTreeSet<StreamId> = streams_on(&self.nodes[node].disk);
        let unfinished = view.open_streams().filter(|(id, _)| id.node == name);
        earlier.extend(unfinished.map(|(id, _)| id.clone()));
        let committed = |id: &StreamId| view.stream(id).map_or(Seq(0), |state| state.committed);
        let earlier: Vec<(StreamId, Seq)> = earlier
            .into_iter()
            .map(|id| (id.clone(), committed(&id)))
            .collect();
        let own = StreamId {
            node: name,
            incarnation: Incarnation(life.number),
            n: 0,
        };
        let mut process = Process {
            slots: Vec::new(),
            open: None,
            carried: Vec::new(),
            segment: None,
            batch: None,
            waiting: BTreeMap::new(),
            next_request: 1,
            flusher: Flusher::new(Arc::clone(&view), self.now),
            unlogged: None,
        };
        let mut first = Vec::new();
        for (id, committed) in earlier {
            let now = self.node_now(node);
            let disk = &self.nodes[node].disk;
            let replayed = match replay_stream(disk, &id, committed, self.mutation) {
                Ok(replayed) => replayed,
                Err(broken) => return self.broken(broken),
            };
            self.figures.torn_tails += replayed.torn_tails;
            process.carried.extend(replayed.keys);
            let ranges: Vec<_> = replayed
                .generations
                .iter()
                .map(|(range, _)| *range)
                .collect();
            let (core, effects) = StreamCore::recovered(
                self.nodes[node].settings.clone(),
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
            first.push((process.slots.len(), effects));
            process.slots.push(slot);
        }
        self.nodes[node].process = Some(process);
        self.add_job(life, Job::OpenStream(own));
        for (slot, effects) in first {
            self.carry_out(life, slot, effects);
        }
        self.after(Duration::from_millis(100), Event::Tick(life));
    }

    /// The catalogue knows the process's own stream.
    pub(super) fn stream_opened(&mut self, life: Life, id: StreamId) {
        let now = self.node_now(life.node);
        let settings = self.nodes[life.node].settings.clone();
        let Some(process) = self.process(life) else {
            return;
        };
        let carried = std::mem::take(&mut process.carried);
        let (core, effects) = StreamCore::open(settings, EPOCH, &carried, now);
        let slot = process.slots.len();
        process.slots.push(Slot::new(id, core, Seq(0)));
        process.open = Some(slot);
        self.carry_out(life, slot, effects);
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

    fn open_segment(
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
            return self.end_process(life.node, CrashKind::PowerLost);
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

    fn append(
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
                self.end_process(life.node, CrashKind::PowerLost);
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
            return self.end_process(life.node, CrashKind::PowerLost);
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

    fn apply_to_head(&mut self, life: Life, slot: usize, generation: Generation, through: Seq) {
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

    fn seal(&mut self, life: Life, generation: Generation, reason: CutReason) {
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
            self.end_process(life.node, CrashKind::PowerLost);
        }
    }

    fn delete_segment(&mut self, life: Life, slot: usize, generation: Generation) {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Stored,
    Refused,
}

impl OpenSegment {
    fn encode(&mut self, records: &[NewRecord<Payload>]) -> (Seq, Vec<Vec<u8>>) {
        let mut bytes = Vec::with_capacity(records.len());
        for new in records {
            let parts: Vec<PartView<'_>> = new
                .parts
                .iter()
                .filter_map(|&place| PartView::parse(&new.payload[place as usize]).ok())
                .collect();
            let tenant = PartId(0).tenant();
            let encoded = self.records.encode(new.arrival, &tenant, &parts);
            bytes.push(encoded.bytes);
            self.encoded.push_back((new.seq, encoded.push));
        }
        (records.first().map_or(Seq(1), |new| new.seq), bytes)
    }
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
