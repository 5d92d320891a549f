//! What encoder and decoder both know at a mark.

use scoria_model::part::{Function, Line, NONE};

use crate::ROOT;
use crate::dictionary::{Dictionary, Mark};

/// One past the highest entry of a table that anything has referred to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fresh(u32);

impl Fresh {
    /// 0 for the next fresh entry, else the id and one.
    pub(super) fn code(self, id: u32) -> u64 {
        if id == self.0 { 0 } else { u64::from(id) + 1 }
    }

    /// The inverse of [`Fresh::code`], unchecked.
    pub(super) fn decode(self, code: u64) -> u64 {
        match code {
            0 => u64::from(self.0),
            code => code - 1,
        }
    }

    pub(super) fn is(self, id: u32) -> bool {
        id == self.0
    }

    pub(super) fn id(self) -> u32 {
        self.0
    }

    pub(super) fn saw(&mut self, id: u32) {
        self.0 = self.0.max(id.saturating_add(1));
    }
}

/// The state of the codes after the entries up to `mark`.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(super) mark: Mark,
    pub(super) strings: Fresh,
    pub(super) functions: Fresh,
    pub(super) locations: Fresh,
    /// Of the function before.
    pub(super) filename: u32,
    /// Of the location before.
    pub(super) mapping: u32,
    /// Of the location before.
    pub(super) first_function: u32,
    /// Per function, the line that was named last; its start line before that.
    lines: Vec<i64>,
    /// Per location, the two locations that were met last right below it; the root's come first.
    below: Vec<[u32; 2]>,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            mark: Mark::EMPTY,
            strings: Fresh(1),
            functions: Fresh(0),
            locations: Fresh(0),
            filename: 0,
            mapping: NONE,
            first_function: NONE,
            lines: Vec::new(),
            below: vec![[NONE; 2]],
        }
    }
}

impl Context {
    pub(crate) fn bytes(&self) -> u64 {
        let lines = self.lines.capacity() * size_of::<i64>();
        (lines + self.below.capacity() * size_of::<[u32; 2]>()) as u64
    }

    /// The context after the first entries of a dictionary.
    pub(super) fn at(dictionary: &Dictionary, mark: Mark) -> Self {
        let mut context = Self::default();
        for id in 0..mark.mappings {
            let mapping = dictionary.mappings.get(id);
            context.saw_mapping(mapping.filename, mapping.build_id);
        }
        for id in 0..mark.functions {
            context.saw_function(&dictionary.functions.get(id));
        }
        for id in 0..mark.locations {
            let row = dictionary.locations.get(id);
            context.saw_location(row.mapping, dictionary.lines.get(row.lines));
        }
        for id in 1..mark.nodes {
            let node = dictionary.nodes.get(id);
            context.saw_node(dictionary.location_of(node.parent), node.location);
        }
        context.mark = mark;
        context
    }

    pub(super) fn saw_mapping(&mut self, filename: u32, build_id: u32) {
        self.strings.saw(filename);
        self.strings.saw(build_id);
    }

    pub(super) fn saw_function(&mut self, function: &Function) {
        self.strings.saw(function.name);
        self.strings.saw(function.system_name);
        self.strings.saw(function.filename);
        self.filename = function.filename;
        self.lines.push(function.start_line);
    }

    pub(super) fn saw_location(&mut self, mapping: u32, lines: &[Line]) {
        self.mapping = mapping;
        self.first_function = lines.first().map_or(NONE, |line| line.function);
        for line in lines {
            self.saw_line(*line);
        }
        self.below.push([NONE; 2]);
    }

    fn saw_line(&mut self, line: Line) {
        if line.function != NONE {
            self.functions.saw(line.function);
            if let Some(last) = self.lines.get_mut(line.function as usize) {
                *last = line.line;
            }
        }
    }

    /// What a line of the function is given relative to.
    pub(super) fn line_before(&self, function: u32) -> i64 {
        self.lines.get(function as usize).copied().unwrap_or(0)
    }

    /// What most likely stands below a location ([`NONE`] for the root).
    pub(super) fn likely(&self, above: u32) -> [u32; 2] {
        self.below[above.wrapping_add(1) as usize]
    }

    pub(super) fn saw_node(&mut self, above: u32, location: u32) {
        self.locations.saw(location);
        let likely = &mut self.below[above.wrapping_add(1) as usize];
        if likely[0] != location {
            *likely = [location, likely[0]];
        }
    }
}

impl Dictionary {
    /// [`NONE`] for the root.
    pub(super) fn location_of(&self, node: u32) -> u32 {
        if node == ROOT {
            NONE
        } else {
            self.nodes.get(node).location
        }
    }
}
