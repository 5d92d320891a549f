//! Interning decoded profiles: only what their samples use.

use std::ops::Range;

use scoria_model::part::{Function, Line, Mapping, NONE, PartView};

use crate::{Dictionary, ROOT};

/// What one part's indexes became in one dictionary. Reused between parts, so that nothing is
/// allocated per profile.
#[derive(Debug, Default)]
pub struct InternScratch {
    /// The node of each of the part's stacks; [`NONE`] for a stack that no sample uses.
    pub stack_nodes: Vec<u32>,
    strings: Vec<u32>,
    mappings: Vec<u32>,
    functions: Vec<u32>,
    locations: Vec<u32>,
    lines: Vec<Line>,
    /// Of the stack at hand, leaf first.
    frames: Vec<u32>,
    path: Path,
}

/// The stack that was interned last, root first. The next one mostly shares its callers, and what
/// is known of those need not be looked up again.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// Its frames in the part, leaf first.
    frames: Vec<u32>,
    pub(crate) locations: Vec<u32>,
    /// As far as known; as long as `locations` between two stacks.
    pub(crate) nodes: Vec<u32>,
    /// Of the locations up to each.
    hashes: Vec<u64>,
}

impl Path {
    fn clear(&mut self) {
        self.frames.clear();
        self.truncate(0);
    }

    fn truncate(&mut self, depth: usize) {
        self.locations.truncate(depth);
        self.nodes.truncate(depth);
        self.hashes.truncate(depth);
    }
}

impl InternScratch {
    /// Forgets what was before: from now on it is true for this part, and for the dictionary that
    /// is asked next.
    pub fn start(&mut self, part: &PartView<'_>) {
        let unset = |ids: &mut Vec<u32>, n: usize| {
            ids.clear();
            ids.resize(n, NONE);
        };
        unset(&mut self.stack_nodes, part.stack_end.len());
        unset(&mut self.strings, part.string_end.len());
        unset(&mut self.mappings, part.mapping_start.len());
        unset(&mut self.functions, part.function_name.len());
        unset(&mut self.locations, part.location_mapping.len());
        self.path.clear();
    }
}

impl Dictionary {
    /// Interns the stacks that the part's samples use; `scratch.stack_nodes` then holds their
    /// nodes.
    pub fn intern(&mut self, part: &PartView<'_>, scratch: &mut InternScratch) {
        scratch.start(part);
        self.intern_samples(part, 0..part.sample_stack.len(), scratch);
    }

    /// Interns the stacks that some of the part's samples use, and adds their nodes to
    /// `scratch.stack_nodes`. The scratch was [started](InternScratch::start) with the part and has
    /// been used with no other dictionary since.
    pub fn intern_samples(
        &mut self,
        part: &PartView<'_>,
        samples: Range<usize>,
        scratch: &mut InternScratch,
    ) {
        for sample in samples {
            let stack = part.sample_stack.get(sample) as usize;
            if scratch.stack_nodes[stack] == NONE {
                self.resolve_path(part, part.stack_end.span(stack), scratch);
                scratch.stack_nodes[stack] = self.intern_path(&mut scratch.path);
            }
        }
    }

    /// Puts the locations of a stack into the path, keeping the nodes of what it shares with the
    /// stack before.
    fn resolve_path(
        &mut self,
        part: &PartView<'_>,
        places: Range<usize>,
        scratch: &mut InternScratch,
    ) {
        let mut frames = std::mem::take(&mut scratch.frames);
        part.frame.slice(places).copy_to(&mut frames);
        let pairs = frames.iter().rev().zip(scratch.path.frames.iter().rev());
        let shared = pairs.take_while(|(a, b)| a == b).count();
        scratch.path.truncate(shared);
        let mut hash = scratch.path.hashes.last().copied();
        for &frame in frames[..frames.len() - shared].iter().rev() {
            let frame = frame as usize;
            let mut location = scratch.locations[frame];
            if location == NONE {
                location = self.intern_location(part, frame, scratch);
                scratch.locations[frame] = location;
            }
            let next = self.stack_hash(hash, location);
            scratch.path.locations.push(location);
            scratch.path.hashes.push(next);
            hash = Some(next);
        }
        scratch.frames = std::mem::replace(&mut scratch.path.frames, frames);
    }

    fn intern_path(&mut self, path: &mut Path) -> u32 {
        let Some(&hash) = path.hashes.last() else {
            return ROOT;
        };
        let shared = path.nodes.len();
        if shared == path.locations.len() {
            // All of it is callers of the stack before.
            return path.nodes[shared - 1];
        }
        if let Some(node) = self.known_stack(hash, path) {
            return node;
        }
        path.nodes.truncate(shared);
        let mut node = path.nodes.last().copied().unwrap_or(ROOT);
        for &location in &path.locations[shared..] {
            node = self.node_id(node, location);
            path.nodes.push(node);
        }
        self.remember_stack(hash, node);
        node
    }

    fn intern_location(
        &mut self,
        part: &PartView<'_>,
        at: usize,
        scratch: &mut InternScratch,
    ) -> u32 {
        let mapping = match part.location_mapping.get(at) {
            NONE => NONE,
            mapping => self.intern_mapping(part, mapping as usize, scratch),
        };
        scratch.lines.clear();
        for line in part.location_lines_end.span(at) {
            let function = match part.line_function.get(line) {
                NONE => NONE,
                function => self.intern_function(part, function as usize, scratch),
            };
            scratch.lines.push(Line {
                function,
                line: part.line_number.get(line),
            });
        }
        self.location_id(mapping, part.location_address.get(at), &scratch.lines)
    }

    fn intern_mapping(
        &mut self,
        part: &PartView<'_>,
        at: usize,
        scratch: &mut InternScratch,
    ) -> u32 {
        if scratch.mappings[at] != NONE {
            return scratch.mappings[at];
        }
        let mapping = Mapping {
            start: part.mapping_start.get(at),
            limit: part.mapping_limit.get(at),
            offset: part.mapping_offset.get(at),
            filename: self.intern_string(part, part.mapping_filename.get(at), scratch),
            build_id: self.intern_string(part, part.mapping_build_id.get(at), scratch),
            flags: part.mapping_flags.get(at),
        };
        let id = self.mapping_id(mapping);
        scratch.mappings[at] = id;
        id
    }

    fn intern_function(
        &mut self,
        part: &PartView<'_>,
        at: usize,
        scratch: &mut InternScratch,
    ) -> u32 {
        if scratch.functions[at] != NONE {
            return scratch.functions[at];
        }
        let function = Function {
            name: self.intern_string(part, part.function_name.get(at), scratch),
            system_name: self.intern_string(part, part.function_system_name.get(at), scratch),
            filename: self.intern_string(part, part.function_filename.get(at), scratch),
            start_line: part.function_start_line.get(at),
        };
        let id = self.function_id(function);
        scratch.functions[at] = id;
        id
    }

    fn intern_string(&mut self, part: &PartView<'_>, at: u32, scratch: &mut InternScratch) -> u32 {
        let known = scratch.strings[at as usize];
        if known != NONE {
            return known;
        }
        let id = self.string_id(part.string(at));
        scratch.strings[at as usize] = id;
        id
    }
}
