//! The growing tables and the hash tables that find entries in them.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use scoria_model::part::{Function, Line, Mapping};

use crate::ROOT;
use crate::chunked::{Arena, Chunked, Span};
use crate::delta::Context;
use crate::intern::Path;
use crate::symbols::{LocationRow, Node, Symbols};

/// The lengths of a dictionary's tables at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub strings: u32,
    pub mappings: u32,
    pub functions: u32,
    pub locations: u32,
    pub nodes: u32,
}

impl Mark {
    /// What every dictionary starts with: the empty string and the root.
    pub const EMPTY: Self = Self {
        strings: 1,
        mappings: 0,
        functions: 0,
        locations: 0,
        nodes: 1,
    };
}

/// A stack that was met before: a shortened hash of its locations, and its node.
#[derive(Debug, Clone, Copy)]
struct KnownStack {
    hash: u32,
    node: u32,
}

/// Append-only interner of one dataset.
///
/// Ids are given in order of arrival and do not depend on the hash seed, which differs between
/// dictionaries so that nobody can choose symbols that collide.
#[derive(Debug)]
pub struct Dictionary {
    pub(crate) strings: Chunked<Span>,
    pub(crate) text: Arena<String>,
    pub(crate) mappings: Chunked<Mapping>,
    pub(crate) functions: Chunked<Function>,
    pub(crate) locations: Chunked<LocationRow>,
    pub(crate) lines: Arena<Vec<Line>>,
    pub(crate) nodes: Chunked<Node>,
    pub(crate) context: Context,
    seed: RandomState,
    stack_seed: u64,
    string_ids: HashTable<u32>,
    mapping_ids: HashTable<u32>,
    function_ids: HashTable<u32>,
    location_ids: HashTable<u32>,
    node_ids: HashTable<u32>,
    stacks: HashTable<KnownStack>,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self::new()
    }
}

impl Dictionary {
    pub fn new() -> Self {
        let seed = RandomState::default();
        let mut dictionary = Self {
            strings: Chunked::default(),
            text: Arena::default(),
            mappings: Chunked::default(),
            functions: Chunked::default(),
            locations: Chunked::default(),
            lines: Arena::default(),
            nodes: Chunked::default(),
            context: Context::default(),
            stack_seed: seed.hash_one(0u64),
            seed,
            string_ids: HashTable::new(),
            mapping_ids: HashTable::new(),
            function_ids: HashTable::new(),
            location_ids: HashTable::new(),
            node_ids: HashTable::new(),
            stacks: HashTable::new(),
        };
        dictionary.string_id("");
        dictionary.nodes.push(Node::ROOT);
        dictionary
    }

    pub fn mark(&self) -> Mark {
        Mark {
            strings: self.strings.len() as u32,
            mappings: self.mappings.len() as u32,
            functions: self.functions.len() as u32,
            locations: self.locations.len() as u32,
            nodes: self.nodes.len() as u32,
        }
    }

    /// Memory held, including the hash tables; snapshots share most of it.
    pub fn bytes(&self) -> u64 {
        let tables = [
            self.string_ids.allocation_size(),
            self.mapping_ids.allocation_size(),
            self.function_ids.allocation_size(),
            self.location_ids.allocation_size(),
            self.node_ids.allocation_size(),
            self.stacks.allocation_size(),
            size_of::<Self>(),
        ];
        self.strings.bytes()
            + self.text.bytes()
            + self.mappings.bytes()
            + self.functions.bytes()
            + self.locations.bytes()
            + self.lines.bytes()
            + self.nodes.bytes()
            + self.context.bytes()
            + tables.iter().sum::<usize>() as u64
    }

    /// The tables as they are now. Costs the number of chunks and the unfinished chunk of each
    /// table, not the number of entries.
    pub fn snapshot(&self) -> Symbols {
        Symbols {
            strings: self.strings.snapshot(),
            text: self.text.snapshot(),
            mappings: self.mappings.snapshot(),
            functions: self.functions.snapshot(),
            locations: self.locations.snapshot(),
            lines: self.lines.snapshot(),
            nodes: self.nodes.snapshot(),
        }
    }

    pub(crate) fn string(&self, id: u32) -> &str {
        self.text.get(self.strings.get(id))
    }

    pub(crate) fn string_id(&mut self, text: &str) -> u32 {
        let hash = self.seed.hash_one(text);
        let (strings, arena) = (&self.strings, &self.text);
        if let Some(&id) = self
            .string_ids
            .find(hash, |&id| arena.get(strings.get(id)) == text)
        {
            return id;
        }
        let span = self.text.push(text);
        let id = self.strings.push(span);
        let (strings, arena, seed) = (&self.strings, &self.text, &self.seed);
        self.string_ids
            .insert_unique(hash, id, |&id| seed.hash_one(arena.get(strings.get(id))));
        id
    }

    pub(crate) fn mapping_id(&mut self, mapping: Mapping) -> u32 {
        let hash = hash_mapping(&self.seed, &mapping);
        let mappings = &self.mappings;
        if let Some(&id) = self
            .mapping_ids
            .find(hash, |&id| mappings.get(id) == mapping)
        {
            return id;
        }
        let id = self.mappings.push(mapping);
        let (mappings, seed) = (&self.mappings, &self.seed);
        self.mapping_ids
            .insert_unique(hash, id, |&id| hash_mapping(seed, &mappings.get(id)));
        id
    }

