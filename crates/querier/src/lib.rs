//! The querier: answers questions over blocks and over what ingesters hold in addition.
//!
//! ```text
//! request ─check─► Scan ─► pin a catalogue version
//!                            ├─ plan ─► datasets ─ fetch ─► decode, select, add up ─┐
//!                            └─ ask every ingester for its tail beyond the pin ─────┴─ merge ─► render
//! ```
//! A [`Querier`] has one method for each kind of question. Blocks are read by byte ranges that the
//! pinned version's metas name; decoding runs on a bounded pool that leaves a core to ingest.
//!
//! # Invariants
//! - Each record is counted once: blocks of the pinned version, and from ingesters what comes after
//!   the sequence numbers committed in it.
//! - An answer is whole (Q2): an ingester that cannot be reached, a stream that nobody serves, a
//!   block that cannot be read is an error that names it, unless the caller takes what there is
//!   ([`Mode::Partial`]); the answer names it then.
//! - Memory is taken from the share for queries before bytes are fetched, again before an answer is
//!   drawn, and given back when it has been written; an answer that grows beyond it is given up.
//!
//! # What it must not know
//! How ingesters log, how answers travel to clients, and who may see which tenant.

mod admission;
mod background;
mod cache;
mod dataset;
mod error;
mod fair;
mod known;
mod mean;
mod merged;
mod metrics;
mod pin;
mod plan;
mod pool;
mod querier;
mod rolled;
mod run;
mod settings;
mod stats;
mod tails;
mod why_empty;

pub use admission::{AdmissionSettings, Holding};
pub use background::{BackgroundSettings, Progress};
pub use error::{ErrorKind, QueryError};
pub use merged::Merged;
pub use metrics::Metrics;
pub use plan::PlanCost;
pub use querier::{Answer, Mode, ProfileStats, Querier};
pub use settings::{Components, LimitsOf, Settings};
pub use stats::{Missing, QueryStats};
