//! Recordings of the Java Flight Recorder, as async-profiler and JVMs write them: bytes of a `.jfr`
//! file in, profiles out.
//!
//! ```text
//! bytes ──► chunk ──► metadata, constants, events ──► Recording ──JfrProfiles──► Draft, Draft, …
//! labels part ──────► Snapshot ───────────────────────────────────────┘
//! ```
//!
//! Fields are found by what the metadata of each chunk says, never by a fixed layout, so that all
//! writers of version 2 are read alike: async-profiler of any age, forks that add fields, JDK 11 to
//! 25.
//!
//! # Invariants
//! - Damaged or hostile bytes end in an error that names the place: nothing here panics, loops, or
//!   takes more steps and memory than in proportion to the bytes.
//! - What a recording adds up to does not depend on how it is cut into chunks.
//!
//! # What it must not know
//! Routes, tenants, the clock, gzip, and what becomes of a draft.

mod allowance;
mod chunk;
mod constants;
mod cursor;
mod error;
mod frames;
mod kinds;
mod layout;
mod metadata;
mod names;
mod profiles;
mod recording;
mod rows;
mod samples;
mod snapshot;

pub use error::JfrError;
pub use profiles::{Conversion, JfrProfile, JfrProfiles};
pub use recording::Recording;
pub use snapshot::Snapshot;
