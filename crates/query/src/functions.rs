//! The stack tree by function names: what a flame graph is made of.
//!
//! Stacktraces are stored by location; a viewer wants them by function name, inlined calls
//! included. The way from one tree to the other depends only on the symbols, so it is worked out
//! once per dataset and kept beside them: a query then adds up dense columns and hashes nothing.
//!
//! # Invariants
//! - Node 0 is the root; every other node's parent is smaller than the node itself.
//! - No two names are equal, and no two children of a node have the same name.
//! - No name is empty: what has no symbol is shown by its address.
//!
//! # What it must not know
//! Values, times and queries.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use scoria_model::part::NONE;
use scoria_symbols::Symbols;

use crate::merge::TreeShape;

/// Shown where nothing at all is known about a frame, and for samples without any frame.
pub const UNKNOWN: &str = "[unknown]";
/// The node of samples without any frame, which every tree has.
const WITHOUT_FRAMES: u32 = 1;

/// The function-level tree of one dataset's symbols, which it must be used with.
#[derive(Debug, Clone)]
pub struct FunctionTree {
    /// The function node of each node of the stack tree.
    node_of: Vec<u32>,
    /// What trees of values share.
    shape: Arc<TreeShape>,
    index: Index,
}

/// What finds the entries of a tree that still grows.
#[derive(Debug, Clone, Default)]
struct Index {
    /// Nodes by parent and name.
    children: HashTable<u32>,
    /// The name that each string of the symbols is, if it was needed.
    name_of_string: Vec<u32>,
}

impl Default for FunctionTree {
    fn default() -> Self {
        Self::new()
    }
}

impl FunctionTree {
    /// The tree of no symbols: a root, and a node for samples without frames.
    pub fn new() -> Self {
        let mut growing = Growing::default();
        let name = growing.shape.names.intern(UNKNOWN);
        growing.child(0, name);
        Self {
            node_of: Vec::new(),
            shape: Arc::new(growing.shape),
            index: growing.index,
        }
    }

    /// The finished tree of symbols that do not grow any more.
    pub fn of(symbols: &Symbols) -> Self {
        let mut tree = Self::new();
        let mut shape = tree.grow(symbols);
        tree.index = Index::default();
        shape.finish();
        tree.shape = Arc::new(shape);
        tree
    }

    /// Takes in the nodes that came since the last call. `symbols` must be of the same dictionary
    /// every time, and the tree one of [`FunctionTree::new`].
    pub fn extend(&mut self, symbols: &Symbols) {
        let shape = self.grow(symbols);
        self.shape = Arc::new(shape);
    }

    /// Takes the shape out, which is copied if a tree of values has it too, and grows it.
    fn grow(&mut self, symbols: &Symbols) -> TreeShape {
        let mut growing = Growing {
            shape: Arc::unwrap_or_clone(std::mem::take(&mut self.shape)),
            index: std::mem::take(&mut self.index),
        };
        let known = self.node_of.len();
        let more = symbols.nodes_len().saturating_sub(known);
        self.node_of.reserve(more);
        growing.reserve(more);
        growing
            .index
            .name_of_string
            .resize(symbols.strings_len(), NONE);
        for (parent, location) in symbols.nodes().skip(known) {
            let at = match self.node_of.get(parent as usize) {
                Some(_) if parent == 0 => growing.descend(symbols, 0, location),
                Some(&above) => growing.descend(symbols, above, location),
                None => WITHOUT_FRAMES,
            };
            self.node_of.push(at);
        }
        self.index = growing.index;
        growing.shape
    }

