//! The read-only form of a dataset's symbols.

use scoria_model::part::{Function, Line, Mapping, NONE, Strings};

use crate::chunked::{Column, Runs, Span};
use crate::error::SymbolsError;

/// A location and where its lines lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocationRow {
    pub(crate) address: u64,
    pub(crate) mapping: u32,
    pub(crate) lines: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) parent: u32,
    pub(crate) location: u32,
}

impl Node {
    pub(crate) const ROOT: Self = Self {
        parent: NONE,
        location: NONE,
    };
}

/// One location: the lines of one instruction, the first being the innermost inlined call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location<'a> {
    /// Mapping id or [`NONE`].
    pub mapping: u32,
    pub address: u64,
    /// Functions are ids or [`NONE`].
    pub lines: &'a [Line],
}

/// The tables as plain vectors: what a block stores. See [`Symbols::from_tables`] for what must
/// hold of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolTables {
    /// String 0 is the empty one.
    pub strings: Strings,
    /// Filenames and build ids are string ids.
    pub mappings: Vec<Mapping>,
    pub functions: Vec<Function>,
    /// Mapping id or [`NONE`], one per location.
    pub location_mapping: Vec<u32>,
    pub location_address: Vec<u64>,
    /// One past the location's last entry in `lines`.
    pub location_lines_end: Vec<u32>,
    pub lines: Vec<Line>,
    /// One per node; the first is the root, with [`NONE`].
    pub node_parent: Vec<u32>,
    /// One per node; the first is the root, with [`NONE`].
    pub node_location: Vec<u32>,
}

impl Default for SymbolTables {
    /// The empty string and the root.
    fn default() -> Self {
        let mut strings = Strings::default();
        strings.push("");
        Self {
            strings,
            mappings: Vec::new(),
            functions: Vec::new(),
            location_mapping: Vec::new(),
            location_address: Vec::new(),
            location_lines_end: Vec::new(),
            lines: Vec::new(),
            node_parent: vec![NONE],
            node_location: vec![NONE],
        }
    }
}

impl SymbolTables {
    /// Appends a function, and a location without a mapping that is one line of it; the location's
    /// id.
    pub fn push_plain(&mut self, name: &str, address: u64, line: i64) -> u32 {
        let function = self.functions.len() as u32;
        let name = self.strings.push(name);
        self.functions.push(Function {
            name,
            ..Function::default()
        });
        let location = self.location_address.len() as u32;
        self.location_mapping.push(NONE);
        self.location_address.push(address);
        self.lines.push(Line { function, line });
        self.location_lines_end.push(self.lines.len() as u32);
        location
    }
}

/// Immutable symbols of one dataset; a clone shares them. Ids given to the methods must be inside
/// their tables: ids that come from these tables always are.
#[derive(Debug, Clone)]
pub struct Symbols {
    pub(crate) strings: Column<Span>,
    pub(crate) text: Runs<String>,
    pub(crate) mappings: Column<Mapping>,
    pub(crate) functions: Column<Function>,
    pub(crate) locations: Column<LocationRow>,
    pub(crate) lines: Runs<Vec<Line>>,
    pub(crate) nodes: Column<Node>,
}

