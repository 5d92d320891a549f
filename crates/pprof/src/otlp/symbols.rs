//! The dictionary as a source of symbols: read from the body, entry by entry, as they are moved into
//! the part that the export's profiles share.
//!
//! # Invariants
//! - Only entries are asked for that a profile was allowed to use: their indexes have been followed
//!   and checked, and their texts are UTF-8.

use std::borrow::Cow;

use scoria_model::Limits;

use super::Export;
use super::convert::Problem;
use super::dictionary::{self, Dictionary};
use super::entries::attribute_outside;
use super::fields::Span;
use crate::checks::front_beyond;
use crate::golang;
use crate::raw::{RawFunction, RawLine, RawMapping};
use crate::tables::{Counts, Stacks, Symbols};

/// The attributes that are build ids, and what stands before each. GNU's is the one that debuggers
/// and symbol servers go by, and stands alone.
const BUILD_IDS: [(&str, &str); 3] = [
    ("process.executable.build_id.gnu", ""),
    ("process.executable.build_id.go", "go:"),
    ("process.executable.build_id.htlhash", "htlhash:"),
];

impl Export<'_> {
    /// Whether a symbol of this text loses its front.
    pub(super) fn is_cut(&self, text: &[u8]) -> bool {
        Limits::exceeded(text.len() as u64, self.max_symbol_bytes)
    }
}

impl Symbols for Export<'_> {
    fn text(&self, at: u32) -> &[u8] {
        let place = self.dictionary.strings.get(at as usize);
        let text = place.map_or(&[][..], |place| place.of(self.body));
        match self.is_cut(text) {
            true => &text[front_beyond(text, self.max_symbol_bytes as usize)..],
            false => text,
        }
    }

    fn location_id(&self, frame: u32) -> u64 {
        u64::from(frame)
    }

    fn location(&self, at: usize, lines: &mut Vec<RawLine>) -> (u64, u64) {
        let tables = &self.dictionary;
        let start = lines.len();
        let row = dictionary::location(self.body, tables.locations[at], |line| {
            let is_there = (line.function as usize) < tables.functions.len();
            if is_there && !tables.is_no_function(line.function) {
                lines.push(RawLine {
                    function: u64::from(line.function) + 1,
                    line: line.line,
                });
            }
        });
        let row = row.unwrap_or_default();
        let mapping = match tables.mappings.get(row.mapping as usize) {
            Some(known) if !Dictionary::is_no_mapping(row.mapping, known) => {
                u64::from(row.mapping) + 1
            }
            _ => 0,
        };
        // Interpreters put line numbers and the like into the address of frames with lines.
        let address = if lines.len() == start { row.address } else { 0 };
        (mapping, address)
    }

    fn function(&self, at: usize) -> RawFunction {
        let row = dictionary::function(self.body, self.dictionary.functions[at]);
        let row = row.unwrap_or_default();
        RawFunction {
            id: at as u64 + 1,
            name: row.name,
            system_name: row.system_name,
            filename: row.filename,
            start_line: row.start_line,
        }
    }

    fn mapping(&self, at: usize) -> RawMapping {
        let row = self.dictionary.mappings[at];
        RawMapping {
            id: at as u64 + 1,
            start: row.start,
            limit: row.limit,
            offset: row.offset,
            filename: row.filename,
            build_id: 0,
            flags: row.flags,
        }
    }

    fn build_id(&self, at: usize) -> Cow<'_, [u8]> {
        let place = self.dictionary.mappings[at].place;
        Cow::from(build_ids(self, place).unwrap_or_default())
    }
}

impl Stacks for Export<'_> {
    fn counts(&self) -> Counts {
        let tables = &self.dictionary;
        Counts {
            strings: tables.n_texts,
            mappings: tables.mappings.len(),
            functions: tables.functions.len(),
            locations: tables.locations.len(),
            stacks: tables.stacks.len(),
        }
    }

    fn frames(&self, at: usize, frames: &mut Vec<u32>) {
        let place = self.dictionary.stacks[at];
        // Each has been followed, so that it can be read and is inside.
        drop(dictionary::stack_locations(self.body, place, |location| {
            frames.push(location.saturating_add(1));
        }));
    }

    fn may_have_type_parameters(&self) -> bool {
        let found = || golang::may_have_type_parameters(self.body);
        *self.type_parameters.get_or_init(found)
    }
}

/// Attributes of a mapping that are looked at; none has as many.
const ATTRIBUTES_MAX: usize = 256;

/// Every build id of a mapping, in one text.
pub(super) fn build_ids(export: &Export<'_>, mapping: Span) -> Result<Vec<u8>, Problem> {
    let (body, tables) = (export.body, &export.dictionary);
    let mut found: [Option<&[u8]>; BUILD_IDS.len()] = [None; BUILD_IDS.len()];
    let mut outside = None;
    let mut n_read = 0;
    dictionary::mapping_attributes(body, mapping, |index| {
        n_read += 1;
        if n_read > ATTRIBUTES_MAX && (index as usize) < tables.attributes.len() {
            return;
        }
        // Each could be read when the dictionary was.
        let Some(Ok(attribute)) = tables.attribute(body, index) else {
            outside = Some(index);
            return;
        };
        let Some(key) = attribute.key.text(body) else {
            return;
        };
        let nth = BUILD_IDS.iter().position(|(id, _)| id.as_bytes() == key);
        if let Some(slot) = nth.and_then(|nth| found.get_mut(nth)) {
            *slot = slot.or(attribute.value.text(body));
        }
    })?;
    if let Some(index) = outside {
        return Err(attribute_outside(
            "an attribute of a mapping",
            index,
            tables.attributes.len(),
        ));
    }
    let mut text = Vec::new();
    for ((_, prefix), id) in BUILD_IDS.iter().zip(found) {
        if let Some(id) = id {
            let space: &[u8] = if text.is_empty() { b"" } else { b" " };
            text.extend_from_slice(space);
            text.extend_from_slice(prefix.as_bytes());
            text.extend_from_slice(id);
        }
    }
    Ok(text)
}
