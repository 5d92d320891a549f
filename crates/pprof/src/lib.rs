//! Profiles in google/pprof's format: bytes from a client in, [`scoria_model::part::Part`] out, and
//! bytes for a reader back.
//!
//! ```text
//! body ──Decompressor──► plain bytes ──RawProfile──► columns ──checks──► Normaliser ──► Part
//!                   other formats ──────Draft────────►                        │
//!       (folded, trie, tree ──Stacks──┘, speedscope likewise)                    ▼
//!                                                                           ProfileEncoder ──► bytes
//! ```
//!
//! The way in is [`gunzip::Decompressor`] and then [`normalise::Normaliser`]; both own the memory
//! they need and are meant to be kept by a worker and used for one upload after the other.
//!
//! # Invariants
//! - Nothing that a client sends makes these modules panic, loop or hold more memory than a small
//!   multiple of what it sent; what is decompressed never exceeds the limit given.
//! - A [`Rejection`] names the labels, the value and the limit; everything dropped or cut without a
//!   rejection is counted by reason in [`Dropped`].
//! - In a finished part each string, function, location and stacktrace stands once, and each
//!   (stacktrace, span, trace) at most once in a profile.
//! - The sum of a profile type over a part is the sum of the values that came in, less what
//!   [`Dropped`] counts.
//!
//! # What it must not know
//! Routes, status codes, tenants, rates, the clock, and how a part is stored.

mod checks;
mod cumulative;
mod cut_stacks;
mod decimal;
pub mod draft;
mod dropped;
pub mod encode;
pub mod folded;
mod golang;
mod groups;
pub mod gunzip;
pub mod jfr;
pub mod language;
mod merge;
pub mod name;
mod narrow;
pub mod normalise;
pub mod otlp;
pub mod policy;
pub mod raw;
mod rejection;
pub mod relabel;
mod room;
mod sample_types;
mod series;
mod source;
pub mod speedscope;
pub mod stacks;
mod tables;
pub mod tree;
pub mod trie;
mod wire;

pub use draft::{Draft, DraftError, DraftTerms};
pub use dropped::Dropped;
pub use encode::ProfileEncoder;
pub use gunzip::{Decompressor, GunzipError};
pub use normalise::{About, Ingest, Normalised, Normaliser, Origin, Refusal, Stats, Told, Upload};
pub use policy::Policy;
pub use raw::{DecodeError, RawProfile};
pub use rejection::Rejection;
pub use room::Room;
pub use tables::Joined;