impl Symbols {
    /// Takes tables that came from outside.
    ///
    /// # Errors
    /// Unless every column of a table has the same length, every id is inside its table (or
    /// [`NONE`] where that is allowed), ends never fall, strings are UTF-8 and string 0 is empty,
    /// node 0 is the root and every other node's parent comes before it.
    pub fn from_tables(tables: SymbolTables) -> Result<Self, SymbolsError> {
        let spans = check_strings(&tables.strings)?;
        check_references(&tables)?;
        check_ends(
            "location lines",
            &tables.location_lines_end,
            tables.lines.len(),
        )?;
        check_nodes(&tables)?;
        let text = String::from_utf8(tables.strings.bytes).map_err(|e| SymbolsError::Utf8 {
            at: spans_before(&tables.strings.ends, e.utf8_error().valid_up_to()),
        })?;
        check_boundaries(&text, &tables.strings.ends)?;
        let locations = tables
            .location_address
            .iter()
            .zip(&tables.location_mapping)
            .zip(Runs::<Vec<Line>>::spans(&tables.location_lines_end))
            .map(|((&address, &mapping), lines)| LocationRow {
                address,
                mapping,
                lines,
            })
            .collect();
        let nodes = tables
            .node_parent
            .iter()
            .zip(&tables.node_location)
            .map(|(&parent, &location)| Node { parent, location })
            .collect();
        Ok(Self {
            strings: Column::from_vec(spans),
            text: Runs::from_buffer(text),
            mappings: Column::from_vec(tables.mappings),
            functions: Column::from_vec(tables.functions),
            locations: Column::from_vec(locations),
            lines: Runs::from_buffer(tables.lines),
            nodes: Column::from_vec(nodes),
        })
    }

    pub fn strings_len(&self) -> usize {
        self.strings.len()
    }

    pub fn mappings_len(&self) -> usize {
        self.mappings.len()
    }

    pub fn functions_len(&self) -> usize {
        self.functions.len()
    }

    pub fn locations_len(&self) -> usize {
        self.locations.len()
    }

    /// At least one: the root.
    pub fn nodes_len(&self) -> usize {
        self.nodes.len()
    }

    #[inline]
    pub fn string(&self, id: u32) -> &str {
        self.text.get(self.strings.get(id))
    }

    #[inline]
    pub fn mapping(&self, id: u32) -> Mapping {
        self.mappings.get(id)
    }

    #[inline]
    pub fn function(&self, id: u32) -> Function {
        self.functions.get(id)
    }

    #[inline]
    pub fn location(&self, id: u32) -> Location<'_> {
        let row = self.locations.get(id);
        Location {
            mapping: row.mapping,
            address: row.address,
            lines: self.lines.get(row.lines),
        }
    }

    /// [`NONE`] for the root.
    #[inline]
    pub fn node_parent(&self, node: u32) -> u32 {
        self.nodes.get(node).parent
    }

    /// [`NONE`] for the root.
    #[inline]
    pub fn node_location(&self, node: u32) -> u32 {
        self.nodes.get(node).location
    }

    /// (parent, location) of every node, in id order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (u32, u32)> + '_ {
        self.nodes.iter().map(|node| (node.parent, node.location))
    }

    /// The locations of a node's stacktrace, leaf first.
    pub fn stack(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.nodes.get(node);
        std::iter::from_fn(move || {
            if at.parent == NONE {
                return None;
            }
            let location = at.location;
            at = self.nodes.get(at.parent);
            Some(location)
        })
    }

    /// Memory held, counting what is shared with clones in full.
    pub fn bytes(&self) -> u64 {
        self.strings.bytes()
            + self.text.bytes()
            + self.mappings.bytes()
            + self.functions.bytes()
            + self.locations.bytes()
            + self.lines.bytes()
            + self.nodes.bytes()
    }

    /// All tables as plain vectors, ids unchanged.
    pub fn to_tables(&self) -> SymbolTables {
        let mut tables = SymbolTables {
            strings: Strings::default(),
            node_parent: Vec::with_capacity(self.nodes.len()),
            node_location: Vec::with_capacity(self.nodes.len()),
            ..SymbolTables::default()
        };
        for span in self.strings.iter() {
            tables.strings.push(self.text.get(span));
        }
        tables.mappings.extend(self.mappings.iter());
        tables.functions.extend(self.functions.iter());
        for row in self.locations.iter() {
            tables.location_mapping.push(row.mapping);
            tables.location_address.push(row.address);
            tables.lines.extend_from_slice(self.lines.get(row.lines));
            tables.location_lines_end.push(tables.lines.len() as u32);
        }
        for node in self.nodes.iter() {
            tables.node_parent.push(node.parent);
            tables.node_location.push(node.location);
        }
        tables
    }
}

