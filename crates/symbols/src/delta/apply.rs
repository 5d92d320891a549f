//! Reading a delta, believing nothing of it.

use scoria_model::part::{Function, Line, Mapping, NONE};
use scoria_model::varint::{Reader, VarintError};

use super::{Context, SHARED_MAX, function_head, location_head, node_code};
use crate::dictionary::Dictionary;
use crate::error::SymbolsError;

/// The most entries of a table: ids must stay below [`NONE`].
const ENTRIES_MAX: u32 = NONE - 1;

impl Dictionary {
    /// Takes over a delta that another dictionary encoded when it held the entries that this one
    /// holds now.
    ///
    /// # Errors
    /// For anything that the other dictionary cannot have written. Part of the delta may have been
    /// taken over then, and the dictionary is not to be used any further.
    pub fn apply(&mut self, delta: &mut Reader<'_>) -> Result<(), SymbolsError> {
        let mut context = std::mem::take(&mut self.context);
        let mark = self.mark();
        if context.mark != mark {
            context = Context::at(self, mark);
        }
        let strings = count(delta, "strings", mark.strings)?;
        let mappings = count(delta, "mappings", mark.mappings)?;
        let functions = count(delta, "functions", mark.functions)?;
        let locations = count(delta, "locations", mark.locations)?;
        let nodes = count(delta, "nodes", mark.nodes)?;
        let mut text = String::new();
        for _ in 0..strings {
            self.apply_string(delta, &mut text)?;
        }
        for _ in 0..mappings {
            self.apply_mapping(delta, &mut context)?;
        }
        for _ in 0..functions {
            self.apply_function(delta, &mut context)?;
        }
        let mut lines = Vec::new();
        for _ in 0..locations {
            self.apply_location(delta, &mut context, &mut lines)?;
        }
        self.apply_nodes(nodes, delta, &mut context)?;
        context.mark = self.mark();
        self.context = context;
        Ok(())
    }

    fn apply_string(
        &mut self,
        delta: &mut Reader<'_>,
        text: &mut String,
    ) -> Result<(), SymbolsError> {
        let at = self.strings.len();
        let shared = read(delta.u64(), "strings")?;
        let rest = read(delta.bytes(), "strings")?;
        let rest = std::str::from_utf8(rest).map_err(|_| SymbolsError::Utf8 { at })?;
        let before = self.string(at as u32 - 1);
        let size = before.len().min(SHARED_MAX);
        let prefix = usize::try_from(shared)
            .ok()
            .filter(|&shared| shared <= size)
            .and_then(|shared| before.get(..shared))
            .ok_or(SymbolsError::Index {
                table: "string",
                at,
                field: "shared length",
                value: shared,
                size,
            })?;
        text.clear();
        text.push_str(prefix);
        text.push_str(rest);
        let id = self.string_id(text);
        new_entry("string", at, id)
    }

    fn apply_mapping(
        &mut self,
        delta: &mut Reader<'_>,
        context: &mut Context,
    ) -> Result<(), SymbolsError> {
        let at = self.mappings.len();
        let mut string = |field| {
            let id = read(delta.u64(), "mappings")?;
            reference(("mapping", at, field), id, self.strings.len())
        };
        let (filename, build_id) = (string("filename")?, string("build id")?);
        let start = read(delta.u64(), "mappings")?;
        let mapping = Mapping {
            start,
            limit: start.wrapping_add(read(delta.u64(), "mappings")?),
            offset: read(delta.u64(), "mappings")?,
            filename,
            build_id,
            flags: read(delta.u32(), "mappings")?,
        };
        context.saw_mapping(filename, build_id);
        let id = self.mapping_id(mapping);
        new_entry("mapping", at, id)
    }

    fn apply_function(
        &mut self,
        delta: &mut Reader<'_>,
        context: &mut Context,
    ) -> Result<(), SymbolsError> {
        use function_head::{
            ALL, FILENAME_AS_BEFORE, FILENAME_FRESH, NAME_FRESH, START_LINE, SYSTEM_NAME_IS_NAME,
        };
        let at = self.functions.len();
        let size = self.strings.len();
        let head = read(delta.u8(), "functions")?;
        reference(
            ("function", at, "head"),
            u64::from(head),
            usize::from(ALL) + 1,
        )?;
        let has = |bit: u8| head & bit != 0;
        let mut strings = context.strings;
        let name = if has(NAME_FRESH) {
            u64::from(strings.id())
        } else {
            read(delta.u64(), "functions")?
        };
        let name = reference(("function", at, "name"), name, size)?;
        strings.saw(name);
        let system_name = if has(SYSTEM_NAME_IS_NAME) {
            u64::from(name)
        } else {
            strings.decode(read(delta.u64(), "functions")?)
        };
        let system_name = reference(("function", at, "system name"), system_name, size)?;
        strings.saw(system_name);
        let filename = if has(FILENAME_AS_BEFORE) {
            u64::from(context.filename)
        } else if has(FILENAME_FRESH) {
            u64::from(strings.id())
        } else {
            read(delta.u64(), "functions")?
        };
        let function = Function {
            name,
            system_name,
            filename: reference(("function", at, "filename"), filename, size)?,
            start_line: if has(START_LINE) {
                read(delta.i64(), "functions")?
            } else {
                0
            },
        };
        context.saw_function(&function);
        let id = self.function_id(function);
        new_entry("function", at, id)
    }