    /// Number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.shape.parent.len()
    }

    /// Whether there is no function.
    pub fn is_empty(&self) -> bool {
        self.len() == 1 + WITHOUT_FRAMES as usize
    }

    /// The function node of each node of the stack tree.
    pub fn node_of(&self) -> &[u32] {
        &self.node_of
    }

    pub(crate) const fn shape(&self) -> &Arc<TreeShape> {
        &self.shape
    }

    /// The parent of each node; [`NONE`] for the root.
    pub fn parents(&self) -> &[u32] {
        &self.shape.parent
    }

    /// The name of a node. The root's is meaningless.
    pub fn name(&self, node: usize) -> &str {
        self.shape.names.get(self.shape.name[node])
    }

    /// Which nodes lie at or below a call site, given from the root. An empty one takes all.
    pub fn below(&self, call_site: &[impl AsRef<str>]) -> Vec<bool> {
        // How many functions of the call site the path to a node has matched so far.
        let mut matched: Vec<u32> = vec![NONE; self.len()];
        matched[0] = 0;
        for at in 1..self.len() {
            let above = matched[self.parents()[at] as usize];
            matched[at] = match call_site.get(above as usize) {
                _ if above == NONE => NONE,
                None => above,
                Some(wanted) if self.name(at) == wanted.as_ref() => above + 1,
                Some(_) => NONE,
            };
        }
        matched
            .iter()
            .map(|&n| n != NONE && n as usize == call_site.len())
            .collect()
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        let columns = self.node_of.capacity() + self.index.name_of_string.capacity();
        let index = 4 * columns + 5 * self.index.children.capacity();
        self.shape.bytes() + index as u64
    }
}

/// A tree that nodes are added to.
#[derive(Debug, Default)]
struct Growing {
    shape: TreeShape,
    index: Index,
}

impl Growing {
    /// Makes room for nodes, so that the index is not rebuilt again and again while it grows.
    fn reserve(&mut self, more: usize) {
        let shape = &self.shape;
        let hash = |&at: &u32| hash_of(shape, at);
        self.index.children.reserve(more, hash);
        self.shape.parent.reserve(more);
        self.shape.name.reserve(more);
    }

    /// The node under `at` for all lines of a location, outermost first.
    fn descend(&mut self, symbols: &Symbols, mut at: u32, location: u32) -> u32 {
        let lines = symbols.location(location).lines;
        if lines.is_empty() {
            let name = self.address_name(symbols, location);
            return self.child(at, name);
        }
        for line in lines.iter().rev() {
            let name = self.function_name(symbols, location, line.function);
            at = self.child(at, name);
        }
        at
    }

    fn function_name(&mut self, symbols: &Symbols, location: u32, function: u32) -> u32 {
        if function == NONE {
            return self.address_name(symbols, location);
        }
        let function = symbols.function(function);
        let named = [function.name, function.system_name]
            .into_iter()
            .find(|&id| !symbols.string(id).is_empty());
        match named {
            Some(string) => self.string_name(symbols, string),
            None => self.address_name(symbols, location),
        }
    }

    fn string_name(&mut self, symbols: &Symbols, string: u32) -> u32 {
        let known = &mut self.index.name_of_string[string as usize];
        if *known == NONE {
            *known = self.shape.names.intern(symbols.string(string));
        }
        *known
    }

    fn address_name(&mut self, symbols: &Symbols, location: u32) -> u32 {
        self.shape.names.intern(&address_text(symbols, location))
    }

    fn child(&mut self, parent: u32, name: u32) -> u32 {
        let wanted = hash(parent, name);
        let shape = &mut self.shape;
        let same =
            |&at: &u32| shape.parent[at as usize] == parent && shape.name[at as usize] == name;
        if let Some(&at) = self.index.children.find(wanted, same) {
            return at;
        }
        let at = shape.parent.len() as u32;
        shape.parent.push(parent);
        shape.name.push(name);
        self.index
            .children
            .insert_unique(wanted, at, |&at| hash_of(shape, at));
        at
    }
}

fn hash(parent: u32, name: u32) -> u64 {
    FixedState::default().hash_one(u64::from(parent) << 32 | u64::from(name))
}

