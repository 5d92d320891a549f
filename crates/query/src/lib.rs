//! Queries: what can be asked, how it is carried out on decoded rows, how answers are merged and
//! what a client sees of them.
//!
//! ```text
//! request ──check──► Scan ──wire──► each block and each head: select ─► exec ──► Partial
//!                                                                                  │ wire
//! client ◄── render ◄────────────────────── Partial ◄────────── merge ◄────────────┘
//! ```
//! A [`request`] is checked against limits and becomes one [`scan::Scan`]. The same
//! [`exec::Executor`] runs it over heads and over blocks: [`select`] chooses profiles without
//! looking at samples, samples are added up densely per stack, and the sums are folded to function
//! names over a tree ([`functions`]) that is worked out once per symbols. Partials [`merge`] in any
//! order and travel in a bounded form ([`wire`]); [`render`] makes flame graphs, trees, diffs,
//! pprof, DOT, SVG and time series of them.
//!
//! # Invariants
//! - Q1: an answer depends on the data alone; any split of it into heads and blocks, and any order
//!   of merging, gives the same.
//! - Q3: a tree that is cut keeps its exact total.
//! - Nothing is hashed per sample; matchers are evaluated per series and per profile type.
//! - Selectors, scans and partials from outside are bounded while they are read; damage is an
//!   error, never a panic.
//!
//! # What it must not know
//! Where data lies, who asks, which tenant it is about, the clock, and any transport.

pub mod deletion;
pub mod exec;
pub mod functions;
pub mod merge;
pub mod render;
pub mod request;
pub mod scan;
pub mod select;
pub mod selector;
pub mod timeline;
pub mod wire;
