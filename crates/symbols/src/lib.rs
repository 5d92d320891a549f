//! Symbols: what the numbers in samples stand for.
//!
//! A stacktrace is stored as one number, its *node* in a tree of locations; a location is a run of
//! lines, a line names a function, a function names strings. One [`Dictionary`] interns all of it
//! for one dataset while profiles come in; [`Symbols`] is the read-only form that heads and blocks
//! share.
//!
//! ```text
//! PartView ──intern──► Dictionary ──encode_since──► log record ──apply──► Dictionary (replay)
//!                          │ snapshot
//!                          ▼
//! block tables ──from_tables──► Symbols ──pre_order──► dense, sorted tables of a new block
//! ```
//!
//! # Invariants
//! - Ids are dense and given in order of arrival; an entry never changes and never goes away.
//! - Entries are distinct: equal strings, mappings, functions, locations and stacks have one id.
//! - Node 0 is the root, with parent and location [`NONE`]; every other node's parent is smaller
//!   than the node itself.
//! - A [`Symbols`] has no id that points outside its tables.
//! - A dictionary that applied all deltas of another gives the same ids to the same things.
//!
//! # What it must not know
//! Time, tenants, how tables are stored, and what a sample's value means.

mod absorb;
mod chunked;
mod delta;
mod dictionary;
mod error;
mod intern;
mod pre_order;
mod symbols;

pub use dictionary::{Dictionary, Mark};
pub use error::SymbolsError;
pub use intern::InternScratch;
pub use pre_order::PreOrder;
pub use scoria_model::part::{Function, Line, Mapping, NONE, Strings};
pub use symbols::{Location, SymbolTables, Symbols};

/// The node of the empty stacktrace, ancestor of all others.
pub const ROOT: u32 = 0;

#[cfg(test)]
mod tests;
