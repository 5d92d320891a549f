//! The stack tree by function names: what a flame graph is made of.
//!
//! Stacktraces are stored by location; a viewer wants them by function name, inlined calls
//! included. The way from one tree to the other depends only on the symbols, so it is worked out
//! once per dataset and kept beside them: a query then adds up dense columns and hashes nothing.
//!
//! # Invariants
//! - Node 0 is the root; every other node's parent is smaller than the node itself.
//! - No two children of a node have the same name id.
//! - No name is empty: what has no symbol is shown by its address.
//!
//! # What it must not know
//! Values, times and queries.

use std::hash::BuildHasher;

use hashbrown::{HashMap, HashTable};
use scoria_model::part::NONE;
use scoria_symbols::Symbols;

/// Name ids from here on are texts of our own, those below are strings of the symbols.
const OWN_TEXTS: u32 = 1 << 31;

/// Shown where nothing at all is known about a frame, and for samples without any frame.
pub const UNKNOWN: &str = "[unknown]";

/// The function-level tree of one dataset's symbols, which it must be used with.
#[derive(Debug, Clone)]
pub struct FunctionTree {
    /// The function node of each node of the stack tree.
    node_of: Vec<u32>,
    parent: Vec<u32>,
    name: Vec<u32>,
    children: HashTable<u32>,
    texts: Vec<Box<str>>,
    text_ids: HashMap<Box<str>, u32, foldhash::fast::FixedState>,
}

impl Default for FunctionTree {
    fn default() -> Self {
        Self::new()
    }
}

impl FunctionTree {
    /// The tree of no symbols: a root.
    pub fn new() -> Self {
        Self {
            node_of: Vec::new(),
            parent: vec![NONE],
            name: vec![0],
            children: HashTable::new(),
            texts: Vec::new(),
            text_ids: HashMap::default(),
        }
    }

    /// The finished tree of symbols that do not grow any more.
    pub fn of(symbols: &Symbols) -> Self {
        let mut tree = Self::new();
        tree.extend(symbols);
        tree.children = HashTable::new();
        tree.text_ids = HashMap::default();
        tree.parent.shrink_to_fit();
        tree.name.shrink_to_fit();
        tree
    }

    /// Takes in the nodes that came since the last call. `symbols` must be of the same dictionary
    /// every time, and the tree one of [`FunctionTree::new`].
    pub fn extend(&mut self, symbols: &Symbols) {
        let known = self.node_of.len();
        let more = symbols.nodes_len().saturating_sub(known);
        self.node_of.reserve(more);
        self.reserve(more);
        for (parent, location) in symbols.nodes().skip(known) {
            let at = match self.node_of.get(parent as usize) {
                Some(&above) => self.descend(symbols, above, location),
                None => 0,
            };
            self.node_of.push(at);
        }
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
        named.unwrap_or_else(|| self.address_name(symbols, location))
    }

    fn address_name(&mut self, symbols: &Symbols, location: u32) -> u32 {
        let text = address_text(symbols, location);
        if let Some(&id) = self.text_ids.get(text.as_str()) {
            return id;
        }
        let id = OWN_TEXTS + self.texts.len() as u32;
        let text: Box<str> = text.into_boxed_str();
        self.texts.push(text.clone());
        self.text_ids.insert(text, id);
        id
    }

    /// Makes room for nodes, so that the index is not rebuilt again and again while it grows.
    fn reserve(&mut self, more: usize) {
        let state = foldhash::fast::FixedState::default();
        let (parents, names) = (&self.parent, &self.name);
        self.children.reserve(more, |&at| {
            state.hash_one(key(parents[at as usize], names[at as usize]))
        });
        self.parent.reserve(more);
        self.name.reserve(more);
    }

