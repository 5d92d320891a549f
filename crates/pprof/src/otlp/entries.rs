//! Moves entries of the dictionary into a draft, each on its first use.
//!
//! # Invariants
//! - An index is checked before it is followed; entry 0 stands for none only where its content says
//!   nothing.
//! - A memo is true for the draft whose number it holds.

use super::attributes::Value;
use super::convert::{Converter, Problem};
use super::dictionary;
use super::fields::Span;
use super::origin;
use crate::Draft;
use crate::draft::{DraftFunction, DraftMapping, Stack};
use crate::raw::{Ids, RawLine};

/// The attributes that are build ids, and what stands before each. GNU's is the one that debuggers
/// and symbol servers go by, and stands alone.
const BUILD_IDS: [(&str, &str); 3] = [
    ("process.executable.build_id.gnu", ""),
    ("process.executable.build_id.go", "go:"),
    ("process.executable.build_id.htlhash", "htlhash:"),
];

/// Where an entry of the dictionary went: the draft it is true for, and the id in it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memo {
    pub(super) draft: u32,
    pub(super) id: u32,
}

/// The same of an attribute, as the label of a sample; no value if it is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LabelMemo {
    draft: u32,
    key: u32,
    value: u32,
}

/// The same of a stack: the draft, and its frames there.
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
        let Some(&stack) = stacks.get(at) else {
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
        self.frames.clear();
        let mut frames = std::mem::take(&mut self.frames);
        let mut problem = None;
        let read = dictionary::stack_locations(export.body, stack, |location| {
            if problem.is_none() {
                match self.location(draft, location) {
                    Ok(id) => frames.push(id),
                    Err(found) => problem = Some(found),
                }
            }
        });
        self.frames = frames;
        read?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let stack = draft.stack(&self.frames)?;
        self.stacks[at] = StackMemo {
            draft: self.draft,
            stack,
        };
        Ok(stack)
    }

    fn location(&mut self, draft: &mut Draft, index: u32) -> Result<u64, Problem> {
        let tables = &self.export.dictionary;
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
            return Ok(u64::from(memo.id));
        }
        self.rows.clear();
        let rows = &mut self.rows;
        let row = dictionary::location(self.export.body, tables.locations[at], |line| {
            rows.push(line);
        })?;
        self.lines.clear();
        for nth in 0..self.rows.len() {
            let line = self.rows[nth];
            let function = self.function(draft, line.function)?;
            if function != 0 {
                self.lines.push(RawLine {
                    function,
                    line: line.line,
                });
            }
        }
        let mapping = self.mapping(draft, row.mapping)?;
        // Interpreters put line numbers and the like into the address of frames with lines.
        let address = if self.lines.is_empty() {
            row.address
        } else {
            0
        };
        let id = draft.location(mapping, address, &self.lines)?;
        self.locations[at] = self.memo(id);
        Ok(id)
    }

    /// The function's id, 0 for entry 0 if that is the one that stands for none.
    fn function(&mut self, draft: &mut Draft, index: u32) -> Result<u64, Problem> {
        let tables = &self.export.dictionary;
        let at = index as usize;
        let Some(memo) = self.functions.get(at) else {
            return Err(Problem::Index {
                what: "the function of a line",
                table: "function_table",
                index,
                n: tables.functions.len(),
            });
        };
        if memo.draft == self.draft {
            return Ok(u64::from(memo.id));
        }
        let row = dictionary::function(self.export.body, tables.functions[at])?;
        let is_null = index == 0 && [row.name, row.system_name, row.filename] == [0; 3];
        let id = if is_null && tables.strings.first().is_none_or(|first| first.is_empty()) {
            0
        } else {
            let name = self.string(draft, row.name)?;
            let function = DraftFunction {
                name,
                system_name: if row.system_name == row.name {
                    name
                } else {
                    self.string(draft, row.system_name)?
                },
                filename: self.string(draft, row.filename)?,
                start_line: row.start_line,
            };
            draft.function(function)?
        };
        self.functions[at] = self.memo(id);
        Ok(id)
    }

    /// The mapping's id, 0 for entry 0 if that stands for none or is not there.
    fn mapping(&mut self, draft: &mut Draft, index: u32) -> Result<u64, Problem> {
        let tables = &self.export.dictionary;
        let at = index as usize;
        let Some(memo) = self.mappings.get(at) else {
            if index == 0 {
                return Ok(0);
            }
            return Err(Problem::Index {
                what: "the mapping of a location",
                table: "mapping_table",
                index,
                n: tables.mappings.len(),
            });
        };
        if memo.draft == self.draft {
            return Ok(u64::from(memo.id));
        }
        let row = tables.mappings[at];
        let id = if index == 0 && row.place.is_empty() {
            0
        } else {
            let mapping = DraftMapping {
                start: row.start,
                limit: row.limit,
                offset: row.offset,
                filename: self.string(draft, row.filename)?,
                build_id: self.build_ids(draft, row.place)?,
                flags: row.flags,
            };
            draft.mapping(mapping)?
        };
        self.mappings[at] = self.memo(id);
        Ok(id)
    }

    /// Every build id of a mapping, in one text.
    fn build_ids(&self, draft: &mut Draft, mapping: Span) -> Result<u32, Problem> {
        let (body, tables) = (self.export.body, &self.export.dictionary);
        let mut found: [Option<&[u8]>; BUILD_IDS.len()] = [None; BUILD_IDS.len()];
        let mut outside = None;
        dictionary::mapping_attributes(body, mapping, |index| {
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
        Ok(draft.bytes_string(&text)?)
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
        let attribute = tables.attribute(body, index).transpose()?;
        let attribute = attribute.unwrap_or_default();
        let is_service = self.service(index).is_some();
        let strings = self.export.strings();
        let key = origin::text(strings, attribute.key)?.filter(|_| !is_service);
        let value = origin::text(strings, attribute.value)?;
        self.n_unusable += u64::from(attribute.value == Value::Other);
        let label = match (key, value) {
            (Some(key), Some(value)) => (draft.string(&key)?, draft.string(&value)?),
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
    pub(super) fn link(&self, index: u32) -> Result<Ids, Problem> {
        let tables = &self.export.dictionary;
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

    fn string(&self, draft: &mut Draft, index: u32) -> Result<u32, Problem> {
        let strings = &self.export.dictionary.strings;
        match strings.get(index as usize) {
            Some(place) => Ok(draft.bytes_string(place.of(self.export.body))?),
            None if index == 0 => Ok(0),
            None => Err(Problem::Index {
                what: "a text",
                table: "string_table",
                index,
                n: strings.len(),
            }),
        }
    }

    const fn memo(&self, id: u64) -> Memo {
        Memo {
            draft: self.draft,
            id: id as u32,
        }
    }
}

fn attribute_outside(what: &'static str, index: u32, n: usize) -> Problem {
    Problem::Index {
        what,
        table: "attribute_table",
        index,
        n,
    }
}
