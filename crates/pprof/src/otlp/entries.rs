//! What a profile uses of the dictionary: every index that it follows is checked, and each entry is
//! charged for once, as if it stood in the profile.
//!
//! Nothing is moved here. The entries go into the part once for all profiles, when the first one is
//! normalised that uses them ([`super::symbols`]).
//!
//! # Invariants
//! - An index is checked before it is followed; entry 0 stands for none only where its content says
//!   nothing.
//! - A memo is true for the draft whose number it holds.

use super::attributes::Value;
use super::convert::{Converter, Problem};
use super::dictionary::{self, Dictionary};
use super::fields::Span;
use super::origin;
use super::symbols::build_ids;
use crate::Draft;
use crate::checks::not_utf8;
use crate::draft::{Stack, varint_length};
use crate::raw::Ids;

/// What a mapping, a function, a location and a line of it take in a pprof, about.
const MAPPING_SIZE: u64 = 24;
const FUNCTION_SIZE: u64 = 12;
const LOCATION_SIZE: u64 = 6;
const LINE_SIZE: u64 = 8;

/// The share of its bytes that reading a text counts for.
const TEXT_SHARE: u32 = 16;

/// The draft that used a location last, and the how many-th it was there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LocationMemo {
    draft: u32,
    nth: u32,
}

/// The same of an attribute, as the label of a sample; no value if it is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LabelMemo {
    draft: u32,
    key: u32,
    value: u32,
}

/// The same of a stack: the draft, and what it is there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StackMemo {
    draft: u32,
    stack: Stack,
}

impl Converter<'_, '_> {
    /// The stack of a sample.
    pub(super) fn stack(&mut self, draft: &mut Draft, index: u32) -> Result<Stack, Problem> {
        let export = self.export;
        let stacks = &export.dictionary.stacks;
        let at = index as usize;
        let Some(&place) = stacks.get(at) else {
            return Err(Problem::Index {
                what: "the stack of a sample",
                table: "stack_table",
                index,
                n: stacks.len(),
            });
        };
        let memo = self.stacks[at];
        if memo.draft == self.draft {
            return Ok(memo.stack);
        }
        self.spend(place.length)?;
        let (mut depth, mut size) = (0, 0);
        let mut problem = None;
        dictionary::stack_locations(export.body, place, |location| {
            if problem.is_none() {
                match self.location(draft, location) {
                    Ok(nth) => {
                        depth += 1;
                        size += varint_length(u64::from(nth)) as u32;
                    }
                    Err(found) => problem = Some(found),
                }
            }
        })?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let stack = draft.stack_apart(index, (depth, size))?;
        self.stacks[at] = StackMemo {
            draft: self.draft,
            stack,
        };
        Ok(stack)
    }

    /// The how many-th location of the draft it is, counted from 1.
    fn location(&mut self, draft: &mut Draft, index: u32) -> Result<u32, Problem> {
        let export = self.export;
        let tables = &export.dictionary;
        let at = index as usize;
        let Some(memo) = self.locations.get(at) else {
            return Err(Problem::Index {
                what: "a frame of a stack",
                table: "location_table",
                index,
                n: tables.locations.len(),
            });
        };
        if memo.draft == self.draft {
            return Ok(memo.nth);
        }
        self.spend(tables.locations[at].length)?;
        let (mut n_lines, mut problem) = (0, None);
        let row = dictionary::location(export.body, tables.locations[at], |line| {
            if problem.is_none() {
                match self.function(draft, line.function) {
                    Ok(is_one) => n_lines += u64::from(is_one),
                    Err(found) => problem = Some(found),
                }
            }
        })?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        self.mapping(draft, row.mapping)?;
        draft.symbol_apart(LOCATION_SIZE + n_lines * LINE_SIZE)?;
        self.n_locations += 1;
        self.locations[at] = LocationMemo {
            draft: self.draft,
            nth: self.n_locations,
        };
        Ok(self.n_locations)
    }

    /// Whether there is a function, which entry 0 may not be.
    fn function(&mut self, draft: &mut Draft, index: u32) -> Result<bool, Problem> {
        let export = self.export;
        let tables = &export.dictionary;
        let at = index as usize;
        let Some(used_by) = self.functions.get_mut(at) else {
            return Err(Problem::Index {
                what: "the function of a line",
                table: "function_table",
                index,
                n: tables.functions.len(),
            });
        };
        let is_new = std::mem::replace(used_by, self.draft) != self.draft;
        if tables.is_no_function(index) {
            return Ok(false);
        }
        if is_new {
            self.spend(tables.functions[at].length)?;
            let row = dictionary::function(export.body, tables.functions[at])?;
            for text in [row.name, row.system_name, row.filename] {
                self.text(draft, text)?;
            }
            draft.symbol_apart(FUNCTION_SIZE)?;
        }
        Ok(true)
    }

