//! The stream: which records exist, when a writer may be told yes, and what is flushed when.
//!
//! [`StreamCore`] is a state machine without IO. It takes an [`Input`] and the time and returns
//! [`Effect`]s; whoever drives it (the ingester's log thread, or a simulation) carries them out
//! and reports back.
//!
//! ```text
//!            push                 Appended                cut             Uploaded, Landed
//! request ---------> queue ---> batch in flight ---> open generation ---> sealed ---> committed
//!                      |             | AppendFailed: all of both fail,       |            |
//!                      v             v the generation is sealed              v            v
//!                    Fail          Fail, OpenSegment(next)              StartFlush   DeleteSegment,
//!                                                                       Commit       then DropHeads
//! ```
//! A *generation* is one log segment, the dictionaries that its records build up and the heads
//! made of them. Nothing crosses from one generation to the next but the retry keys.
//!
//! # Invariants
//! - A request is acknowledged after the batch that holds its record is durable, never before;
//!   a resend whose first copy is in flight shares that copy's outcome.
//! - At most one batch is in flight; while it is, requests queue, bounded in bytes; when it ends,
//!   the next batch takes all of them. No timer delays an acknowledgement.
//! - After a failed append the generation takes no further record, and the sequence numbers of the
//!   failed batch are given out again: the next segment's `first_seq` says from where on an older
//!   segment's records do not count.
//! - Generations are committed in order, their ranges disjoint and contiguous.
//! - A segment is deleted only when the catalogue holds its records **and** its retry keys either
//!   lie in a later durable segment or are older than the window.
//!
//! # What it must not know
//! Files, threads, the catalogue's form, and what a record looks like inside.

mod core;
mod flush;
mod keys;
mod readiness;
mod recover;
#[cfg(test)]
mod tests;

use std::time::Duration;

use scoria_model::{Epoch, RetryKey, Seq, Timestamp};

pub use self::core::{StreamCore, StreamStats};
pub use keys::{NO_KEY, RetryKeys};
pub use readiness::Problem;
pub use recover::{Recovered, SegmentSummary, recover};

/// Both clocks at the moment of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never runs backwards; everything that waits is measured with it.
    pub monotonic: Duration,
    /// Stands in records, so that the window of retry keys survives a restart.
    pub wall: Timestamp,
}

/// A request that waits for its answer; chosen by the driver, not reused while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// The number of a generation in its stream; the first has 1. Numbers are skipped, not reused,
/// when a segment cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// The settings of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSettings {
    /// For how long after its arrival a resend is recognised.
    pub retry_window: Duration,
    /// Most retry keys held; beyond it the oldest are forgotten early.
    pub retry_keys_max: usize,
    /// Most bytes of requests that wait for the log.
    pub queue_bytes_max: u64,
    /// A generation is cut when its first record is this old.
    pub cut_age: Duration,
    /// A generation is cut when its segment is this long.
    pub cut_log_bytes: u64,
    /// How long a committed generation stays readable: at least as long as the longest query.
    pub grace: Duration,
    /// Pause between attempts to open a segment while the log is broken.
    pub reopen_pause: Duration,
    /// First pause after a failed upload or commit; it doubles up to `retry_pause_max`.
    pub retry_pause: Duration,
    pub retry_pause_max: Duration,
    /// Failures in a row after which flushing counts as broken.
    pub flush_failures_red: u32,
    /// Spreads the pauses of different streams.
    pub jitter_seed: u64,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            retry_window: Duration::from_secs(600),
            retry_keys_max: 500_000,
            queue_bytes_max: 64 << 20,
            cut_age: Duration::from_secs(900),
            cut_log_bytes: 256 << 20,
            grace: Duration::from_secs(360),
            reopen_pause: Duration::from_secs(1),
            retry_pause: Duration::from_millis(500),
            retry_pause_max: Duration::from_secs(30),
            flush_failures_red: 3,
            jitter_seed: 0,
        }
    }
}

/// A request to store some parts in one atomic record.
#[derive(Debug, Clone)]
pub struct Push<P> {
    pub request: RequestId,
    /// One for each part; [`NO_KEY`] for a part that is never taken for a resend.
    pub keys: Vec<RetryKey>,
    /// What the request weighs while it waits.
    pub bytes: u64,
    pub payload: P,
}

/// What became of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    /// A part with the same key is durable already.
    Duplicate,
}

