//! The order in which a block stores symbols: dense, sorted, stacks in pre-order.

use std::cmp::Ordering;

use scoria_model::part::{Function, Line, NONE, Strings};

use crate::{ROOT, SymbolTables, Symbols};

/// What [`Symbols::pre_order`] chose and where everything went. The maps from old ids to new ones
/// hold [`NONE`] for what was left out.
#[derive(Debug, Clone)]
pub struct PreOrder {
    /// Only what the used nodes and their ancestors need.
    ///
    /// Strings are sorted; functions are sorted by (name, filename, start line, system name),
    /// locations by (lines, mapping, address), both by the new ids; nodes are in pre-order, the
    /// children of a node sorted by location.
    pub tables: SymbolTables,
    pub node_map: Vec<u32>,
    pub location_map: Vec<u32>,
    pub function_map: Vec<u32>,
    pub mapping_map: Vec<u32>,
    pub string_map: Vec<u32>,
}

/// Ids in a new order, and the way back.
struct Renumbered {
    /// Old ids.
    order: Vec<u32>,
    map: Vec<u32>,
}

impl Renumbered {
    /// The used ids, sorted by `compare`.
    fn sorted(used: &[bool], compare: impl Fn(u32, u32) -> Ordering) -> Self {
        let mut order: Vec<u32> = marked(used).collect();
        order.sort_unstable_by(|&a, &b| compare(a, b));
        let mut map = vec![NONE; used.len()];
        for (new, &old) in order.iter().enumerate() {
            map[old as usize] = new as u32;
        }
        Self { order, map }
    }

    /// [`NONE`] stays [`NONE`].
    fn new_id(&self, old: u32) -> u32 {
        self.map.get(old as usize).copied().unwrap_or(NONE)
    }
}

struct Used {
    strings: Vec<bool>,
    mappings: Vec<bool>,
    functions: Vec<bool>,
    locations: Vec<bool>,
    nodes: Vec<bool>,
}

impl Symbols {
    /// The tables that a block stores for the nodes marked in `used` (one flag per node; missing
    /// ones count as unused). The root is always kept, as node 0.
    pub fn pre_order(&self, used: &[bool]) -> PreOrder {
        let used = self.close_over(used);
        let strings = Renumbered::sorted(&used.strings, |a, b| self.string(a).cmp(self.string(b)));
        let functions = Renumbered::sorted(&used.functions, |a, b| {
            let key = |id| {
                let f = self.function(id);
                let text = |id| strings.new_id(id);
                (
                    text(f.name),
                    text(f.filename),
                    f.start_line,
                    text(f.system_name),
                )
            };
            key(a).cmp(&key(b))
        });
        let mappings = Renumbered::sorted(&used.mappings, |a, b| a.cmp(&b));
        let locations = Renumbered::sorted(&used.locations, |a, b| {
            let (a, b) = (self.location(a), self.location(b));
            let key = |line: &Line| (functions.new_id(line.function), line.line);
            a.lines
                .iter()
                .map(key)
                .cmp(b.lines.iter().map(key))
                .then_with(|| mappings.new_id(a.mapping).cmp(&mappings.new_id(b.mapping)))
                .then_with(|| a.address.cmp(&b.address))
        });
        let mut tables = SymbolTables {
            strings: Strings::default(),
            ..SymbolTables::default()
        };
        for &id in &strings.order {
            tables.strings.push(self.string(id));
        }
        self.renumber_functions(&functions.order, &strings, &mut tables);
        for &id in &mappings.order {
            let mut mapping = self.mapping(id);
            mapping.filename = strings.new_id(mapping.filename);
            mapping.build_id = strings.new_id(mapping.build_id);
            tables.mappings.push(mapping);
        }
        for &id in &locations.order {
            let location = self.location(id);
            tables
                .location_mapping
                .push(mappings.new_id(location.mapping));
            tables.location_address.push(location.address);
            tables.lines.extend(location.lines.iter().map(|line| Line {
                function: functions.new_id(line.function),
                line: line.line,
            }));
            tables.location_lines_end.push(tables.lines.len() as u32);
        }
        let node_map = self.walk(&used.nodes, &locations, &mut tables);
        PreOrder {
            tables,
            node_map,
            location_map: locations.map,
            function_map: functions.map,
            mapping_map: mappings.map,
            string_map: strings.map,
        }
    }

