//! Why bytes are not a recording that can be read.
//!
//! # Invariants
//! - Every message about the bytes names the place in the recording, decompressed, at which it
//!   went wrong.
//!
//! # What it must not know
//! How a recording is read.

use scoria_model::budget::BudgetExceeded;

use crate::draft::DraftError;

/// Why a recording is refused. Places are bytes from the start of the decompressed recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JfrError {
    #[error(
        "it is not a JFR recording: at byte {at} there is no chunk, which would start with \"FLR\""
    )]
    Signature { at: usize },
    #[error(
        "the chunk at byte {at} of the JFR recording has version {major}.{minor}; versions 1.x (JDK 8 before 8u262) are not read, 2.x are"
    )]
    Version { at: usize, major: u16, minor: u16 },
    #[error(
        "the chunk at byte {at} of the JFR recording says that it is {size} bytes long, and {left} are left; the recording was cut or is still being written"
    )]
    ChunkSize { at: usize, size: u64, left: usize },
    #[error("the JFR recording is damaged at byte {at}: {problem}")]
    Damaged { at: usize, problem: &'static str },
    #[error("the JFR recording has more than {limit} {what} at byte {at}, which is not read")]
    TooMany {
        at: usize,
        what: &'static str,
        limit: usize,
    },
    #[error("the JFR recording is {actual} bytes long; more than {limit} cannot be read")]
    TooLong { actual: usize, limit: usize },
    #[error(
        "the JFR recording takes more work than recordings of its size do (stopped at byte {at})"
    )]
    Work { at: usize },
    #[error("the values of a stacktrace in the JFR recording overflow 64 bits")]
    Overflow,
    #[error("the labels of the JFR recording are not a LabelsSnapshot: {detail}")]
    Labels { detail: String },
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    Memory(#[from] BudgetExceeded),
    #[error(transparent)]
    Draft(#[from] DraftError),
}
