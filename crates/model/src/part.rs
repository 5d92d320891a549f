//! The columnar form of decoded profiles: what a distributor hands to an ingester.
//!
//! A [`Part`] is one uploaded profile after decoding, normalisation and splitting, or several that
//! came in one request and share their symbols: symbol tables, the distinct stacktraces, and one
//! [`ProfileRow`] for each (series, profile type) that came out of them, each owning a run of
//! samples. Each uploaded profile is a [`Write`] of its own: it can be a resend while the ones
//! beside it are new. [`Part::encode`] writes a part as [packed](crate::packed) columns;
//! [`PartView::parse`] reads those in place, having checked every index once, so that the interner
//! that walks it needs no further checks.
//!
//! ```text
//! magic "SCP3" | 16 x u32 row counts | 32 x u8 widths of columns | keys | traces | columns | bytes
//! ```
//! The order of the columns is the order in which [`Part::encode`] names them: those of 64-bit
//! numbers, then those of 32-bit numbers. A part of the version before, `SCP2`, has a count more,
//! which is 0, instead of widths: all of its columns are eight or four bytes wide.
//!
//! # What it must not know
//! What the profiles were decoded from, and where the part goes.

mod symbols;
mod view;

#[cfg(test)]
mod tests;

pub use symbols::{Function, Line, Location};
pub use view::{PartError, PartView};

use std::borrow::Cow;
use std::ops::Range;

use crate::packed::{ColumnsOf, Number};
use crate::{Labels, Packed, ProfileType, RetryKey, Rows, Timestamp};

/// Stands for "no mapping" and "no function".
pub const NONE: u32 = u32::MAX;

const MAGIC: &[u8; 4] = b"SCP3";
/// Of the version before.
const OLD_MAGIC: &[u8; 4] = b"SCP2";
const COUNTS: usize = 16;
/// Columns of 64-bit numbers and all columns.
const COLUMNS_64: usize = 11;
const COLUMNS: usize = 32;

/// Flags of a mapping: what its symbols already carry.
pub mod mapping_flags {
    pub const HAS_FUNCTIONS: u32 = 1;
    pub const HAS_FILENAMES: u32 = 2;
    pub const HAS_LINE_NUMBERS: u32 = 4;
    pub const HAS_INLINE_FRAMES: u32 = 8;
}

/// A string table: one run of bytes, cut by ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strings {
    pub ends: Vec<u32>,
    pub bytes: Vec<u8>,
}

impl Strings {
    pub fn push(&mut self, text: &str) -> u32 {
        let at = self.ends.len() as u32;
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(self.bytes.len() as u32);
        at
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of the string at `at`, which must be inside.
    pub fn get(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let start = if at == 0 {
            0
        } else {
            self.ends[at - 1] as usize
        };
        &self.bytes[start..self.ends[at] as usize]
    }
}

/// Strings are indexes into the part's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mapping {
    pub start: u64,
    pub limit: u64,
    pub offset: u64,
    pub filename: u32,
    pub build_id: u32,
    /// See [`mapping_flags`].
    pub flags: u32,
}

/// One (series, profile type) of the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileRow {
    /// Index into [`Part::series`].
    pub series: u32,
    /// Index into [`Part::types`].
    pub kind: u32,
    pub time: Timestamp,
    pub duration_ns: i64,
    pub period: i64,
    /// One past the profile's last sample; its first is the end of the row before.
    pub samples_end: u32,
}

/// One uploaded profile of the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// By which a resend is recognised.
    pub key: RetryKey,
    /// One past its last entry in [`Part::profiles`]; its first is the end of the one before.
    pub profiles_end: u32,
}

/// How many rows of what profiles are there: see [`Part::truncate_rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowCounts {
    pub series: usize,
    series_labels: usize,
    pub profiles: usize,
    pub samples: usize,
}