    fn child(&mut self, parent: u32, name: u32) -> u32 {
        let state = foldhash::fast::FixedState::default();
        let hash = |parent: u32, name: u32| state.hash_one(key(parent, name));
        let (parents, names) = (&self.parent, &self.name);
        let same = |&at: &u32| parents[at as usize] == parent && names[at as usize] == name;
        let wanted = hash(parent, name);
        if let Some(&at) = self.children.find(wanted, same) {
            return at;
        }
        let at = self.parent.len() as u32;
        self.parent.push(parent);
        self.name.push(name);
        let (parents, names) = (&self.parent, &self.name);
        self.children.insert_unique(wanted, at, |&at| {
            hash(parents[at as usize], names[at as usize])
        });
        at
    }

    /// Number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.parent.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.parent.len() == 1
    }

    /// The function node of each node of the stack tree.
    pub fn node_of(&self) -> &[u32] {
        &self.node_of
    }

    /// The parent of each node; [`NONE`] for the root.
    pub fn parents(&self) -> &[u32] {
        &self.parent
    }

    /// The name id of each node, for [`FunctionTree::text`]. The root's is meaningless.
    pub fn names(&self) -> &[u32] {
        &self.name
    }

    /// The text of a name id.
    pub fn text<'a>(&'a self, symbols: &'a Symbols, name: u32) -> &'a str {
        match name.checked_sub(OWN_TEXTS) {
            Some(own) => &self.texts[own as usize],
            None => symbols.string(name),
        }
    }

    /// Which nodes lie at or below a call site, given from the root. An empty one takes all.
    pub fn below(&self, symbols: &Symbols, call_site: &[impl AsRef<str>]) -> Vec<bool> {
        // How many functions of the call site the path to a node has matched so far.
        let mut matched: Vec<u32> = vec![NONE; self.parent.len()];
        matched[0] = 0;
        for at in 1..self.parent.len() {
            let above = matched[self.parent[at] as usize];
            matched[at] = match call_site.get(above as usize) {
                _ if above == NONE => NONE,
                None => above,
                Some(wanted) if self.text(symbols, self.name[at]) == wanted.as_ref() => above + 1,
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
        let columns = self.node_of.capacity() + self.parent.capacity() + self.name.capacity();
        let texts: usize = self.texts.iter().map(|text| 2 * text.len() + 48).sum();
        (4 * columns + 5 * self.children.capacity() + texts) as u64
    }
}

fn key(parent: u32, name: u32) -> u64 {
    u64::from(parent) << 32 | u64::from(name)
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

    fn paths(tree: &FunctionTree, symbols: &Symbols) -> Vec<String> {
        let mut paths: Vec<String> = vec![String::new()];
        for at in 1..tree.len() {
            let above = &paths[tree.parents()[at] as usize];
            let name = tree.text(symbols, tree.names()[at]);
            paths.push(format!("{above};{name}"));
        }
        paths
    }

    #[test]
    fn inlined_calls_are_spread_and_nameless_frames_have_an_address() {
        let symbols = symbols();
        let tree = FunctionTree::of(&symbols);
        let paths = paths(&tree, &symbols);
        let of_node: Vec<&str> = tree
            .node_of()
            .iter()
            .map(|&at| paths[at as usize].as_str())
            .collect();
        assert_eq!(
            of_node,
            [
                "",
                ";main",
                ";main;run;work",
                ";main;run;work;app+0x12",
                ";main;run"
            ]
        );
        assert_eq!(tree.len(), 5);
    }

    #[test]
    fn a_call_site_takes_what_is_at_or_below_it() {
        let symbols = symbols();
        let tree = FunctionTree::of(&symbols);
        let n = |site: &[&str]| {
            let below = tree.below(&symbols, site);
            below.iter().filter(|&&below| below).count()
        };
        assert_eq!(n(&[]), 5);
        assert_eq!(n(&["main"]), 4);
        assert_eq!(n(&["main", "run"]), 3);
        assert_eq!(n(&["main", "run", "work", "x"]), 0);
        assert_eq!(n(&["run"]), 0);
    }
}