    fn mapping(&mut self, draft: &mut Draft, index: u32) -> Result<(), Problem> {
        let export = self.export;
        let tables = &export.dictionary;
        let at = index as usize;
        let Some(used_by) = self.mappings.get_mut(at) else {
            if index == 0 {
                return Ok(());
            }
            return Err(Problem::Index {
                what: "the mapping of a location",
                table: "mapping_table",
                index,
                n: tables.mappings.len(),
            });
        };
        if std::mem::replace(used_by, self.draft) == self.draft {
            return Ok(());
        }
        let row = tables.mappings[at];
        if Dictionary::is_no_mapping(index, &row) {
            return Ok(());
        }
        self.spend_attributes(row.place)?;
        self.text(draft, row.filename)?;
        let build_id = build_ids(export, row.place)?;
        check_utf8("a build id", &build_id)?;
        if !build_id.is_empty() {
            draft.text_apart(&build_id, false)?;
        }
        draft.symbol_apart(MAPPING_SIZE)?;
        Ok(())
    }

    /// Counts a mapping with what its attributes take to read.
    fn spend_attributes(&mut self, mapping: Span) -> Result<(), Problem> {
        let export = self.export;
        let places = &export.dictionary.attributes;
        let mut bytes = u64::from(mapping.length);
        dictionary::mapping_attributes(export.body, mapping, |index| {
            let place = places.get(index as usize);
            bytes += place.map_or(0, |place| u64::from(place.length));
        })?;
        self.spend(u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// A text that a symbol says.
    fn text(&mut self, draft: &mut Draft, index: u32) -> Result<(), Problem> {
        let export = self.export;
        let strings = &export.dictionary.strings;
        let at = index as usize;
        let known = self.texts.get_mut(at).zip(strings.get(at));
        let Some((used_by, place)) = known else {
            if index == 0 {
                return Ok(());
            }
            return Err(Problem::Index {
                what: "a text",
                table: "string_table",
                index,
                n: strings.len(),
            });
        };
        if std::mem::replace(used_by, self.draft) == self.draft {
            return Ok(());
        }
        self.spend(place.length / TEXT_SHARE)?;
        let text = place.of(export.body);
        check_utf8("a text of its symbols", text)?;
        if !text.is_empty() {
            draft.text_apart(text, export.is_cut(text))?;
        }
        Ok(())
    }

    /// Adds an attribute of a sample to its labels. The service is a label of the whole draft.
    pub(super) fn attribute(&mut self, draft: &mut Draft, index: u32) -> Result<(), Problem> {
        let (body, tables) = (self.export.body, &self.export.dictionary);
        let at = index as usize;
        let Some(&memo) = self.labels_of.get(at) else {
            let n = tables.attributes.len();
            return Err(attribute_outside("an attribute of a sample", index, n));
        };
        if memo.draft == self.draft {
            if memo.value != 0 {
                self.labels.push((memo.key, memo.value));
            }
            return Ok(());
        }
        self.spend(tables.attributes[at].length)?;
        let attribute = tables.attribute(body, index).transpose()?;
        let attribute = attribute.unwrap_or_default();
        let is_service = self.service(index).is_some();
        let strings = self.export.strings();
        let key = origin::text(strings, attribute.key)?.filter(|_| !is_service);
        let value = origin::text(strings, attribute.value)?;
        self.n_unusable += u64::from(attribute.value == Value::Other);
        let label = match (key, value) {
            (Some(key), Some(value)) => {
                draft.learn_apart(key.as_bytes());
                draft.learn_apart(value.as_bytes());
                (draft.string(&key)?, draft.string(&value)?)
            }
            // Counted once for a draft, whatever the number of its samples.
            _ => (0, 0),
        };
        self.labels_of[at] = LabelMemo {
            draft: self.draft,
            key: label.0,
            value: label.1,
        };
        if label.1 != 0 {
            self.labels.push(label);
        }
        Ok(())
    }

    /// The span and trace of a sample; ids that are all zero stand for none.
    pub(super) fn link(&mut self, index: u32) -> Result<Ids, Problem> {
        let tables = &self.export.dictionary;
        let length = tables
            .links
            .get(index as usize)
            .map_or(0, |link| link.length);
        self.spend(length)?;
        let link = tables.link(self.export.body, index);
        let Some(link) = link.transpose()? else {
            return Err(Problem::Index {
                what: "the link of a sample",
                table: "link_table",
                index,
                n: tables.links.len(),
            });
        };
        Ok(Ids {
            span: u64::from_le_bytes(link.span),
            trace: link.trace,
        })
    }
}

fn check_utf8(what: &'static str, text: &[u8]) -> Result<(), Problem> {
    match not_utf8(text) {
        None => Ok(()),
        Some(shown) => Err(Problem::Text { what, shown }),
    }
}

pub(super) fn attribute_outside(what: &'static str, index: u32, n: usize) -> Problem {
    Problem::Index {
        what,
        table: "attribute_table",
        index,
        n,
    }
}