/// The owned form. See the module page for what holds of it once encoded and parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub writes: Vec<Write>,
    pub strings: Strings,
    pub mappings: Vec<Mapping>,
    pub functions: Rows<Function>,
    pub locations: Rows<Location>,
    pub lines: Rows<Line>,
    /// One past the stack's last entry in `frames`.
    pub stack_ends: Packed<u32>,
    /// Location indexes, leaf first.
    pub frames: Packed<u32>,
    /// One past the series' last entry in `series_labels`.
    pub series_ends: Vec<u32>,
    /// (name, value) string indexes, sorted by name within a series.
    pub series_labels: Vec<(u32, u32)>,
    /// name, sample type, sample unit, period type, period unit.
    pub types: Vec<[u32; 5]>,
    pub profiles: Vec<ProfileRow>,
    /// Index into the stacks. Within a profile each (stack, span, trace) stands once.
    pub sample_stack: Packed<u32>,
    pub sample_value: Packed<i64>,
    /// Empty, or one per sample; 0 = none.
    pub sample_span: Vec<u64>,
    /// Empty, or one per sample; zeros = none.
    pub sample_trace: Vec<[u8; 16]>,
}

impl Default for Part {
    fn default() -> Self {
        let mut strings = Strings::default();
        strings.push("");
        Self {
            writes: Vec::new(),
            strings,
            mappings: Vec::new(),
            functions: Rows::default(),
            locations: Rows::default(),
            lines: Rows::default(),
            stack_ends: Packed::default(),
            frames: Packed::default(),
            series_ends: Vec::new(),
            series_labels: Vec::new(),
            types: Vec::new(),
            profiles: Vec::new(),
            sample_stack: Packed::default(),
            sample_value: Packed::default(),
            sample_span: Vec::new(),
            sample_trace: Vec::new(),
        }
    }
}

impl Part {
    /// Adds a location of a mapping, an address and lines, the innermost inlined call first, behind
    /// those that came since the location before; its index.
    pub fn push_location(
        &mut self,
        (mapping, address): (u32, u64),
        lines: impl IntoIterator<Item = Line>,
    ) -> u32 {
        let at = self.locations.len() as u32;
        self.lines.extend(lines);
        self.locations.push(Location {
            mapping,
            address,
            lines_end: self.lines.len() as u32,
        });
        at
    }

    /// The location at `at`, which must be inside, and the places of its lines.
    pub fn location(&self, at: u32) -> (Location, Range<usize>) {
        let at = at as usize;
        let row = self.locations.get(at);
        let end = |at| {
            self.locations
                .cell(at, |row| row.lines_end, |columns| &columns.2)
        };
        let start = at.checked_sub(1).map_or(0, end) as usize;
        (row, start..row.lines_end as usize)
    }

    /// Adds a series; its index.
    pub fn push_series(&mut self, labels: &Labels) -> u32 {
        let at = self.series_ends.len() as u32;
        for label in labels {
            let name = self.strings.push(&label.name);
            let value = self.strings.push(&label.value);
            self.series_labels.push((name, value));
        }
        self.series_ends.push(self.series_labels.len() as u32);
        at
    }

    /// Adds a profile type; its index.
    pub fn push_type(&mut self, kind: &ProfileType) -> u32 {
        let at = self.types.len() as u32;
        let texts = [
            &kind.name,
            &kind.sample_type,
            &kind.sample_unit,
            &kind.period_type,
            &kind.period_unit,
        ];
        let row = texts.map(|text| {
            if text.is_empty() {
                0
            } else {
                self.strings.push(text)
            }
        });
        self.types.push(row);
        at
    }

    /// Makes the profiles since the last one a write.
    pub fn end_write(&mut self, key: RetryKey) {
        self.writes.push(Write {
            key,
            profiles_end: self.profiles.len() as u32,
        });
    }

    /// The rows so far.
    pub const fn rows(&self) -> RowCounts {
        RowCounts {
            series: self.series_ends.len(),
            series_labels: self.series_labels.len(),
            profiles: self.profiles.len(),
            samples: self.sample_stack.len(),
        }
    }

    /// Forgets the series, profiles and samples that came after these rows. Symbols, stacktraces
    /// and types stay.
    pub fn truncate_rows(&mut self, rows: &RowCounts) {
        self.series_ends.truncate(rows.series);
        self.series_labels.truncate(rows.series_labels);
        self.profiles.truncate(rows.profiles);
        self.sample_stack.truncate(rows.samples);
        self.sample_value.truncate(rows.samples);
        self.sample_span.truncate(rows.samples);
        self.sample_trace.truncate(rows.samples);
    }

