//! Taking the symbols of a block into a dictionary: how the symbols of many blocks become one set.

use scoria_model::part::{Function, Line, Mapping, NONE};

use crate::{Dictionary, ROOT, Symbols};

impl Dictionary {
    /// Interns everything that `symbols` has; the node that each of its nodes became.
    ///
    /// The ids that new entries get follow from the order of the calls and of the tables alone.
    pub fn absorb(&mut self, symbols: &Symbols) -> Vec<u32> {
        let strings: Vec<u32> = (0..symbols.strings_len() as u32)
            .map(|id| self.string_id(symbols.string(id)))
            .collect();
        let text = |id: u32| strings[id as usize];
        let mappings: Vec<u32> = (0..symbols.mappings_len() as u32)
            .map(|id| {
                let mapping = symbols.mapping(id);
                self.mapping_id(Mapping {
                    filename: text(mapping.filename),
                    build_id: text(mapping.build_id),
                    ..mapping
                })
            })
            .collect();
        let functions: Vec<u32> = (0..symbols.functions_len() as u32)
            .map(|id| {
                let function = symbols.function(id);
                self.function_id(Function {
                    name: text(function.name),
                    system_name: text(function.system_name),
                    filename: text(function.filename),
                    ..function
                })
            })
            .collect();
        let locations = self.absorb_locations(symbols, &mappings, &functions);
        let mut nodes = Vec::with_capacity(symbols.nodes_len());
        for (parent, location) in symbols.nodes() {
            // A parent comes before its children, and the root is first.
            nodes.push(match parent {
                NONE => ROOT,
                parent => self.node_id(nodes[parent as usize], locations[location as usize]),
            });
        }
        nodes
    }

    fn absorb_locations(
        &mut self,
        symbols: &Symbols,
        mappings: &[u32],
        functions: &[u32],
    ) -> Vec<u32> {
        let new = |ids: &[u32], id: u32| ids.get(id as usize).copied().unwrap_or(NONE);
        let mut lines: Vec<Line> = Vec::new();
        (0..symbols.locations_len() as u32)
            .map(|id| {
                let location = symbols.location(id);
                lines.clear();
                lines.extend(location.lines.iter().map(|line| Line {
                    function: new(functions, line.function),
                    line: line.line,
                }));
                self.location_id(new(mappings, location.mapping), location.address, &lines)
            })
            .collect()
    }
}
