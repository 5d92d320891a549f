//! The compactor role: merges blocks, keeps retention, collects garbage.
//!
//! ```text
//! catalogue ─► plan ─► jobs ─► read slices, merge, put outputs ─► commit "all still live"
//!     └──────► too old ─► remove slices           └─► nobody refers to it ─► delete, after a grace
//! ```
//! [`plan`](Compactor::plan) and [`collect`] are free of IO and clocks; [`Compactor`] does the IO.
//!
//! # Invariants
//! - Which compactor does a job, and whether several do, changes nothing but the work.
//! - At every moment each profile is live once: a commit that adds outputs removes their inputs.
//!
//! # What it must not know
//! Ingesters, queries under way, how profiles arrive.

pub mod collect;
mod compactor;
mod deletions;
mod execute;
mod metrics;
mod pieces;
pub mod plan;
mod retention;
mod retention_rules;
mod settings;

pub use compactor::{Compactor, Components, RoundError, RunningCompactor};
pub use deletions::{DeleteError, DeleteRequest, Deletions, Extent, Receipt};
pub use metrics::Metrics;
pub use settings::{PlanSettings, RetentionOf, Settings};