    /// Empties the part for another profile; its memory stays, but for that of rows which there were
    /// so many of that they became columns.
    pub fn clear(&mut self) {
        self.writes.clear();
        self.strings.ends.clear();
        self.strings.bytes.clear();
        self.strings.push("");
        self.mappings.clear();
        self.functions.clear();
        self.locations.clear();
        self.lines.clear();
        self.stack_ends.clear();
        self.frames.clear();
        self.series_ends.clear();
        self.series_labels.clear();
        self.types.clear();
        self.profiles.clear();
        self.sample_stack.clear();
        self.sample_value.clear();
        self.sample_span.clear();
        self.sample_trace.clear();
    }

    /// Memory held, in bytes, by the columns that a profile can make large.
    pub fn held_bytes(&self) -> usize {
        self.strings.ends.capacity() * 4
            + self.strings.bytes.capacity()
            + self.mappings.capacity() * size_of::<Mapping>()
            + self.functions.held_bytes()
            + self.locations.held_bytes()
            + self.lines.held_bytes()
            + self.stack_ends.held_bytes()
            + self.frames.held_bytes()
            + (self.series_ends.capacity() + self.series_labels.capacity()) * 8
            + self.profiles.capacity() * size_of::<ProfileRow>()
            + self.sample_stack.held_bytes()
            + self.sample_value.held_bytes()
            + (self.sample_span.capacity() + self.sample_trace.capacity()) * 16
    }

    /// The bytes that [`encode`](Self::encode) appends, at most.
    pub fn encoded_bytes(&self) -> usize {
        HEAD_BYTES
            + self.strings.ends.len() * 4
            + self.strings.bytes.len()
            + self.mappings.len() * size_of::<Mapping>()
            + self.functions.bytes()
            + self.locations.bytes()
            + self.lines.bytes()
            + self.stack_ends.bytes().len()
            + self.frames.bytes().len()
            + (self.series_ends.len() + 2 * self.series_labels.len()) * 4
            + self.types.len() * size_of::<[u32; 5]>()
            + self.profiles.len() * size_of::<ProfileRow>()
            + self.sample_stack.bytes().len()
            + self.sample_value.bytes().len()
            + self.sample_span.len() * 8
            + self.sample_trace.len() * 16
            + self.writes.len() * size_of::<Write>()
    }

    /// What the columns take less than if they were whole: by so much one sample, location, line or
    /// function can make them grow.
    pub fn narrowed_bytes(&self) -> usize {
        self.sample_stack.narrowed_bytes()
            + self.sample_value.narrowed_bytes()
            + self.frames.narrowed_bytes()
            + self.stack_ends.narrowed_bytes()
            + self.functions.narrowed_bytes()
            + self.locations.narrowed_bytes()
            + self.lines.narrowed_bytes()
    }

