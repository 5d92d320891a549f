//! Virtual time and what happens in it: events in order, carried out one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use scoria_ingester::segment::LogDisk as _;
use scoria_model::CatalogueVersion;
use scoria_storage::testing::{FaultPlan, FaultRates, Seeded};

use super::blocks::BlockStyle;
use super::bucket::{Bucket, GetAnswer, PutAnswer, PutKind};
use super::check::{Broken, Checker, Tally, Violation};
use super::clients::{Clients, RequestState, TriesAgain};
use super::disk::{CrashKind, DiskFaults, Fullness};
use super::node::{Node, Process};
use super::schedule::{Disturbance, Schedule};
use super::{Figures, Mutation, Report, Trace, TraceMode};

/// How often a node's timers run.
const TICK: Duration = Duration::from_millis(500);
/// A client that waits longer for an answer sends again.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Once faults have ended, everything settles within this time.
const SETTLE_MAX: Duration = Duration::from_secs(400);

/// Every so many seeds write real blocks.
const PARQUET_EVERY: u64 = 100;

/// What is to happen.
#[derive(Debug)]
pub(super) enum Event {
    Send(usize),
    ClientTimeout {
        request: usize,
        attempt: u32,
    },
    Boot(usize),
    Tick(Life),
    BatchDone(Life),
    /// The delay before a request of a commit is over.
    CommitDelayOver(Life),
    /// A write arrives at the bucket; whoever waits is answered at the time given.
    Land(Landing),
    PutAnswered(Life, PutAnswer),
    /// A read looks into the bucket.
    Look {
        life: Life,
        key: String,
        failed: Failed,
    },
    Disturb(Disturbance),
    FaultsEnd,
}

/// One life of a node's process: what was meant for an earlier one is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) node: usize,
    pub(super) number: u64,
}

#[derive(Debug)]
pub(super) struct Landing {
    pub(super) key: String,
    pub(super) bytes: Bytes,
    pub(super) kind: PutKind,
    /// Who is told what the landing found, and when.
    pub(super) answer_to: Option<(Life, Duration)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    No,
    Yes,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub(super) now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    pub(super) seeded: Seeded,
    pub(super) mutation: Mutation,
    pub(super) block_style: BlockStyle,
    schedule: Schedule,
    pub(super) bucket: Bucket,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Clients,
    pub(super) checker: Checker,
    pub(super) trace: Trace,
    pub(super) figures: Figures,
    pub(super) violation: Option<Violation>,
}

impl World {
    pub fn new(seed: u64, mutation: Mutation, mode: TraceMode) -> Self {
        let mut seeded = Seeded::new(seed);
        let schedule = Schedule::of(&mut seeded.fork());
        let plan = FaultPlan::new(seeded.draw(), schedule.bucket_faults);
        let nodes = (0..schedule.n_nodes)
            .map(|index| Node::new(index, &mut seeded))
            .collect();
        let mut world = Self {
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            bucket: Bucket::new(seeded.fork(), plan),
            clients: Clients::new(seeded.fork()),
            seeded,
            mutation,
            block_style: if seed.is_multiple_of(PARQUET_EVERY) {
                BlockStyle::Parquet
            } else {
                BlockStyle::Listed
            },
            schedule,
            nodes,
            checker: Checker::default(),
            trace: Trace::new(mode),
            figures: Figures::default(),
            violation: None,
        };
        world.plan();
        world
    }

    /// Puts the schedule into the queue.
    fn plan(&mut self) {
        for node in 0..self.schedule.n_nodes {
            self.nodes[node].disk.set_faults(self.schedule.disk_faults);
            self.after(Duration::ZERO, Event::Boot(node));
        }
        let length = self.schedule.length;
        for _ in 0..self.schedule.n_requests {
            let node = self.seeded.below(self.schedule.n_nodes as u64) as usize;
            let request = self.clients.add_request(node);
            let at = Duration::from_micros(self.seeded.below(length.as_micros() as u64));
            self.at(at, Event::Send(request));
        }
        for (at, disturbance) in std::mem::take(&mut self.schedule.disturbances) {
            self.at(at, Event::Disturb(disturbance));
        }
        self.at(length, Event::FaultsEnd);
    }

    /// Runs to the end or to the first violation.
    pub fn run(&mut self) {
        let length = self.schedule.length;
        self.run_until(length, |_| false);
        self.settle(length + SETTLE_MAX);
        if self.violation.is_some() {
            return;
        }
        self.query();
        // Once more from what is on disks and in the bucket alone.
        for node in 0..self.nodes.len() {
            self.end_process(node, CrashKind::PowerLost);
        }
        self.settle(self.now + SETTLE_MAX);
        self.query();
        self.check_blocks_alone();
    }