/// One record of a batch: the parts of one request that are not resends.
#[derive(Debug, Clone)]
pub struct NewRecord<P> {
    pub seq: Seq,
    /// When the request arrived.
    pub arrival: Timestamp,
    /// Places of the new parts within the request, rising; never empty.
    pub parts: Vec<u32>,
    /// The keys of those parts, without [`NO_KEY`].
    pub keys: Vec<RetryKey>,
    pub payload: P,
}

/// A retry key that outlives the segment in which its record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarriedKey {
    pub key: RetryKey,
    pub arrival: Timestamp,
}

/// Why a generation is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutReason {
    Age,
    LogBytes,
    Memory,
    /// The last cut: nothing is accepted afterwards.
    Shutdown,
    /// An append or fsync failed.
    LogFailure,
    /// The stream belongs to another ingester.
    Fenced,
}

/// What the catalogue says of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamView {
    pub epoch: Epoch,
    pub committed: Seq,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    Landed,
    /// The preconditions do not hold in what was read since.
    Conflict(StreamView),
    /// No answer; the view was read afterwards, and the commit may still land later.
    Unknown(StreamView),
    /// It did not land.
    Failed(String),
}

/// What happens to a stream.
#[derive(Debug, Clone)]
pub enum Input<P> {
    Push(Push<P>),
    /// The segment's header and carried keys are durable.
    SegmentOpened(Generation),
    SegmentFailed {
        generation: Generation,
        reason: String,
    },
    /// The batch in flight is durable; the segment is now `log_bytes` long.
    Appended {
        generation: Generation,
        log_bytes: u64,
    },
    /// Writing or syncing the batch in flight failed: nobody knows what of it is on the disk.
    AppendFailed {
        generation: Generation,
        reason: String,
    },
    Cut(CutReason),
    /// The heads' memory runs short: give up generations that only wait for their grace to end.
    MemoryShort,
    /// The blocks of the generation are in the store.
    Uploaded(Generation),
    UploadFailed {
        generation: Generation,
        reason: String,
    },
    CommitEnded {
        generation: Generation,
        outcome: CommitOutcome,
    },
    /// The keys of this (recovered) stream lie durable in another stream's segment.
    KeysCarried,
    Tick,
}

/// What the driver has to do. In order: an effect is carried out after those before it.
#[derive(Debug, Clone)]
pub enum Effect<P> {
    /// Create the segment, write header and keys, make both durable; answers
    /// [`Input::SegmentOpened`] or [`Input::SegmentFailed`].
    OpenSegment {
        generation: Generation,
        first_seq: Seq,
        carried: Vec<CarriedKey>,
    },
    /// Encode against the generation's dictionaries, write and sync; answers [`Input::Appended`]
    /// or [`Input::AppendFailed`].
    Append {
        generation: Generation,
        records: Vec<NewRecord<P>>,
    },
    /// The encoded records up to and including `through` become visible.
    ApplyToHead {
        generation: Generation,
        through: Seq,
    },
    Ack {
        request: RequestId,
        outcomes: Vec<Outcome>,
    },
    Fail {
        request: RequestId,
        refusal: Refusal,
    },
    /// No further record comes to this generation.
    Seal {
        generation: Generation,
        reason: CutReason,
    },
    /// Build and upload the blocks of `(from, to]`; answers [`Input::Uploaded`] or
    /// [`Input::UploadFailed`].
    StartFlush {
        generation: Generation,
        from: Seq,
        to: Seq,
    },
    /// Commit the uploaded blocks and the advance in one entry; answers [`Input::CommitEnded`].
    Commit {
        generation: Generation,
        from: Seq,
        to: Seq,
    },
    /// The catalogue holds everything of the generation; queries with an older pin still need it.
    Committed {
        generation: Generation,
        to: Seq,
    },
    DeleteSegment(Generation),
    /// Nobody may need the generation's heads any longer.
    DropHeads(Generation),
    /// What stands between the stream and its work; ready when empty. Sent when it changes.
    SetReady(Vec<Problem>),
    /// A recovered stream has nothing left to do.
    Finished {
        committed: Seq,
    },
}

/// Why a request was not stored. All are passing states: the writer should come again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the log's queue is full: {queued} bytes wait and {wanted} more would exceed {limit}; send again later"
    )]
    Overloaded {
        queued: u64,
        wanted: u64,
        limit: u64,
    },
    #[error("the log cannot be written: {reason}; send again later")]
    LogUnavailable { reason: String },
    #[error("the ingester is shutting down; send again to another one or later")]
    Stopping,
    #[error("the stream belongs to another ingester now; send again")]
    Fenced,
}