    fn apply_location(
        &mut self,
        delta: &mut Reader<'_>,
        context: &mut Context,
        lines: &mut Vec<Line>,
    ) -> Result<(), SymbolsError> {
        use location_head::{ADDRESS, LINES_FOLLOW, LINES_SHIFT, MAPPING_AS_BEFORE};
        let at = self.locations.len();
        let head = read(delta.u8(), "locations")?;
        let mapping = if head & MAPPING_AS_BEFORE != 0 {
            context.mapping
        } else {
            match read(delta.u64(), "locations")? {
                0 => NONE,
                id => reference(("location", at, "mapping"), id - 1, self.mappings.len())?,
            }
        };
        let address = if head & ADDRESS != 0 {
            read(delta.u64(), "locations")?
        } else {
            0
        };
        let n_lines = match head >> LINES_SHIFT {
            LINES_FOLLOW => read(delta.count(), "locations")?,
            few => usize::from(few),
        };
        lines.clear();
        let mut functions = context.functions;
        for line in 0..n_lines {
            let function = self.line_function(delta, context, (at, line, head), functions.id())?;
            if function != NONE {
                functions.saw(function);
            }
            let number = read(delta.i64(), "locations")?;
            lines.push(Line {
                function,
                line: number.wrapping_add(context.line_before(function)),
            });
        }
        context.saw_location(mapping, lines);
        let id = self.location_id(mapping, address, lines);
        new_entry("location", at, id)
    }

    /// The function of a line; `place` is the location, the line within it, and the location's
    /// head.
    fn line_function(
        &self,
        delta: &mut Reader<'_>,
        context: &Context,
        place: (usize, usize, u8),
        fresh: u32,
    ) -> Result<u32, SymbolsError> {
        use location_head::{FUNCTION_AS_BEFORE, FUNCTION_FRESH};
        let (at, line, head) = place;
        let id = if line == 0 && head & FUNCTION_FRESH != 0 {
            u64::from(fresh)
        } else if line == 0 && head & FUNCTION_AS_BEFORE != 0 {
            match context.first_function {
                NONE => return Ok(NONE),
                id => u64::from(id),
            }
        } else {
            match read(delta.u64(), "locations")? {
                0 => u64::from(fresh),
                1 => return Ok(NONE),
                code => code - 2,
            }
        };
        reference(("location", at, "function"), id, self.functions.len())
    }

    fn apply_nodes(
        &mut self,
        n: usize,
        delta: &mut Reader<'_>,
        context: &mut Context,
    ) -> Result<(), SymbolsError> {
        let mut parent = None;
        for _ in 0..n {
            let at = self.nodes.len();
            let parent_of = |distance: u64| {
                let far = SymbolsError::Index {
                    table: "node",
                    at,
                    field: "distance to its parent",
                    value: distance,
                    size: at + 1,
                };
                match (at as u64).checked_sub(distance) {
                    Some(parent) if distance > 0 => Ok(parent as u32),
                    _ => Err(far),
                }
            };
            let above = match parent {
                Some(parent) => parent,
                None => parent_of(read(delta.u64(), "nodes")?)?,
            };
            let code = read(delta.u64(), "nodes")?;
            let [likely, second] = context.likely(self.location_of(above));
            let location = match code >> 1 {
                node_code::FRESH => u64::from(context.locations.id()),
                node_code::LIKELY => u64::from(likely),
                node_code::LIKELY_SECOND => u64::from(second),
                explicit => explicit - node_code::EXPLICIT,
            };
            let location = reference(("node", at, "location"), location, self.locations.len())?;
            context.saw_node(self.location_of(above), location);
            let id = self.node_id(above, location);
            new_entry("node", at, id)?;
            parent = (code & 1 == 0).then_some(id);
        }
        Ok(())
    }
}

fn read<T>(value: Result<T, VarintError>, table: &'static str) -> Result<T, SymbolsError> {
    value.map_err(|source| SymbolsError::Varint { table, source })
}

/// How many entries follow. Each takes a byte at least, so a count never reserves more than the
/// delta is long.
fn count(delta: &mut Reader<'_>, table: &'static str, held: u32) -> Result<usize, SymbolsError> {
    let n = read(delta.count(), table)?;
    let size = n as u64 + u64::from(held);
    if size > u64::from(ENTRIES_MAX) {
        return Err(SymbolsError::Full {
            table,
            size,
            limit: ENTRIES_MAX,
        });
    }
    Ok(n)
}

fn reference(
    place: (&'static str, usize, &'static str),
    value: u64,
    size: usize,
) -> Result<u32, SymbolsError> {
    let (table, at, field) = place;
    match u32::try_from(value) {
        Ok(id) if (id as usize) < size => Ok(id),
        _ => Err(SymbolsError::Index {
            table,
            at,
            field,
            value,
            size,
        }),
    }
}

fn new_entry(table: &'static str, at: usize, id: u32) -> Result<(), SymbolsError> {
    if id as usize == at {
        Ok(())
    } else {
        Err(SymbolsError::Repeated {
            table,
            at,
            first: id,
        })
    }
}