fn hash_of(shape: &TreeShape, at: u32) -> u64 {
    hash(shape.parent[at as usize], shape.name[at as usize])
}

/// `binary+0xoffset`, as far as mapping and address are known.
fn address_text(symbols: &Symbols, location: u32) -> String {
    let location = symbols.location(location);
    let address = location.address;
    if location.mapping == NONE {
        return match address {
            0 => UNKNOWN.to_owned(),
            address => format!("0x{address:x}"),
        };
    }
    let mapping = symbols.mapping(location.mapping);
    let path = symbols.string(mapping.filename);
    let binary = path.rsplit('/').next().unwrap_or_default();
    let binary = if binary.is_empty() { UNKNOWN } else { binary };
    if address == 0 {
        return binary.to_owned();
    }
    // Addresses outside the mapping are offsets already.
    let offset = if (mapping.start..mapping.limit).contains(&address) {
        (address - mapping.start).wrapping_add(mapping.offset)
    } else {
        address
    };
    format!("{binary}+0x{offset:x}")
}

#[cfg(test)]
mod tests {
    use scoria_model::part::{Function, Line, Mapping};
    use scoria_symbols::SymbolTables;

    use super::*;

    /// main -> (work inlined into run) -> unnamed address; a second stack main -> run.
    fn symbols() -> Symbols {
        let mut tables = SymbolTables::default();
        let names: Vec<u32> = ["main", "run", "work", "/usr/bin/app"]
            .iter()
            .map(|text| tables.strings.push(text))
            .collect();
        for &name in &names[..3] {
            tables.functions.push(Function {
                name,
                ..Function::default()
            });
        }
        tables.mappings.push(Mapping {
            start: 0x1000,
            limit: 0x2000,
            offset: 0x10,
            filename: names[3],
            ..Mapping::default()
        });
        let lines: [&[u32]; 4] = [&[0], &[2, 1], &[], &[1]];
        for (at, functions) in lines.iter().enumerate() {
            tables.location_mapping.push(0);
            tables.location_address.push(0x1000 + at as u64);
            for &function in *functions {
                tables.lines.push(Line { function, line: 1 });
            }
            tables.location_lines_end.push(tables.lines.len() as u32);
        }
        tables.node_parent = vec![NONE, 0, 1, 2, 1];
        tables.node_location = vec![NONE, 0, 1, 2, 3];
        Symbols::from_tables(tables).unwrap()
    }

    fn paths(tree: &FunctionTree) -> Vec<String> {
        let mut paths: Vec<String> = vec![String::new()];
        for at in 1..tree.len() {
            let above = &paths[tree.parents()[at] as usize];
            let name = tree.name(at);
            paths.push(format!("{above};{name}"));
        }
        paths
    }

    #[test]
    fn inlined_calls_are_spread_and_nameless_frames_have_an_address() {
        let symbols = symbols();
        let tree = FunctionTree::of(&symbols);
        let paths = paths(&tree);
        let of_node: Vec<&str> = tree
            .node_of()
            .iter()
            .map(|&at| paths[at as usize].as_str())
            .collect();
        assert_eq!(
            of_node,
            [
                ";[unknown]",
                ";main",
                ";main;run;work",
                ";main;run;work;app+0x12",
                ";main;run"
            ]
        );
        assert_eq!(tree.len(), 6);
    }

    #[test]
    fn a_call_site_takes_what_is_at_or_below_it() {
        let symbols = symbols();
        let tree = FunctionTree::of(&symbols);
        let n = |site: &[&str]| {
            let below = tree.below(site);
            below.iter().filter(|&&below| below).count()
        };
        assert_eq!(n(&[]), 6);
        assert_eq!(n(&["main"]), 4);
        assert_eq!(n(&["main", "run"]), 3);
        assert_eq!(n(&["main", "run", "work", "x"]), 0);
        assert_eq!(n(&["run"]), 0);
    }
}
