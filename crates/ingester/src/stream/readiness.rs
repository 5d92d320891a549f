//! What stands between a stream and its work.

/// One thing that is wrong at present.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("writes fail: {reason}")]
    Log { reason: String },
    #[error("flushing failed {failures} times in a row: {reason}")]
    Flush { failures: u32, reason: String },
    #[error("the stream belongs to another ingester now")]
    Fenced,
}