fn spans_before(ends: &[u32], byte: usize) -> usize {
    ends.partition_point(|&end| end as usize <= byte)
}

fn check_strings(strings: &Strings) -> Result<Vec<Span>, SymbolsError> {
    check_ends("strings", &strings.ends, strings.bytes.len())?;
    match strings.ends.first() {
        Some(0) => Ok(Runs::<String>::spans(&strings.ends)),
        Some(&end) => Err(SymbolsError::FirstString {
            text: String::from_utf8_lossy(&strings.bytes[..end as usize]).into_owned(),
        }),
        None => Err(SymbolsError::Length {
            column: "strings",
            actual: 0,
            expected: 1,
        }),
    }
}

fn check_boundaries(text: &str, ends: &[u32]) -> Result<(), SymbolsError> {
    match ends
        .iter()
        .position(|&end| !text.is_char_boundary(end as usize))
    {
        Some(at) => Err(SymbolsError::Utf8 { at }),
        None => Ok(()),
    }
}

fn check_ends(column: &'static str, ends: &[u32], size: usize) -> Result<(), SymbolsError> {
    if ends.is_sorted() && ends.last().copied().unwrap_or_default() as usize == size {
        Ok(())
    } else {
        Err(SymbolsError::Ends { column })
    }
}

/// Fails unless `value` is below `size`.
pub(crate) fn inside(
    place: (&'static str, usize, &'static str),
    value: u32,
    size: usize,
) -> Result<(), SymbolsError> {
    if (value as usize) < size {
        return Ok(());
    }
    let (table, at, field) = place;
    Err(SymbolsError::Index {
        table,
        at,
        field,
        value: u64::from(value),
        size,
    })
}

fn same_length(column: &'static str, actual: usize, expected: usize) -> Result<(), SymbolsError> {
    if actual == expected {
        return Ok(());
    }
    Err(SymbolsError::Length {
        column,
        actual,
        expected,
    })
}

fn check_references(tables: &SymbolTables) -> Result<(), SymbolsError> {
    let strings = tables.strings.len();
    for (at, mapping) in tables.mappings.iter().enumerate() {
        inside(("mapping", at, "filename"), mapping.filename, strings)?;
        inside(("mapping", at, "build id"), mapping.build_id, strings)?;
    }
    for (at, function) in tables.functions.iter().enumerate() {
        inside(("function", at, "name"), function.name, strings)?;
        inside(
            ("function", at, "system name"),
            function.system_name,
            strings,
        )?;
        inside(("function", at, "filename"), function.filename, strings)?;
    }
    let locations = tables.location_mapping.len();
    same_length(
        "location addresses",
        tables.location_address.len(),
        locations,
    )?;
    same_length("location lines", tables.location_lines_end.len(), locations)?;
    for (at, &mapping) in tables.location_mapping.iter().enumerate() {
        if mapping != NONE {
            inside(("location", at, "mapping"), mapping, tables.mappings.len())?;
        }
    }
    for (at, line) in tables.lines.iter().enumerate() {
        if line.function != NONE {
            inside(
                ("line", at, "function"),
                line.function,
                tables.functions.len(),
            )?;
        }
    }
    Ok(())
}

fn check_nodes(tables: &SymbolTables) -> Result<(), SymbolsError> {
    let (parents, locations) = (&tables.node_parent, &tables.node_location);
    same_length("node locations", locations.len(), parents.len())?;
    if parents.first() != Some(&NONE) || locations.first() != Some(&NONE) {
        return Err(SymbolsError::Root);
    }
    for (at, (&parent, &location)) in parents.iter().zip(locations).enumerate().skip(1) {
        if parent as usize >= at {
            return Err(SymbolsError::Order { at, parent });
        }
        inside(
            ("node", at, "location"),
            location,
            tables.location_mapping.len(),
        )?;
    }
    Ok(())
}
