//! Totals per stacktrace by location: what a pprof answer is made of.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use scoria_model::part::{Function, Line, Mapping, NONE};
use scoria_symbols::{Dictionary, SymbolTables, Symbols, SymbolsError};

use super::texts::Texts;

/// A tree of locations with the value that each stacktrace has of its own, and the symbols it
/// uses.
#[derive(Debug, Clone)]
pub struct ProfilePartial {
    symbols: Symbols,
    /// One per node.
    own: Vec<i64>,
    /// What the samples counted between two of them, where profiles agree on it.
    period: Period,
}

/// The period of the profiles that were merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Period {
    /// No profile, or none that says.
    #[default]
    Unknown,
    Known(i64),
    /// Profiles contradict each other.
    Mixed,
}

impl Period {
    /// The period of profiles with this and with another one. 0 says nothing.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown | Self::Known(0), other) => other,
            (known, Self::Unknown | Self::Known(0)) => known,
            (Self::Known(a), Self::Known(b)) if a == b => self,
            _ => Self::Mixed,
        }
    }
}

impl Default for ProfilePartial {
    fn default() -> Self {
        Self {
            symbols: Dictionary::new().snapshot(),
            own: vec![0],
            period: Period::default(),
        }
    }
}

impl PartialEq for ProfilePartial {
    fn eq(&self, other: &Self) -> bool {
        self.own == other.own
            && self.period == other.period
            && self.symbols.to_tables() == other.symbols.to_tables()
    }
}

impl ProfilePartial {
    /// Puts decoded pieces together.
    ///
    /// # Errors
    /// If the tables contradict themselves; see [`Symbols::from_tables`]. `own` is cut or filled
    /// up to the number of nodes.
    pub fn from_tables(
        tables: SymbolTables,
        mut own: Vec<i64>,
        period: Period,
    ) -> Result<Self, SymbolsError> {
        own.resize(tables.node_parent.len(), 0);
        Ok(Self {
            symbols: Symbols::from_tables(tables)?,
            own,
            period,
        })
    }

    /// Takes sums per stack and the symbols they stand on. `node_of_stack` names the node of each
    /// stack, unless stacks are nodes; `counts` says which nodes count.
    pub fn of_totals(
        symbols: &Symbols,
        totals: &[i64],
        node_of_stack: Option<&[u32]>,
        counts: impl Fn(u32) -> bool,
        period: Period,
    ) -> Self {
        let mut own = vec![0i64; symbols.nodes_len()];
        for (stack, &total) in totals.iter().enumerate().filter(|&(_, &total)| total != 0) {
            let node = match node_of_stack {
                Some(nodes) => nodes.get(stack).copied().unwrap_or(NONE),
                None => stack as u32,
            };
            if let Some(own) = own.get_mut(node as usize)
                && counts(node)
            {
                *own = own.saturating_add(total);
            }
        }
        Self {
            symbols: symbols.clone(),
            own,
            period,
        }
    }

    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The value of each node of the stack tree.
    pub fn own(&self) -> &[i64] {
        &self.own
    }

    /// Divides what each stacktrace has.
    pub(crate) fn divide(&mut self, by: i64) {
        for own in &mut self.own {
            *own /= by;
        }
    }

    pub fn period(&self) -> Period {
        self.period
    }

    /// The sum of all values.
    pub fn total(&self) -> i64 {
        self.own.iter().fold(0, |sum, &own| sum.saturating_add(own))
    }

    /// The value of each node and of all below it.
    pub fn totals(&self) -> Vec<i64> {
        let mut totals = self.own.clone();
        for (at, (parent, _)) in (0..totals.len()).rev().zip(self.symbols.nodes().rev()) {
            let total = totals[at];
            if let Some(above) = totals.get_mut(parent as usize) {
                *above = above.saturating_add(total);
            }
        }
        totals
    }

    /// Which nodes have a value or lie above one: values below a node may cancel each other out.
    fn used(&self) -> Vec<bool> {
        let mut used: Vec<bool> = self.own.iter().map(|&own| own != 0).collect();
        for (at, (parent, _)) in (0..used.len()).rev().zip(self.symbols.nodes().rev()) {
            let below = used[at];
            if let Some(above) = used.get_mut(parent as usize) {
                *above |= below;
            }
        }
        used
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        self.symbols.bytes() + 8 * self.own.capacity() as u64
    }