    pub(crate) fn function_id(&mut self, function: Function) -> u32 {
        let hash = hash_function(self.stack_seed, &function);
        let functions = &self.functions;
        if let Some(&id) = self
            .function_ids
            .find(hash, |&id| functions.get(id) == function)
        {
            return id;
        }
        let id = self.functions.push(function);
        let (functions, seed) = (&self.functions, self.stack_seed);
        self.function_ids
            .insert_unique(hash, id, |&id| hash_function(seed, &functions.get(id)));
        id
    }

    pub(crate) fn location_id(&mut self, mapping: u32, address: u64, lines: &[Line]) -> u32 {
        let hash = hash_location(self.stack_seed, mapping, address, lines);
        let (locations, arena) = (&self.locations, &self.lines);
        if let Some(&id) = self.location_ids.find(hash, |&id| {
            let row = locations.get(id);
            row.mapping == mapping && row.address == address && arena.get(row.lines) == lines
        }) {
            return id;
        }
        let row = LocationRow {
            address,
            mapping,
            lines: self.lines.push(lines),
        };
        let id = self.locations.push(row);
        let (locations, arena, seed) = (&self.locations, &self.lines, self.stack_seed);
        self.location_ids.insert_unique(hash, id, |&id| {
            let row = locations.get(id);
            hash_location(seed, row.mapping, row.address, arena.get(row.lines))
        });
        id
    }

    pub(crate) fn node_id(&mut self, parent: u32, location: u32) -> u32 {
        let node = Node { parent, location };
        let hash = hash_node(self.stack_seed, node);
        let nodes = &self.nodes;
        if let Some(&id) = self.node_ids.find(hash, |&id| nodes.get(id) == node) {
            return id;
        }
        let id = self.nodes.push(node);
        let (nodes, seed) = (&self.nodes, self.stack_seed);
        self.node_ids
            .insert_unique(hash, id, |&id| hash_node(seed, nodes.get(id)));
        id
    }

    /// The node of a stack whose locations have this hash, if it was met before. The path's nodes
    /// are those of what the stack shares with the one before it; if the stack is found, they are
    /// then all known.
    pub(crate) fn known_stack(&self, hash: u64, path: &mut Path) -> Option<u32> {
        let shared = path.nodes.len();
        let caller = path.nodes.last().copied().unwrap_or(ROOT);
        path.nodes.resize(path.locations.len(), ROOT);
        let locations = &path.locations[shared..];
        let nodes = &mut path.nodes[shared..];
        self.stacks
            .find(spread(hash as u32), |known| {
                known.hash == hash as u32 && self.is_path(known.node, locations, (nodes, caller))
            })
            .map(|known| known.node)
    }

    /// Remembers a stack that [`Dictionary::known_stack`] did not find.
    pub(crate) fn remember_stack(&mut self, hash: u64, node: u32) {
        let hash = hash as u32;
        self.stacks
            .insert_unique(spread(hash), KnownStack { hash, node }, |known| {
                spread(known.hash)
            });
    }

    /// Whether a node's stack is these locations, root first, called from the node `caller`; writes
    /// down the nodes it passes.
    fn is_path(
        &self,
        mut node: u32,
        locations: &[u32],
        (nodes, caller): (&mut [u32], u32),
    ) -> bool {
        let mut wanted = locations.iter().zip(nodes).rev();
        loop {
            // No location is that of the root, so that no path goes on above it.
            // The nodes of a stack are mostly made one after the other, so that callers lie side by
            // side: going on to the neighbour does not have to wait for the parent to be read.
            for at in self.nodes.up_to(node).iter().rev() {
                let Some((&location, passed)) = wanted.next() else {
                    return node == caller;
                };
                if at.location != location {
                    return false;
                }
                *passed = node;
                let neighbour = node.wrapping_sub(1);
                if at.parent != neighbour {
                    node = at.parent;
                    break;
                }
                node = neighbour;
            }
        }
    }

    /// The hash of a stack whose callers, if it has any, have the hash `above`.
    #[inline]
    pub(crate) fn stack_hash(&self, above: Option<u64>, location: u32) -> u64 {
        let above = above.unwrap_or(self.stack_seed);
        fold(above ^ u64::from(location), STACK_FACTOR)
    }
}

const STACK_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// hashbrown takes its tag from the high bits and its place from the low ones.
fn spread(hash: u32) -> u64 {
    fold(u64::from(hash) | 1 << 32, STACK_FACTOR)
}

fn hash_node(seed: u64, node: Node) -> u64 {
    let key = u64::from(node.parent) << 32 | u64::from(node.location);
    fold(key ^ seed, STACK_FACTOR)
}

fn hash_mapping(seed: &RandomState, mapping: &Mapping) -> u64 {
    let mut hash = seed.build_hasher();
    hash.write_u64(mapping.start);
    hash.write_u64(mapping.limit);
    hash.write_u64(mapping.offset);
    hash.write_u32(mapping.filename);
    hash.write_u32(mapping.build_id);
    hash.write_u32(mapping.flags);
    hash.finish()
}

fn hash_function(seed: u64, function: &Function) -> u64 {
    let names = u64::from(function.name) << 32 | u64::from(function.system_name);
    let place = u64::from(function.filename) ^ (function.start_line as u64).rotate_left(32);
    fold(fold(names ^ seed, STACK_FACTOR) ^ place, STACK_FACTOR)
}

fn hash_location(seed: u64, mapping: u32, address: u64, lines: &[Line]) -> u64 {
    let mut hash = fold(address ^ seed, STACK_FACTOR) ^ u64::from(mapping);
    for line in lines {
        let line = u64::from(line.function) ^ (line.line as u64).rotate_left(32);
        hash = fold(hash ^ line, STACK_FACTOR);
    }
    hash
}
