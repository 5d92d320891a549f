//! Writing a delta.

use scoria_model::part::NONE;
use scoria_model::varint::{put_bytes, put_i64, put_u64};

use super::{Context, SHARED_MAX, function_head, location_head, node_code};
use crate::dictionary::{Dictionary, Mark};

impl Dictionary {
    /// Appends everything that came after `from` to `out`.
    ///
    /// `from` must be a mark of this dictionary. It costs what is new when it is the mark at which
    /// the last call or [`Dictionary::apply`] ended, and the whole tables otherwise.
    pub fn encode_since(&mut self, from: &Mark, out: &mut Vec<u8>) {
        let mut context = std::mem::take(&mut self.context);
        if context.mark != *from {
            context = Context::at(self, *from);
        }
        let to = self.mark();
        put_u64(out, u64::from(to.strings - from.strings));
        put_u64(out, u64::from(to.mappings - from.mappings));
        put_u64(out, u64::from(to.functions - from.functions));
        put_u64(out, u64::from(to.locations - from.locations));
        put_u64(out, u64::from(to.nodes - from.nodes));
        for id in from.strings..to.strings {
            self.encode_string(id, out);
        }
        for id in from.mappings..to.mappings {
            self.encode_mapping(id, &mut context, out);
        }
        for id in from.functions..to.functions {
            self.encode_function(id, &mut context, out);
        }
        for id in from.locations..to.locations {
            self.encode_location(id, &mut context, out);
        }
        self.encode_nodes(from.nodes..to.nodes, &mut context, out);
        context.mark = to;
        self.context = context;
    }

    fn encode_string(&self, id: u32, out: &mut Vec<u8>) {
        let (before, text) = (self.string(id - 1), self.string(id));
        let equal = before
            .bytes()
            .zip(text.bytes())
            .take(SHARED_MAX)
            .take_while(|(a, b)| a == b)
            .count();
        let shared = text.floor_char_boundary(equal);
        put_u64(out, shared as u64);
        put_bytes(out, &text.as_bytes()[shared..]);
    }

    fn encode_mapping(&self, id: u32, context: &mut Context, out: &mut Vec<u8>) {
        let mapping = self.mappings.get(id);
        put_u64(out, u64::from(mapping.filename));
        put_u64(out, u64::from(mapping.build_id));
        put_u64(out, mapping.start);
        put_u64(out, mapping.limit.wrapping_sub(mapping.start));
        put_u64(out, mapping.offset);
        put_u64(out, u64::from(mapping.flags));
        context.saw_mapping(mapping.filename, mapping.build_id);
    }

    fn encode_function(&self, id: u32, context: &mut Context, out: &mut Vec<u8>) {
        use function_head::{
            FILENAME_AS_BEFORE, FILENAME_FRESH, NAME_FRESH, START_LINE, SYSTEM_NAME_IS_NAME,
        };
        let function = self.functions.get(id);
        let place = out.len();
        out.push(0);
        let mut head = 0;
        let mut strings = context.strings;
        if strings.is(function.name) {
            head |= NAME_FRESH;
        } else {
            put_u64(out, u64::from(function.name));
        }
        strings.saw(function.name);
        if function.system_name == function.name {
            head |= SYSTEM_NAME_IS_NAME;
        } else {
            put_u64(out, strings.code(function.system_name));
        }
        strings.saw(function.system_name);
        if function.filename == context.filename {
            head |= FILENAME_AS_BEFORE;
        } else if strings.is(function.filename) {
            head |= FILENAME_FRESH;
        } else {
            put_u64(out, u64::from(function.filename));
        }
        if function.start_line != 0 {
            head |= START_LINE;
            put_i64(out, function.start_line);
        }
        out[place] = head;
        context.saw_function(&function);
    }

    fn encode_location(&self, id: u32, context: &mut Context, out: &mut Vec<u8>) {
        use location_head::{
            ADDRESS, FUNCTION_AS_BEFORE, FUNCTION_FRESH, LINES_FOLLOW, LINES_SHIFT,
            MAPPING_AS_BEFORE,
        };
        let row = self.locations.get(id);
        let lines = self.lines.get(row.lines);
        let few = u8::try_from(lines.len()).map_or(LINES_FOLLOW, |n| n.min(LINES_FOLLOW));
        let place = out.len();
        out.push(0);
        let mut head = few << LINES_SHIFT;
        if row.mapping == context.mapping {
            head |= MAPPING_AS_BEFORE;
        } else {
            put_u64(out, u64::from(row.mapping.wrapping_add(1)));
        }
        if row.address != 0 {
            head |= ADDRESS;
            put_u64(out, row.address);
        }
        if few == LINES_FOLLOW {
            put_u64(out, lines.len() as u64);
        }
        let mut functions = context.functions;
        for (at, line) in lines.iter().enumerate() {
            if at == 0 && functions.is(line.function) {
                head |= FUNCTION_FRESH;
            } else if at == 0 && line.function == context.first_function {
                head |= FUNCTION_AS_BEFORE;
            } else {
                put_u64(
                    out,
                    function_code(functions.code(line.function), line.function),
                );
            }
            if line.function != NONE {
                functions.saw(line.function);
            }
            put_i64(
                out,
                line.line.wrapping_sub(context.line_before(line.function)),
            );
        }
        out[place] = head;
        context.saw_location(row.mapping, lines);
    }

    fn encode_nodes(&self, ids: std::ops::Range<u32>, context: &mut Context, out: &mut Vec<u8>) {
        let (start, end) = (ids.start, ids.end);
        for id in ids {
            let node = self.nodes.get(id);
            if id == start || node.parent != id - 1 {
                put_u64(out, u64::from(id - node.parent));
            }
            let above = self.location_of(node.parent);
            let [likely, second] = context.likely(above);
            let code = if context.locations.is(node.location) {
                node_code::FRESH
            } else if likely == node.location {
                node_code::LIKELY
            } else if second == node.location {
                node_code::LIKELY_SECOND
            } else {
                node_code::EXPLICIT + u64::from(node.location)
            };
            let last = id + 1 == end || self.nodes.get(id + 1).parent != id;
            put_u64(out, code << 1 | u64::from(last));
            context.saw_node(above, node.location);
        }
    }
}

/// 0 is fresh, 1 is absent, else the id and two.
fn function_code(code: u64, function: u32) -> u64 {
    match (code, function) {
        (_, NONE) => 1,
        (0, _) => 0,
        (code, _) => code + 1,
    }
}
