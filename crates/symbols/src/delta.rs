//! Dictionary deltas: what a log record carries of the symbols that its profiles brought.
//!
//! ```text
//! delta     = 5 counts (strings, mappings, functions, locations, nodes), then the entries
//! string    = shared, length, bytes          shared: bytes taken from the string before, <= 255
//! mapping   = filename, build id, start, limit - start, offset, flags
//! function  = head, [name], [system name], [filename], [start line]
//! location  = head, [mapping], [address], [lines], (function, line) x lines
//! chain     = distance from its first node to that node's parent, (location, last?) x nodes
//! ```
//! Everything but the bytes of strings and the head bytes is a varint. Nodes come in chains: the
//! parent of every node but a chain's first is the node before it.
//!
//! Most references are to what came just before, so they are codes relative to a [`Context`] that
//! both sides keep: 0 is "the next one that nothing has referred to yet".
//!
//! # Invariants
//! - Applying the deltas of a dictionary in order gives the same tables.
//! - Every reference is checked when it is read, and an entry that exists already is refused, so a
//!   dictionary never holds anything that interning could not have made.
//! - A delta of n bytes never makes more than 256 n bytes of text.

mod apply;
mod context;
mod encode;

pub(crate) use context::Context;

/// Longest prefix that a string takes from the one before it.
const SHARED_MAX: usize = 255;

/// Bits of a function's head.
mod function_head {
    pub(super) const NAME_FRESH: u8 = 1;
    pub(super) const SYSTEM_NAME_IS_NAME: u8 = 2;
    pub(super) const FILENAME_AS_BEFORE: u8 = 4;
    pub(super) const FILENAME_FRESH: u8 = 8;
    pub(super) const START_LINE: u8 = 16;
    pub(super) const ALL: u8 = 31;
}

/// Bits of a location's head; the top four hold the number of lines, 15 for "a varint follows".
mod location_head {
    pub(super) const MAPPING_AS_BEFORE: u8 = 1;
    pub(super) const ADDRESS: u8 = 2;
    pub(super) const FUNCTION_FRESH: u8 = 4;
    pub(super) const FUNCTION_AS_BEFORE: u8 = 8;
    pub(super) const LINES_SHIFT: u32 = 4;
    pub(super) const LINES_FOLLOW: u8 = 15;
}

/// Codes of a node's location below these are predictions.
mod node_code {
    pub(super) const FRESH: u64 = 0;
    pub(super) const LIKELY: u64 = 1;
    pub(super) const LIKELY_SECOND: u64 = 2;
    pub(super) const EXPLICIT: u64 = 3;
}

#[cfg(test)]
mod tests;