    /// Only the symbols that stacktraces with a value use.
    ///
    /// # Errors
    /// As [`ProfileMerger::finish`].
    pub fn compacted(&self) -> Result<Self, SymbolsError> {
        let mut merger = ProfileMerger::default();
        merger.add(self);
        merger.finish()
    }
}

/// Joins profiles by the content of their symbols.
#[derive(Debug)]
pub struct ProfileMerger {
    strings: Texts,
    tables: SymbolTables,
    own: Vec<i64>,
    period: Period,
    mappings: HashTable<u32>,
    functions: HashTable<u32>,
    locations: HashTable<u32>,
    children: HashTable<u32>,
}

impl Default for ProfileMerger {
    fn default() -> Self {
        let mut strings = Texts::default();
        strings.intern("");
        Self {
            strings,
            tables: SymbolTables::default(),
            own: vec![0],
            period: Period::default(),
            mappings: HashTable::new(),
            functions: HashTable::new(),
            locations: HashTable::new(),
            children: HashTable::new(),
        }
    }
}

/// Which new id each old one got; [`NONE`] until it is needed.
struct NewIds {
    strings: Vec<u32>,
    mappings: Vec<u32>,
    functions: Vec<u32>,
    locations: Vec<u32>,
}

impl ProfileMerger {
    /// Takes one profile in: the stacktraces that have a value, and what they use.
    pub fn add(&mut self, other: &ProfilePartial) {
        self.period = self.period.and(other.period);
        let symbols = &other.symbols;
        let mut ids = NewIds {
            strings: vec![NONE; symbols.strings_len()],
            mappings: vec![NONE; symbols.mappings_len()],
            functions: vec![NONE; symbols.functions_len()],
            locations: vec![NONE; symbols.locations_len()],
        };
        let used = other.used();
        let mut new_node: Vec<u32> = Vec::with_capacity(used.len());
        for (at, (parent, location)) in symbols.nodes().enumerate() {
            if !used[at] {
                new_node.push(NONE);
                continue;
            }
            let node = match new_node.get(parent as usize) {
                Some(&above) => {
                    let location = self.location(symbols, location, &mut ids);
                    self.child(above, location)
                }
                None => 0,
            };
            new_node.push(node);
            let own = &mut self.own[node as usize];
            *own = own.saturating_add(other.own[at]);
        }
    }

    fn string(&mut self, symbols: &Symbols, id: u32, ids: &mut NewIds) -> u32 {
        let known = &mut ids.strings[id as usize];
        if *known == NONE {
            *known = self.strings.intern(symbols.string(id));
        }
        *known
    }

    fn mapping(&mut self, symbols: &Symbols, id: u32, ids: &mut NewIds) -> u32 {
        if id == NONE || ids.mappings[id as usize] != NONE {
            return ids.mappings.get(id as usize).copied().unwrap_or(NONE);
        }
        let old = symbols.mapping(id);
        let row = Mapping {
            filename: self.string(symbols, old.filename, ids),
            build_id: self.string(symbols, old.build_id, ids),
            ..old
        };
        let key = |m: &Mapping| (m.start, m.limit, m.offset, m.filename, m.build_id, m.flags);
        let new = intern(&mut self.mappings, &mut self.tables.mappings, row, key);
        ids.mappings[id as usize] = new;
        new
    }

    fn function(&mut self, symbols: &Symbols, id: u32, ids: &mut NewIds) -> u32 {
        if id == NONE || ids.functions[id as usize] != NONE {
            return ids.functions.get(id as usize).copied().unwrap_or(NONE);
        }
        let old = symbols.function(id);
        let row = Function {
            name: self.string(symbols, old.name, ids),
            system_name: self.string(symbols, old.system_name, ids),
            filename: self.string(symbols, old.filename, ids),
            start_line: old.start_line,
        };
        let key = |f: &Function| (f.name, f.system_name, f.filename, f.start_line);
        let new = intern(&mut self.functions, &mut self.tables.functions, row, key);
        ids.functions[id as usize] = new;
        new
    }

