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

mod flush;
mod generation;
pub mod head;
mod health;
mod ingester;
mod lock;
mod log_loop;
mod metrics;
pub mod record;
mod replay;
mod retry_key;
pub mod segment;
mod select;
mod service;
mod settings;
pub mod stream;
mod tails;

pub use health::Status;
pub use ingester::{Ingester, RunningIngester, Shutdown, StartError};
pub use lock::LockError;
pub use metrics::{Metrics, ReplayFigures};
pub use replay::ReplayError;
pub use service::{IngesterService, RETRY_AFTER};
pub use settings::{Components, Settings};