    fn settle(&mut self, until: Duration) {
        self.run_until(until, Self::is_settled);
        if self.violation.is_none() && !self.is_settled() {
            let what = self.unsettled();
            self.broken(("Liveness", what));
        }
    }

    fn run_until(&mut self, until: Duration, done: impl Fn(&Self) -> bool) {
        while self.violation.is_none() && !done(self) {
            let Some((&(at, _), _)) = self.queue.first_key_value() else {
                return;
            };
            if at > until {
                return;
            }
            if let Some(((at, _), event)) = self.queue.pop_first() {
                self.now = at;
                self.figures.events += 1;
                self.happen(event);
            }
        }
    }

    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(super) fn broken(&mut self, (rule, what): Broken) {
        let at = self.now;
        self.trace.line(at, "CHECK", || format!("{rule}: {what}"));
        self.violation.get_or_insert(Violation { rule, what, at });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Send(request) => self.send(request),
            Event::ClientTimeout { request, attempt } => {
                let known = &self.clients.requests[request];
                if known.state == RequestState::Sent && known.attempts == attempt {
                    self.client_failed(request);
                }
            }
            Event::Boot(node) => self.boot(node),
            Event::Tick(life) => {
                if self.is_alive(life) {
                    self.tick(life);
                    self.after(TICK, Event::Tick(life));
                }
            }
            Event::BatchDone(life) => {
                if self.is_alive(life) {
                    self.write_batch(life);
                }
            }
            Event::CommitDelayOver(life) => {
                if self.is_alive(life) {
                    self.send_commit_request(life);
                }
            }
            Event::Land(landing) => self.land(landing),
            Event::PutAnswered(life, answer) => {
                if self.is_alive(life) {
                    self.put_answered(life, answer);
                }
            }
            Event::Look { life, key, failed } => {
                if self.is_alive(life) {
                    let answer = match (failed, self.bucket.object(&key)) {
                        (Failed::Yes, _) => GetAnswer::Failed,
                        (Failed::No, Some(bytes)) => GetAnswer::Found(bytes.clone()),
                        (Failed::No, None) => GetAnswer::Absent,
                    };
                    self.get_answered(life, answer);
                }
            }
            Event::Disturb(disturbance) => self.disturb(disturbance),
            Event::FaultsEnd => self.end_faults(),
        }
    }

    fn disturb(&mut self, disturbance: Disturbance) {
        self.trace
            .line(self.now, "WORLD", || format!("{disturbance:?}"));
        match disturbance {
            Disturbance::Crash(node, kind) => self.end_process(node, kind),
            Disturbance::CrashWithinAppend(node, at) => {
                self.nodes[node].disk.crash_within_append(at);
            }
            Disturbance::Disk(node, fullness) => self.nodes[node].disk.set_full(fullness),
            Disturbance::MemoryShort(node) => self.memory_short(node),
            Disturbance::ClockJump(node, seconds) => {
                self.nodes[node].wall_offset_ns += seconds * 1_000_000_000;
            }
            Disturbance::OutageBegins => self.bucket.plan.begin_outage(),
            Disturbance::OutageEnds => self.bucket.plan.end_outage(),
            Disturbance::Query => self.query(),
        }
    }

    fn end_faults(&mut self) {
        self.trace
            .line(self.now, "WORLD", || "all faults end".to_owned());
        self.bucket.plan.end_outage();
        self.bucket.plan.set_rates(FaultRates::default());
        for node in &self.nodes {
            node.disk.set_faults(DiskFaults::default());
            node.disk.set_full(Fullness::Roomy);
        }
    }

    fn land(&mut self, landing: Landing) {
        let Landing {
            key,
            bytes,
            kind,
            answer_to,
        } = landing;
        let answer = self.bucket.land(&key, bytes.clone(), kind);
        self.trace
            .line(self.now, "bucket", || format!("{key}: {answer:?}"));
        if answer == PutAnswer::Stored && key.starts_with(scoria_storage::keys::LOG) {
            self.figures.commits += 1;
            let landed = self.checker.entry_landed(&bytes, &self.bucket);
            landed.unwrap_or_else(|broken| self.broken(broken));
        }
        if let Some((life, at)) = answer_to {
            self.at(at, Event::PutAnswered(life, answer));
        }
    }

    fn send(&mut self, request: usize) {
        if self.clients.requests[request].state != RequestState::Waiting {
            return;
        }
        let parts = self.clients.send(request);
        let attempt = self.clients.requests[request].attempts;
        let node = self.clients.requests[request].node;
        self.after(CLIENT_TIMEOUT, Event::ClientTimeout { request, attempt });
        self.trace.line(self.now, format!("client{request}"), || {
            format!("sends {parts:?} to node {node}, attempt {attempt}")
        });
        self.receive(node, request, attempt, parts);
    }

    /// A node's answer to one attempt.
    pub(super) fn answer_client(&mut self, request: usize, attempt: u32) {
        let lost =
            self.seeded.chance(self.schedule.lost_answers) && self.now < self.schedule.length;
        let known = &mut self.clients.requests[request];
        if known.attempts != attempt || known.state != RequestState::Sent || lost {
            return;
        }
        known.state = RequestState::Acknowledged;
    }

    /// A client hears of a failure, or loses patience.
    pub(super) fn client_failed(&mut self, request: usize) {
        if self.clients.requests[request].state != RequestState::Sent {
            return;
        }
        if self.clients.tries_again(request) == TriesAgain::Yes {
            let wait = Duration::from_millis(50 + self.seeded.below(2000));
            self.after(wait, Event::Send(request));
        }
    }

    pub(super) fn is_alive(&self, life: Life) -> bool {
        let node = &self.nodes[life.node];
        node.life == life.number && node.process.is_some()
    }

    fn is_settled(&self) -> bool {
        self.now >= self.schedule.length
            && self.clients.are_settled()
            && self.nodes.iter().all(Node::is_settled)
    }

    fn unsettled(&self) -> String {
        let requests =
            self.clients.requests.iter().filter(|request| {
                matches!(request.state, RequestState::Waiting | RequestState::Sent)
            });
        let nodes: Vec<String> = self.nodes.iter().map(Node::unsettled).collect();
        format!("{} requests wait; {}", requests.count(), nodes.join("; "))
    }

    /// A query over everything, for the newest version and some older pins (D1-D3, Q1).
    pub(super) fn query(&mut self) {
        self.figures.queries += 1;
        let newest = self.checker.newest().version();
        let up = |nodes: &[Node], node: usize| nodes[node].is_serving();
        let now = match self.read_at(newest) {
            Ok(tally) => tally.unwrap_or_default(),
            Err(what) => return self.broken(("D4", what)),
        };
        let checked = now.check(&self.clients.parts, |node| up(&self.nodes, node));
        if let Err(broken) = checked {
            return self.broken(broken);
        }
        let now = now.of_nodes(&self.clients.parts, |node| up(&self.nodes, node));
        for back in 1..=4 {
            let Some(pin) = newest.0.checked_sub(back).map(CatalogueVersion) else {
                return;
            };
            // Where the tails that this pin needs are gone, the query pins anew.
            let Ok(Some(then)) = self.read_at(pin) else {
                continue;
            };
            let then = then.of_nodes(&self.clients.parts, |node| up(&self.nodes, node));
            if then != now {
                let what = format!(
                    "version {} gives {then:?}, {} gives {now:?}",
                    pin.0, newest.0
                );
                return self.broken(("Q1", what));
            }
        }
    }

    /// Every profile that a query pinned to this version counts; `None` when a node has dropped
    /// what the pin needs.
    fn read_at(&self, pin: CatalogueVersion) -> Result<Option<Tally>, String> {
        let Some(state) = self.checker.version(pin).map(Arc::clone) else {
            return Ok(None);
        };
        let mut tally = Tally::default();
        for meta in state.blocks() {
            tally.add(self.checker.block(meta.id));
        }
        let is_newest = pin == self.checker.newest().version();
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            if !process.add_tails(&state, &mut tally)? && !is_newest {
                return Ok(None);
            }
        }
        Ok(Some(tally))
    }

    /// After everything was restarted and has settled, blocks hold it all.
    fn check_blocks_alone(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let mut tally = Tally::default();
        for meta in self.checker.newest().blocks() {
            tally.add(self.checker.block(meta.id));
        }
        self.figures.blocks = self.checker.newest().blocks().len() as u64;
        if let Err(broken) = tally.check(&self.clients.parts, |_| true) {
            self.broken(broken);
        }
        for node in &self.nodes {
            let left = node.disk.list().map_or(0, |names| names.len());
            // The segment that takes records, and nothing else.
            if left > 1 {
                let what = format!("{left} segments are left on the disk of {}", node.index);
                return self.broken(("Liveness", what));
            }
        }
    }

    pub fn into_report(self) -> Report {
        Report {
            violation: self.violation,
            trace: self.trace,
            figures: self.figures,
        }
    }

    pub(super) fn process(&mut self, life: Life) -> Option<&mut Process> {
        let node = &mut self.nodes[life.node];
        node.process.as_mut().filter(|_| node.life == life.number)
    }
}
