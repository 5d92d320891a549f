//! Dictionary deltas: what a log record carries of the symbols that its profiles brought.
//!
//! ```text
//! 5 x varint: new strings, mappings, functions, locations, nodes
//! strings     length, bytes
//! mappings    start, limit - start, offset, filename, build id, flags
//! functions   head, [name], [system name], [filename], [start line]
//! locations   head, [mapping], [address], [lines], line...
//! nodes       chain...
//! ```
//!
//! Entries mostly use what came just before them, so most references are "the next one that
//! nobody has used yet": see [`Context`] for what both sides remember to say that in a byte.
//!
//! # Invariants
//! - Applying the deltas of a dictionary in order gives the same tables; a delta that does not fit
//!   what is there already is an error and not applied beyond the entry that is wrong.
//! - Every index is checked when it is read; an entry that exists already is refused.

use scoria_model::varint;

use crate::dictionary::{Dictionary, Mark};
use crate::error::SymbolsError;

/// What encoder and decoder both know at a mark.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {}

impl Context {
    pub(crate) fn bytes(&self) -> u64 {
        0
    }
}

impl Dictionary {
    /// Appends everything that came after `from` to `out`. `from` must be a mark of this
    /// dictionary, and cheapest is the one up to which the last call went.
    pub fn encode_since(&mut self, _from: &Mark, _out: &mut Vec<u8>) {}

    /// Takes over a delta that another dictionary encoded when it had the entries that this one
    /// has now.
    ///
    /// # Errors
    /// For anything that the other dictionary cannot have written. The dictionary is not to be
    /// used any further then: part of the delta may have been taken over.
    pub fn apply(&mut self, _delta: &mut varint::Reader<'_>) -> Result<(), SymbolsError> {
        Ok(())
    }
}
