//! The catalogue: a numbered log in the object store that says which blocks are live and how far
//! each stream has been flushed into them.
//!
//! ```text
//! Txn ── preconditions hold? ──> Entry ── PUT catalogue/log/{n+1} if absent ──> CatalogueState n+1
//!  ^            |                                   |
//!  |            v no: Conflict                      v exists, or no answer
//!  └──────── apply theirs <── another nonce ── GET catalogue/log/{n+1} ── ours ──> committed (C4)
//! ```
//!
//! [`entry`], [`state`], [`txn`] and [`committer`] are free of IO, clocks and randomness, so that a
//! simulation drives what the roles run. [`Catalogue`] is the handle that does the IO for them.
//!
//! # Invariants
//! - **C1** the state is the fold of the log, without gaps. **C3** an entry counts wholly or not at
//!   all. **C4** a commit whose reply was lost is recognised by its nonce.
//! - **S1** what a stream's blocks cover is disjoint and contiguous from 0 to its committed number.
//!   **S2** epochs and committed numbers only grow. **S5** a stream has one owner in one version.
//! - The unit of liveness is the slice (block, tenant, shard): a commit that adds what a merge made
//!   removes what it was made of, so that each profile is live once in every version.
//! - Nobody commits on a view that was last seen to be current more than
//!   [`committer::VIEW_AGE_MAX`] ago: entries are kept for days, so a free number means that
//!   nobody took it, never that it was taken and cleared away.

pub mod committer;
mod draft;
pub mod entry;
mod handle;
mod slices;
pub mod snapshot;
pub mod state;
pub mod tombstone;
pub mod txn;

pub use entry::{Entry, EntryError};
pub use handle::{Catalogue, CatalogueError, CatalogueOptions, CommitError};
pub use slices::Quarantined;
pub use state::{CatalogueState, StreamState, Violation};
pub use tombstone::{Deletion, Tombstone, TombstoneId};
pub use txn::{Op, Precondition, Txn, Unmet};