    /// Appends the part to `out`, which gets no more room than that takes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let rows = RowColumns::of(self);
        let columns = self.columns(&rows);
        let bytes = columns.iter().map(|column| column.bytes.len());
        let keys = (self.writes.len() + self.sample_trace.len()) * 16;
        out.reserve_exact(HEAD_BYTES + keys + bytes.sum::<usize>() + self.strings.bytes.len());
        out.extend_from_slice(MAGIC);
        let counts = self.counts().map(|n| (n as u32).to_le_bytes());
        out.extend_from_slice(counts.as_flattened());
        out.extend(columns.iter().map(|column| column.width));
        let keys = self.writes.iter().map(|write| &write.key.0);
        keys.chain(&self.sample_trace)
            .for_each(|id| out.extend_from_slice(id));
        columns
            .iter()
            .for_each(|column| out.extend_from_slice(column.bytes));
        out.extend_from_slice(&self.strings.bytes);
    }

    fn columns<'p>(&'p self, rows: &'p RowColumns<'_>) -> [Column<'p>; COLUMNS] {
        let [start, limit, offset] = &rows.mapping_places;
        let [mapping_filename, build_id, flags] = &rows.mapping_texts;
        let [time, duration, period] = &rows.profile_numbers;
        let [label_name, label_value] = &rows.labels;
        let [series, kind, samples_end] = &rows.profile_places;
        let (names, system_names, filenames, start_lines) = &*rows.functions;
        let (location_mappings, addresses, lines_ends) = &*rows.locations;
        let (line_functions, line_numbers) = &*rows.lines;
        [
            start.into(),
            limit.into(),
            offset.into(),
            start_lines.into(),
            addresses.into(),
            line_numbers.into(),
            time.into(),
            duration.into(),
            period.into(),
            (&self.sample_value).into(),
            (&rows.spans).into(),
            (&rows.string_ends).into(),
            mapping_filename.into(),
            build_id.into(),
            flags.into(),
            names.into(),
            system_names.into(),
            filenames.into(),
            location_mappings.into(),
            lines_ends.into(),
            line_functions.into(),
            (&self.stack_ends).into(),
            (&self.frames).into(),
            (&rows.series_ends).into(),
            label_name.into(),
            label_value.into(),
            (&rows.types).into(),
            series.into(),
            kind.into(),
            samples_end.into(),
            (&self.sample_stack).into(),
            (&rows.write_ends).into(),
        ]
    }

    fn counts(&self) -> [usize; COUNTS] {
        [
            self.strings.ends.len(),
            self.strings.bytes.len(),
            self.mappings.len(),
            self.functions.len(),
            self.locations.len(),
            self.lines.len(),
            self.stack_ends.len(),
            self.frames.len(),
            self.series_ends.len(),
            self.series_labels.len(),
            self.types.len(),
            self.profiles.len(),
            self.sample_stack.len(),
            self.sample_span.len(),
            self.sample_trace.len(),
            self.writes.len(),
        ]
    }
}

/// What comes before the columns.
const HEAD_BYTES: usize = MAGIC.len() + COUNTS * 4 + COLUMNS;

/// A column as it is written.
struct Column<'p> {
    width: u8,
    bytes: &'p [u8],
}

impl<'p, T: Number> From<&'p Packed<T>> for Column<'p> {
    fn from(column: &'p Packed<T>) -> Self {
        Self {
            width: column.width() as u8,
            bytes: column.bytes(),
        }
    }
}

/// The columns of what a part holds in another form, or may.
struct RowColumns<'p> {
    functions: Cow<'p, ColumnsOf<Function>>,
    locations: Cow<'p, ColumnsOf<Location>>,
    lines: Cow<'p, ColumnsOf<Line>>,
    mapping_places: [Packed<u64>; 3],
    mapping_texts: [Packed<u32>; 3],
    profile_numbers: [Packed<i64>; 3],
    profile_places: [Packed<u32>; 3],
    spans: Packed<u64>,
    string_ends: Packed<u32>,
    series_ends: Packed<u32>,
    labels: [Packed<u32>; 2],
    types: Packed<u32>,
    write_ends: Packed<u32>,
}

impl<'p> RowColumns<'p> {
    fn of(part: &'p Part) -> Self {
        let (mappings, profiles, labels) = (&part.mappings, &part.profiles, &part.series_labels);
        Self {
            functions: part.functions.columns(),
            locations: part.locations.columns(),
            lines: part.lines.columns(),
            mapping_places: [
                column(mappings, |m| m.start),
                column(mappings, |m| m.limit),
                column(mappings, |m| m.offset),
            ],
            mapping_texts: [
                column(mappings, |m| m.filename),
                column(mappings, |m| m.build_id),
                column(mappings, |m| m.flags),
            ],
            profile_numbers: [
                column(profiles, |p| p.time.0),
                column(profiles, |p| p.duration_ns),
                column(profiles, |p| p.period),
            ],
            profile_places: [
                column(profiles, |p| p.series),
                column(profiles, |p| p.kind),
                column(profiles, |p| p.samples_end),
            ],
            spans: column(&part.sample_span, |&span| span),
            string_ends: column(&part.strings.ends, |&end| end),
            series_ends: column(&part.series_ends, |&end| end),
            labels: [column(labels, |l| l.0), column(labels, |l| l.1)],
            types: column(part.types.as_flattened(), |&text| text),
            write_ends: column(&part.writes, |write| write.profiles_end),
        }
    }
}

fn column<R, T: Number>(rows: &[R], number: impl Fn(&R) -> T + Clone) -> Packed<T> {
    Packed::narrowest(rows.iter().map(number))
}