    fn renumber_functions(&self, order: &[u32], strings: &Renumbered, tables: &mut SymbolTables) {
        tables.functions.extend(order.iter().map(|&id| {
            let function = self.function(id);
            Function {
                name: strings.new_id(function.name),
                system_name: strings.new_id(function.system_name),
                filename: strings.new_id(function.filename),
                start_line: function.start_line,
            }
        }));
    }

    /// Everything that the used nodes need.
    fn close_over(&self, nodes: &[bool]) -> Used {
        let mut used = Used {
            strings: vec![false; self.strings_len()],
            mappings: vec![false; self.mappings_len()],
            functions: vec![false; self.functions_len()],
            locations: vec![false; self.locations_len()],
            nodes: vec![false; self.nodes_len()],
        };
        let given = nodes.len().min(used.nodes.len());
        used.nodes[..given].copy_from_slice(&nodes[..given]);
        used.nodes[0] = true;
        // A parent comes before its children, so one pass from the end reaches every ancestor.
        for node in (1..self.nodes_len() as u32).rev() {
            if used.nodes[node as usize] {
                used.nodes[self.node_parent(node) as usize] = true;
                used.locations[self.node_location(node) as usize] = true;
            }
        }
        for id in marked(&used.locations) {
            let location = self.location(id);
            if location.mapping != NONE {
                used.mappings[location.mapping as usize] = true;
            }
            for line in location.lines.iter().filter(|line| line.function != NONE) {
                used.functions[line.function as usize] = true;
            }
        }
        used.strings[0] = true;
        for id in marked(&used.mappings) {
            let mapping = self.mapping(id);
            used.strings[mapping.filename as usize] = true;
            used.strings[mapping.build_id as usize] = true;
        }
        for id in marked(&used.functions) {
            let function = self.function(id);
            for string in [function.name, function.system_name, function.filename] {
                used.strings[string as usize] = true;
            }
        }
        used
    }

    /// Writes the used nodes into `tables` in pre-order; the map from old nodes to new ones.
    fn walk(&self, used: &[bool], locations: &Renumbered, tables: &mut SymbolTables) -> Vec<u32> {
        let key = |node: u32| {
            let location = locations.new_id(self.node_location(node));
            u64::from(self.node_parent(node)) << 32 | u64::from(location)
        };
        let mut by_parent: Vec<(u64, u32)> = marked(used)
            .filter(|&node| node != ROOT)
            .map(|node| (key(node), node))
            .collect();
        by_parent.sort_unstable();
        let children = |node: u32| {
            let start = by_parent.partition_point(|&(key, _)| key >> 32 < u64::from(node));
            by_parent[start..]
                .iter()
                .take_while(move |&&(key, _)| key >> 32 == u64::from(node))
        };
        let mut map = vec![NONE; used.len()];
        map[ROOT as usize] = ROOT;
        let mut pending: Vec<(u32, u32)> = Vec::new();
        let expand = |node: u32, new: u32, pending: &mut Vec<(u32, u32)>| {
            let first = pending.len();
            pending.extend(children(node).map(|&(_, child)| (child, new)));
            pending[first..].reverse();
        };
        expand(ROOT, ROOT, &mut pending);
        while let Some((node, parent)) = pending.pop() {
            let new = tables.node_parent.len() as u32;
            map[node as usize] = new;
            tables.node_parent.push(parent);
            tables
                .node_location
                .push(locations.new_id(self.node_location(node)));
            expand(node, new, &mut pending);
        }
        map
    }
}

fn marked(flags: &[bool]) -> impl Iterator<Item = u32> + '_ {
    (0..flags.len() as u32).filter(|&at| flags[at as usize])
}

#[cfg(test)]
mod tests;
