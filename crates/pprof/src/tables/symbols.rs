//! Where symbols and stacktraces come from, as far as [`Tables`](super::Tables) asks: the columns of
//! one profile, or the dictionary that the profiles of an export share.
//!
//! # What it must not know
//! The part that they go into.

use std::borrow::Cow;

use super::Counts;
use crate::raw::{RawFunction, RawLine, RawMapping, RawProfile};
use crate::source::Note;

/// The symbols of one or more profiles. Places are those in their tables, and inside of them.
pub(crate) trait Symbols {
    /// The string at an index; empty outside of the table.
    fn text(&self, at: u32) -> &[u8];

    /// The id of the location that a frame stands for.
    fn location_id(&self, frame: u32) -> u64;

    /// Id of the mapping and address of a location. Appends its lines, the innermost call first.
    fn location(&self, at: usize, lines: &mut Vec<RawLine>) -> (u64, u64);

    fn function(&self, at: usize) -> RawFunction;

    /// The mapping, whose build id [`build_id`](Self::build_id) says.
    fn mapping(&self, at: usize) -> RawMapping;

    fn build_id(&self, at: usize) -> Cow<'_, [u8]>;
}

/// Symbols with a table of stacktraces, in which ids are places counted from 1.
pub(crate) trait Stacks: Symbols {
    fn counts(&self) -> Counts;

    /// Appends the frames of a stacktrace, leaf first.
    fn frames(&self, at: usize, frames: &mut Vec<u32>);

    /// Whether a name may hold type parameters that Go's compiler writes.
    fn may_have_type_parameters(&self) -> bool;
}

impl Symbols for RawProfile<'_> {
    #[inline]
    fn text(&self, at: u32) -> &[u8] {
        RawProfile::text(self, at)
    }

    #[inline]
    fn location_id(&self, frame: u32) -> u64 {
        RawProfile::location_id(self, frame)
    }

    #[inline]
    fn location(&self, at: usize, lines: &mut Vec<RawLine>) -> (u64, u64) {
        lines.extend(self.columns.locations.lines_of(at));
        let row = self.columns.locations.get(at);
        (row.mapping, row.address)
    }

    #[inline]
    fn function(&self, at: usize) -> RawFunction {
        self.columns.functions.get(at)
    }

    fn mapping(&self, at: usize) -> RawMapping {
        self.columns.mappings[at]
    }

    fn build_id(&self, at: usize) -> Cow<'_, [u8]> {
        Cow::from(RawProfile::text(self, self.columns.mappings[at].build_id))
    }
}

/// What is done to symbols on their way into a part, for some of the profiles that share them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Repairs {
    /// Take type parameters out of the names of functions.
    pub(crate) short_names: bool,
    /// Written around build ids.
    pub(crate) note: Option<Note>,
}
