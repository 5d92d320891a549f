//! The dictionary of an export: the tables that all of its profiles share, read once.
//!
//! Mappings are read into rows of fixed size. Everything else, of which there can be a lot, stays
//! where it is in the body: a table holds the places, and an entry is read where it is used.
//! Indexes are kept as sent: whoever follows one checks it.
//!
//! # Invariants
//! - Memory is taken from the budget before a table is made, by the number of entries that are
//!   really there.
//! - A row says nothing that its entry does not; entry 0 is an entry like any other.

use scoria_model::part::mapping_flags;
use scoria_model::{ByteBudget, Permit};

use super::ExportError;
use super::attributes::{Attribute, Strings, Value};
use super::fields::{Fields, Malformed, Span};
use super::origin::SERVICE;

/// An index that was not given, or cannot be one.
pub(super) const NO_INDEX: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MappingRow {
    pub(super) start: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
    pub(super) filename: u32,
    /// The mapping itself, for its attributes.
    pub(super) place: Span,
    /// See [`mapping_flags`]: what all of its locations have.
    pub(super) flags: u32,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FunctionRow {
    pub(super) name: u32,
    pub(super) system_name: u32,
    pub(super) filename: u32,
    pub(super) start_line: i64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LocationRow {
    pub(super) address: u64,
    pub(super) mapping: u32,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LineRow {
    pub(super) line: i64,
    pub(super) function: u32,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Link {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
}

/// The tables.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    pub(super) strings: Vec<Span>,
    pub(super) stacks: Vec<Span>,
    pub(super) links: Vec<Span>,
    pub(super) attributes: Vec<Span>,
    /// Attributes that name a service.
    pub(super) services: Vec<u32>,
    /// Attributes that say what kind a frame is.
    frame_types: Vec<u32>,
    pub(super) mappings: Vec<MappingRow>,
    pub(super) functions: Vec<Span>,
    /// Name and file of each function.
    texts_of: Vec<[u32; 2]>,
    /// Whether a line of function 0 is a line of none, as that says nothing.
    has_no_first: bool,
    pub(super) locations: Vec<Span>,
    /// The strings that functions and mappings name are among so many of the first.
    pub(super) n_texts: usize,
    /// Whether an attribute's text is an index.
    pub(super) interned: bool,
    /// Locations that say what kind of frame they are (native, kernel, an interpreter's).
    pub(super) n_frame_types: u64,
    permit: Option<Permit>,
}

/// How many entries each table has.
#[derive(Debug, Default)]
struct Counts {
    mappings: usize,
    locations: usize,
    functions: usize,
    links: usize,
    strings: usize,
    attributes: usize,
    stacks: usize,
}

const DICTIONARY: &str = "the dictionary";
const LOCATION: &str = "a location";
const FRAME_TYPE: &[u8] = b"profile.frame.type";
/// What following an index costs beside its row: a note of who did so last.
const MEMO_BYTES: usize = 4;
/// The same of a location or an attribute, and of a stack.
const WIDE_MEMO_BYTES: usize = 12;
const STACK_MEMO_BYTES: usize = 20;

impl Counts {
    fn of(body: &[u8], places: &[Span]) -> Result<Self, Malformed> {
        let mut counts = Self::default();
        for &place in places {
            let mut fields = Fields::of(body, place, DICTIONARY);
            while let Some(tag) = fields.next()? {
                let count = match tag.number {
                    1 => &mut counts.mappings,
                    2 => &mut counts.locations,
                    3 => &mut counts.functions,
                    4 => &mut counts.links,
                    5 => &mut counts.strings,
                    6 => &mut counts.attributes,
                    7 => &mut counts.stacks,
                    _ => {
                        fields.skip(tag)?;
                        continue;
                    }
                };
                *count += 1;
                fields.span(tag)?;
            }
        }
        Ok(counts)
    }

    /// Memory for the rows and for the memos of a converter.
    const fn bytes(&self) -> usize {
        self.mappings * (size_of::<MappingRow>() + MEMO_BYTES)
            + self.locations * (size_of::<Span>() + WIDE_MEMO_BYTES)
            + self.functions * (size_of::<Span>() + size_of::<[u32; 2]>() + MEMO_BYTES)
            + self.links * size_of::<Span>()
            + self.strings * (size_of::<Span>() + MEMO_BYTES)
            // An attribute may be listed with those that name a service, or a kind of frame.
            + self.attributes * (size_of::<Span>() + WIDE_MEMO_BYTES + 2 * size_of::<u32>())
            + self.stacks * (size_of::<Span>() + STACK_MEMO_BYTES)
    }
}

impl Dictionary {
    /// Reads the dictionary, which may come in several pieces: they are one message.
    pub(super) fn read(
        body: &[u8],
        places: &[Span],
        memory: &ByteBudget,
    ) -> Result<Self, ExportError> {
        let counts = Counts::of(body, places)?;
        let permit = memory.try_acquire(counts.bytes() as u64)?;
        let mut dictionary = Self {
            strings: Vec::with_capacity(counts.strings),
            stacks: Vec::with_capacity(counts.stacks),
            links: Vec::with_capacity(counts.links),
            attributes: Vec::with_capacity(counts.attributes),
            mappings: Vec::with_capacity(counts.mappings),
            functions: Vec::with_capacity(counts.functions),
            texts_of: Vec::with_capacity(counts.functions),
            has_no_first: false,
            locations: Vec::with_capacity(counts.locations),
            services: Vec::new(),
            frame_types: Vec::new(),
            n_texts: 0,
            interned: false,
            n_frame_types: 0,
            permit: Some(permit),
        };
        let mut last = 0;
        for &place in places {
            last = last.max(dictionary.read_tables(body, place)?);
        }
        let first = dictionary.strings.first();
        dictionary.has_no_first &= first.is_none_or(|first| first.is_empty());
        dictionary.n_texts = dictionary.strings.len().min(last as usize + 1);
        // Their texts are indexes into the strings, which may stand behind them.
        for &place in places {
            dictionary.read_attributes(body, place)?;
        }
        dictionary.flag_mappings(body)?;
        dictionary.count_frame_types(body)?;
        Ok(dictionary)
    }

    /// The places of the texts that functions and mappings have, each once.
    pub(super) fn texts_of_symbols(&self, body: &[u8]) -> impl Iterator<Item = Span> + Clone {
        let mut is_used = vec![false; self.strings.len()];
        let mut mark = |index: u32| {
            if let Some(slot) = is_used.get_mut(index as usize) {
                *slot = true;
            }
        };
        for &place in &self.functions {
            // Each could be read when the dictionary was.
            let row = function(body, place).unwrap_or_default();
            for text in [row.name, row.system_name, row.filename] {
                mark(text);
            }
        }
        self.mappings.iter().for_each(|row| mark(row.filename));
        let texts = self.strings.iter().zip(is_used);
        texts.filter_map(|(&text, is_used)| is_used.then_some(text))
    }

    /// Whether a line of this function, which must be there, is a line of none.
    pub(super) const fn is_no_function(&self, at: u32) -> bool {
        at == 0 && self.has_no_first
    }

    /// Whether this mapping is none: entry 0, if it says nothing.
    pub(super) const fn is_no_mapping(at: u32, row: &MappingRow) -> bool {
        at == 0 && row.place.is_empty()
    }

    pub(super) const fn n_attributes(&self) -> usize {
        self.attributes.len()
    }

    /// Bytes taken from the budget.
    pub(super) fn permitted_bytes(&self) -> u64 {
        self.permit.as_ref().map_or(0, Permit::bytes)
    }

    /// Reads all tables but that of attributes. The last string that functions and mappings name.
    fn read_tables(&mut self, body: &[u8], place: Span) -> Result<u32, Malformed> {
        let mut last = 0;
        let mut fields = Fields::of(body, place, DICTIONARY);
        while let Some(tag) = fields.next()? {
            match tag.number {
                1 => {
                    let row = mapping(body, fields.span(tag)?)?;
                    last = last.max(row.filename);
                    self.mappings.push(row);
                }
                2 => self.locations.push(fields.span(tag)?),
                3 => {
                    let place = fields.span(tag)?;
                    // An export with one that cannot be read is refused whole.
                    let row = function(body, place)?;
                    last = last.max(row.name).max(row.system_name).max(row.filename);
                    if self.functions.is_empty() {
                        let texts = [row.name, row.system_name, row.filename];
                        self.has_no_first = texts == [0; 3];
                    }
                    self.texts_of.push([row.name, row.filename]);
                    self.functions.push(place);
                }
                4 => self.links.push(fields.span(tag)?),
                5 => self.strings.push(fields.span(tag)?),
                7 => self.stacks.push(fields.span(tag)?),
                _ => fields.skip(tag)?,
            }
        }
        Ok(last)
    }

    fn read_attributes(&mut self, body: &[u8], place: Span) -> Result<(), Malformed> {
        let strings = Strings {
            body,
            places: &self.strings,
        };
        let mut fields = Fields::of(body, place, DICTIONARY);
        while let Some(tag) = fields.next()? {
            if tag.number == 6 {
                let entry = fields.span(tag)?;
                // An export with one that cannot be read is refused whole.
                let attribute = strings.key_value_and_unit(entry, &mut self.interned)?;
                let at = self.attributes.len();
                match attribute.key.text(body) {
                    Some(FRAME_TYPE) => self.frame_types.push(at as u32),
                    Some(key) if key == SERVICE.as_bytes() => self.services.push(at as u32),
                    _ => {}
                }
                self.attributes.push(entry);
            } else {
                fields.skip(tag)?;
            }
        }
        Ok(())
    }

    /// A mapping has what each of its locations has.
    fn flag_mappings(&mut self, body: &[u8]) -> Result<(), Malformed> {
        const ALL: u32 = mapping_flags::HAS_FUNCTIONS
            | mapping_flags::HAS_FILENAMES
            | mapping_flags::HAS_LINE_NUMBERS;
        for at in 0..self.locations.len() {
            let mut has = 0;
            let location = location(body, self.locations[at], |line| {
                has |= self.line_flags(line);
            })?;
            if let Some(row) = self.mappings.get_mut(location.mapping as usize) {
                // The bit of inline frames, which is not used, marks a first look.
                let first = row.flags & mapping_flags::HAS_INLINE_FRAMES == 0;
                let before = if first { ALL } else { row.flags };
                row.flags = mapping_flags::HAS_INLINE_FRAMES | has & before;
            }
        }
        for row in &mut self.mappings {
            row.flags &= ALL;
        }
        Ok(())
    }

    fn count_frame_types(&mut self, body: &[u8]) -> Result<(), Malformed> {
        if self.frame_types.is_empty() {
            return Ok(());
        }
        for &place in &self.locations {
            let mut fields = Fields::of(body, place, LOCATION);
            let mut has_type = false;
            while let Some(tag) = fields.next()? {
                if tag.number == 4 {
                    fields.ints(tag, |index| {
                        let index = u32::try_from(index).unwrap_or(NO_INDEX);
                        has_type |= self.frame_types.binary_search(&index).is_ok();
                    })?;
                } else {
                    fields.skip(tag)?;
                }
            }
            self.n_frame_types += u64::from(has_type);
        }
        Ok(())
    }

    fn line_flags(&self, line: LineRow) -> u32 {
        let mut flags = 0;
        let named = |index: u32| {
            let text = self.strings.get(index as usize);
            text.is_some_and(|text| !text.is_empty())
        };
        if let Some(&[name, filename]) = self.texts_of.get(line.function as usize) {
            if named(name) {
                flags |= mapping_flags::HAS_FUNCTIONS;
            }
            if named(filename) {
                flags |= mapping_flags::HAS_FILENAMES;
            }
        }
        if line.line != 0 {
            flags |= mapping_flags::HAS_LINE_NUMBERS;
        }
        flags
    }

    /// The attribute at an index, `None` outside of the table.
    pub(super) fn attribute(&self, body: &[u8], at: u32) -> Option<Result<Attribute, Malformed>> {
        let strings = Strings {
            body,
            places: &self.strings,
        };
        let &place = self.attributes.get(at as usize)?;
        Some(strings.key_value_and_unit(place, &mut false))
    }

    /// The link at an index, `None` outside of the table.
    pub(super) fn link(&self, body: &[u8], at: u32) -> Option<Result<Link, Malformed>> {
        self.links.get(at as usize).map(|&place| link(body, place))
    }
}

fn mapping(body: &[u8], place: Span) -> Result<MappingRow, Malformed> {
    let mut fields = Fields::of(body, place, "a mapping");
    let mut row = MappingRow {
        place,
        ..MappingRow::default()
    };
    while let Some(tag) = fields.next()? {
        match tag.number {
            1 => row.start = fields.int(tag)?,
            2 => row.limit = fields.int(tag)?,
            3 => row.offset = fields.int(tag)?,
            4 => row.filename = fields.index(tag)?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(row)
}

/// A location, whose lines are handed to `each`, innermost first.
pub(super) fn location(
    body: &[u8],
    place: Span,
    mut each: impl FnMut(LineRow),
) -> Result<LocationRow, Malformed> {
    let mut fields = Fields::of(body, place, LOCATION);
    let mut row = LocationRow::default();
    while let Some(tag) = fields.next()? {
        match tag.number {
            1 => row.mapping = fields.index(tag)?,
            2 => row.address = fields.int(tag)?,
            3 => each(line(body, fields.span(tag)?)?),
            _ => fields.skip(tag)?,
        }
    }
    Ok(row)
}

pub(super) fn function(body: &[u8], place: Span) -> Result<FunctionRow, Malformed> {
    let mut fields = Fields::of(body, place, "a function");
    let mut row = FunctionRow::default();
    while let Some(tag) = fields.next()? {
        match tag.number {
            1 => row.name = fields.index(tag)?,
            2 => row.system_name = fields.index(tag)?,
            3 => row.filename = fields.index(tag)?,
            4 => row.start_line = fields.int(tag)? as i64,
            _ => fields.skip(tag)?,
        }
    }
    Ok(row)
}

fn line(body: &[u8], place: Span) -> Result<LineRow, Malformed> {
    let mut fields = Fields::of(body, place, "a line");
    let mut row = LineRow::default();
    while let Some(tag) = fields.next()? {
        match tag.number {
            1 => row.function = fields.index(tag)?,
            2 => row.line = fields.int(tag)? as i64,
            _ => fields.skip(tag)?,
        }
    }
    Ok(row)
}

/// Ids of another length than theirs count as not given.
fn link(body: &[u8], place: Span) -> Result<Link, Malformed> {
    let mut fields = Fields::of(body, place, "a link");
    let mut link = Link::default();
    while let Some(tag) = fields.next()? {
        match tag.number {
            1 => link.trace = fields.span(tag)?.of(body).try_into().unwrap_or_default(),
            2 => link.span = fields.span(tag)?.of(body).try_into().unwrap_or_default(),
            _ => fields.skip(tag)?,
        }
    }
    Ok(link)
}

/// The attribute indexes of a mapping.
pub(super) fn mapping_attributes(
    body: &[u8],
    mapping: Span,
    mut each: impl FnMut(u32),
) -> Result<(), Malformed> {
    let mut fields = Fields::of(body, mapping, "a mapping");
    while let Some(tag) = fields.next()? {
        if tag.number == 5 {
            fields.ints(tag, |index| each(u32::try_from(index).unwrap_or(NO_INDEX)))?;
        } else {
            fields.skip(tag)?;
        }
    }
    Ok(())
}

/// The location indexes of a stack, leaf first.
pub(super) fn stack_locations(
    body: &[u8],
    stack: Span,
    mut each: impl FnMut(u32),
) -> Result<(), Malformed> {
    let mut fields = Fields::of(body, stack, "a stack");
    while let Some(tag) = fields.next()? {
        if tag.number == 1 {
            fields.ints(tag, |index| each(u32::try_from(index).unwrap_or(NO_INDEX)))?;
        } else {
            fields.skip(tag)?;
        }
    }
    Ok(())
}

impl Value {
    /// The text's bytes, for a value that is one.
    pub(super) fn text(self, body: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Text(place) => Some(place.of(body)),
            _ => None,
        }
    }
}
