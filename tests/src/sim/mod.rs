//! The seeded simulation: ingesters, their disks, an object store and clients in virtual time.
//!
//! ```text
//! clients ── pushes, resends ──> nodes: StreamCore, RecordWriter, SegmentWriter, Heads, Committer
//!                                  |  disk: torn tails, failed writes and syncs, full, power lost
//!                                  |  bucket: lost replies, 409, 412, 5xx, timeouts, late landings
//! checker <── every landed entry, every query ──
//! ```
//! The nodes drive the state machines that the roles compile; only what carries out their effects
//! is the simulation's. Everything follows from the seed: [`run`] with one seed gives one trace.
//!
//! # Invariants that are checked
//! - **D1** an acknowledged profile is in what a query sees, **D2** once; **D3** an unacknowledged
//!   one at most once; **D4** with its own functions and values.
//! - **C1** the log folds without gaps, and every node's view is that fold; **C2** the blocks that
//!   an entry adds are there and intact; **C4** no nonce stands in the log twice, and a commit that
//!   a node counts as done stands where it believes. **S1**, **S2** and **C3** are errors of the
//!   fold.
//! - **Q1** whatever version a query pins, if it is answered the profiles are the same.
//! - Once faults end, everything settles: no request hangs, no generation stays uncommitted.
//!
//! # What it must not know
//! Real time, threads and files.

pub mod blocks;
pub mod bucket;
pub mod check;
pub mod clients;
pub mod disk;
mod flush;
mod log;
pub mod mutation;
mod node;
pub mod profiles;
mod replay;
pub mod schedule;
pub mod trace;
pub mod world;

pub use check::Violation;
pub use mutation::Mutation;
pub use trace::{Trace, TraceMode};
pub use world::World;

/// How one seed ended.
#[derive(Debug)]
pub struct Report {
    pub violation: Option<Violation>,
    pub trace: Trace,
    pub figures: Figures,
}

/// What happened in a run, to see that the schedules reach what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub events: u64,
    pub acknowledged: u64,
    pub duplicates: u64,
    pub refused: u64,
    pub crashes: u64,
    pub failed_appends: u64,
    pub torn_tails: u64,
    pub commits: u64,
    pub lost_races: u64,
    pub unclear_puts: u64,
    pub queries: u64,
    pub blocks: u64,
}

impl Figures {
    /// Adds up several runs.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.failed_appends += other.failed_appends;
        self.torn_tails += other.torn_tails;
        self.commits += other.commits;
        self.lost_races += other.lost_races;
        self.unclear_puts += other.unclear_puts;
        self.queries += other.queries;
        self.blocks += other.blocks;
    }
}

/// Runs the schedule of one seed to its end or to the first violation.
pub fn run(seed: u64, mutation: Mutation, mode: TraceMode) -> Report {
    let mut world = World::new(seed, mutation, mode);
    world.run();
    world.into_report()
}
