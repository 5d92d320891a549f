//! The ingester: makes profiles durable, serves the recent ones, and flushes them to blocks.
//!
//! ```text
//! Push --> stream (decides) --> segment (log file, fsync) --> head (visible) --> answer
//!             |                                                  |
//!             +-- cut: by age, memory, log size, shutdown        +--> Select
//!             v
//!          flush: heads -> blocks -> store -> catalogue commit -> segment deleted
//! ```
//!
//! # Invariants
//! - Nothing is acknowledged before its record is durable; see [`stream`].
//! - A segment that failed once is never written again, and a damaged one is never skipped
//!   silently; see [`segment`].

pub mod head;
pub mod record;
pub mod segment;
pub mod stream;