    fn location(&mut self, symbols: &Symbols, id: u32, ids: &mut NewIds) -> u32 {
        if ids.locations[id as usize] != NONE {
            return ids.locations[id as usize];
        }
        let old = symbols.location(id);
        let mapping = self.mapping(symbols, old.mapping, ids);
        let lines: Vec<Line> = old
            .lines
            .iter()
            .map(|line| Line {
                function: self.function(symbols, line.function, ids),
                line: line.line,
            })
            .collect();
        let state = foldhash::fast::FixedState::default();
        let hash = |mapping: u32, address: u64, lines: &[Line]| {
            let last = lines.last().map(|l| (l.function, l.line));
            let first = lines.first().map(|l| (l.function, l.line));
            state.hash_one((mapping, address, lines.len(), first, last))
        };
        let wanted = hash(mapping, old.address, &lines);
        let tables = &self.tables;
        let same = |&at: &u32| {
            tables.location_mapping[at as usize] == mapping
                && tables.location_address[at as usize] == old.address
                && lines_of(tables, at) == lines
        };
        let new = match self.locations.find(wanted, same) {
            Some(&at) => at,
            None => {
                let at = self.tables.location_mapping.len() as u32;
                self.tables.location_mapping.push(mapping);
                self.tables.location_address.push(old.address);
                self.tables.lines.extend_from_slice(&lines);
                self.tables
                    .location_lines_end
                    .push(self.tables.lines.len() as u32);
                let tables = &self.tables;
                self.locations.insert_unique(wanted, at, |&at| {
                    hash(
                        tables.location_mapping[at as usize],
                        tables.location_address[at as usize],
                        lines_of(tables, at),
                    )
                });
                at
            }
        };
        ids.locations[id as usize] = new;
        new
    }

    fn child(&mut self, parent: u32, location: u32) -> u32 {
        let state = foldhash::fast::FixedState::default();
        let hash = |parent: u32, location: u32| {
            state.hash_one(u64::from(parent) << 32 | u64::from(location))
        };
        let wanted = hash(parent, location);
        let tables = &self.tables;
        let same = |&at: &u32| {
            tables.node_parent[at as usize] == parent
                && tables.node_location[at as usize] == location
        };
        if let Some(&at) = self.children.find(wanted, same) {
            return at;
        }
        let at = self.tables.node_parent.len() as u32;
        self.tables.node_parent.push(parent);
        self.tables.node_location.push(location);
        self.own.push(0);
        let tables = &self.tables;
        self.children.insert_unique(wanted, at, |&at| {
            hash(
                tables.node_parent[at as usize],
                tables.node_location[at as usize],
            )
        });
        at
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        let rows = 40 * self.tables.mappings.len()
            + 32 * self.tables.functions.len()
            + 24 * self.tables.location_mapping.len()
            + 16 * self.tables.lines.len()
            + 24 * self.tables.node_parent.len();
        self.strings.bytes() + rows as u64
    }

    /// The union of all profiles.
    ///
    /// # Errors
    /// If the tables contradict themselves, which they do not as long as those that came in did
    /// not.
    pub fn finish(self) -> Result<ProfilePartial, SymbolsError> {
        let mut tables = self.tables;
        let mut strings = scoria_symbols::Strings::default();
        for text in self.strings.iter() {
            strings.push(text);
        }
        tables.strings = strings;
        ProfilePartial::from_tables(tables, self.own, self.period)
    }
}

fn lines_of(tables: &SymbolTables, at: u32) -> &[Line] {
    let at = at as usize;
    let start = match at {
        0 => 0,
        at => tables.location_lines_end[at - 1] as usize,
    };
    &tables.lines[start..tables.location_lines_end[at] as usize]
}

/// The id of a row, which is appended unless it is there.
fn intern<T: Copy, K: Hash + PartialEq>(
    ids: &mut HashTable<u32>,
    rows: &mut Vec<T>,
    row: T,
    key: impl Fn(&T) -> K,
) -> u32 {
    let state = foldhash::fast::FixedState::default();
    let wanted = state.hash_one(key(&row));
    if let Some(&at) = ids.find(wanted, |&at| key(&rows[at as usize]) == key(&row)) {
        return at;
    }
    let at = rows.len() as u32;
    rows.push(row);
    ids.insert_unique(wanted, at, |&at| state.hash_one(key(&rows[at as usize])));
    at
}
