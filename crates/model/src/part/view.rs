//! Reading a part in place.
//!
//! # Invariants of a parsed view
//! - string 0 is the empty string; every string is UTF-8; every string index is inside the table;
//! - `location.mapping` and `line.function` are inside their tables or [`NONE`];
//! - columns of ends never fall, and the last end is the length of what they cut;
//! - every profile's series and type, every sample's stack and every frame are inside their tables.
//!
//! # What it must not know
//! Who wrote the bytes: they are checked as if a stranger had.

use super::{COLUMNS, COLUMNS_64, COUNTS, MAGIC, NONE, OLD_MAGIC};
use crate::packed::Number;
use crate::{Labels, PackedSlice, ProfileType, RetryKey};

/// What is wrong with the bytes of a part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    #[error("the part does not start with its magic")]
    Magic,
    #[error("the part is {actual} bytes long, its counts ask for {expected}")]
    Length { expected: u64, actual: usize },
    #[error("{column} {at}: {value} is outside its table of {size}")]
    Index {
        column: &'static str,
        at: usize,
        value: u32,
        size: usize,
    },
    #[error("column {column} of the part is {width} bytes wide; its numbers never are")]
    Width { column: usize, width: u8 },
    #[error("{column}: the ends fall or do not reach the last entry")]
    Ends { column: &'static str },
    #[error("the part's string {at} is not UTF-8")]
    Utf8 { at: usize },
    #[error("the part's first string is not the empty one")]
    FirstString,
}

/// A part read in place. Fields are as in [`Part`], a column each.
#[derive(Debug, Clone, Copy)]
pub struct PartView<'a> {
    /// One for each write.
    write_key: &'a [[u8; 16]],
    pub sample_trace: &'a [[u8; 16]],
    pub mapping_start: PackedSlice<'a, u64>,
    pub mapping_limit: PackedSlice<'a, u64>,
    pub mapping_offset: PackedSlice<'a, u64>,
    pub function_start_line: PackedSlice<'a, i64>,
    pub location_address: PackedSlice<'a, u64>,
    pub line_number: PackedSlice<'a, i64>,
    pub profile_time: PackedSlice<'a, i64>,
    pub profile_duration: PackedSlice<'a, i64>,
    pub profile_period: PackedSlice<'a, i64>,
    pub sample_value: PackedSlice<'a, i64>,
    pub sample_span: PackedSlice<'a, u64>,
    pub string_end: PackedSlice<'a, u32>,
    pub mapping_filename: PackedSlice<'a, u32>,
    pub mapping_build_id: PackedSlice<'a, u32>,
    pub mapping_flags: PackedSlice<'a, u32>,
    pub function_name: PackedSlice<'a, u32>,
    pub function_system_name: PackedSlice<'a, u32>,
    pub function_filename: PackedSlice<'a, u32>,
    pub location_mapping: PackedSlice<'a, u32>,
    pub location_lines_end: PackedSlice<'a, u32>,
    pub line_function: PackedSlice<'a, u32>,
    pub stack_end: PackedSlice<'a, u32>,
    pub frame: PackedSlice<'a, u32>,
    pub series_end: PackedSlice<'a, u32>,
    pub label_name: PackedSlice<'a, u32>,
    pub label_value: PackedSlice<'a, u32>,
    /// Five entries a type.
    pub kind: PackedSlice<'a, u32>,
    pub profile_series: PackedSlice<'a, u32>,
    pub profile_kind: PackedSlice<'a, u32>,
    pub profile_samples_end: PackedSlice<'a, u32>,
    pub sample_stack: PackedSlice<'a, u32>,
    /// Cuts the profiles into writes.
    pub write_end: PackedSlice<'a, u32>,
    text: &'a str,
}

/// Hands out consecutive columns.
struct Cutter<'a> {
    counts: Counts,
    widths: [u8; COLUMNS],
    /// The next column.
    at: usize,
    left: &'a [u8],
}

impl<'a> Cutter<'a> {
    fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (head, left) = self.left.split_at(n);
        self.left = left;
        head
    }

    fn column<T: Number>(&mut self) -> Result<PackedSlice<'a, T>, PartError> {
        let (column, width) = (self.at, self.widths[self.at]);
        self.at += 1;
        let rows = rows_of(column, &self.counts);
        let bytes = self.bytes(rows as usize * usize::from(width));
        PackedSlice::new(bytes, usize::from(width)).ok_or(PartError::Width { column, width })
    }

    fn columns<T: Number, const N: usize>(&mut self) -> Result<[PackedSlice<'a, T>; N], PartError> {
        let mut columns = [PackedSlice::default(); N];
        for column in &mut columns {
            *column = self.column()?;
        }
        Ok(columns)
    }
}

/// Rows of each table, and bytes of text.
type Counts = [u32; COUNTS];

/// What comes before the columns.
fn head(bytes: &[u8]) -> Option<(Counts, [u8; COLUMNS], &[u8])> {
    let read = |counts: &[[u8; 4]; COUNTS]| counts.map(u32::from_le_bytes);
    if let Some(rest) = bytes.strip_prefix(MAGIC) {
        let (counts, rest) = rest.split_first_chunk::<{ COUNTS * 4 }>()?;
        let (widths, rest) = rest.split_first_chunk()?;
        return Some((read(counts.as_chunks().0.first_chunk()?), *widths, rest));
    }
    let rest = bytes.strip_prefix(OLD_MAGIC)?;
    let (counts, rest) = rest.split_first_chunk::<{ COUNTS * 4 }>()?;
    // A count that was never used.
    let rest = rest.strip_prefix(&[0; 4])?;
    let widths = std::array::from_fn(|column| if column < COLUMNS_64 { 8 } else { 4 });
    Some((read(counts.as_chunks().0.first_chunk()?), widths, rest))
}

impl<'a> PartView<'a> {
    /// Reads and checks a whole part.
    ///
    /// # Errors
    /// Names the first column that breaks an invariant of the module page.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PartError> {
        let (counts, widths, body) = head(bytes).ok_or(PartError::Magic)?;
        let expected = length_of(&counts, &widths);
        if expected != body.len() as u64 {
            return Err(PartError::Length {
                expected,
                actual: body.len(),
            });
        }
        let mut cut = Cutter {
            counts,
            widths,
            at: 0,
            left: body,
        };
        let write_key = cut.bytes(counts[15] as usize * 16).as_chunks().0;
        let sample_trace = cut.bytes(counts[14] as usize * 16).as_chunks().0;
        let [mapping_start, mapping_limit, mapping_offset] = cut.columns()?;
        let function_start_line = cut.column()?;
        let location_address = cut.column()?;
        let line_number = cut.column()?;
        let [profile_time, profile_duration, profile_period] = cut.columns()?;
        let sample_value = cut.column()?;
        let sample_span = cut.column()?;
        let string_end = cut.column()?;
        let [mapping_filename, mapping_build_id, mapping_flags] = cut.columns()?;
        let [function_name, function_system_name, function_filename] = cut.columns()?;
        let [location_mapping, location_lines_end] = cut.columns()?;
        let line_function = cut.column()?;
        let stack_end = cut.column()?;
        let frame = cut.column()?;
        let series_end = cut.column()?;
        let [label_name, label_value] = cut.columns()?;
        let kind = cut.column()?;
        let [profile_series, profile_kind, profile_samples_end] = cut.columns()?;
        let sample_stack = cut.column()?;
        let write_end = cut.column()?;
        let text = check_strings(string_end, cut.left)?;
        let view = Self {
            write_key,
            sample_trace,
            mapping_start,
            mapping_limit,
            mapping_offset,
            function_start_line,
            location_address,
            line_number,
            profile_time,
            profile_duration,
            profile_period,
            sample_value,
            sample_span,
            string_end,
            mapping_filename,
            mapping_build_id,
            mapping_flags,
            function_name,
            function_system_name,
            function_filename,
            location_mapping,
            location_lines_end,
            line_function,
            stack_end,
            frame,
            series_end,
            label_name,
            label_value,
            kind,
            profile_series,
            profile_kind,
            profile_samples_end,
            sample_stack,
            write_end,
            text,
        };
        view.check()?;
        Ok(view)
    }

    fn check(&self) -> Result<(), PartError> {
        let strings = self.string_end.len();
        inside("mapping filename", self.mapping_filename, strings)?;
        inside("mapping build id", self.mapping_build_id, strings)?;
        inside("function name", self.function_name, strings)?;
        inside("function system name", self.function_system_name, strings)?;
        inside("function filename", self.function_filename, strings)?;
        inside("label name", self.label_name, strings)?;
        inside("label value", self.label_value, strings)?;
        inside("profile type", self.kind, strings)?;
        inside_or_none(
            "location mapping",
            self.location_mapping,
            self.mapping_start.len(),
        )?;
        inside_or_none(
            "line function",
            self.line_function,
            self.function_name.len(),
        )?;
        inside("frame", self.frame, self.location_mapping.len())?;
        inside("profile series", self.profile_series, self.series_end.len())?;
        inside("profile type index", self.profile_kind, self.kinds())?;
        inside("sample stack", self.sample_stack, self.stack_end.len())?;
        ends(
            "location lines",
            self.location_lines_end,
            self.line_function.len(),
        )?;
        ends("stack frames", self.stack_end, self.frame.len())?;
        ends("series labels", self.series_end, self.label_name.len())?;
        ends(
            "profile samples",
            self.profile_samples_end,
            self.sample_stack.len(),
        )?;
        ends("writes", self.write_end, self.profile_series.len())
    }

    /// The bytes that the part would have with columns as wide as their numbers can be: what it
    /// becomes takes memory by that, however narrow it was sent.
    pub fn whole_bytes(&self) -> usize {
        let wide = [
            self.location_address.len(),
            self.line_number.len(),
            self.function_start_line.len(),
            self.sample_value.len(),
        ];
        let short = [
            self.string_end.len(),
            3 * self.function_name.len(),
            2 * self.location_mapping.len(),
            self.line_function.len(),
            self.stack_end.len(),
            self.frame.len(),
            self.sample_stack.len(),
        ];
        let ids = 8 * self.sample_span.len() + 16 * self.sample_trace.len();
        let columns = 8 * wide.iter().sum::<usize>() + 4 * short.iter().sum::<usize>();
        let profiles = 36 * self.profile_series.len();
        columns + ids + profiles + self.text.len()
    }

    /// By what a resend of each write is recognised, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = RetryKey> + use<'a> {
        self.write_key.iter().map(|key| RetryKey(*key))
    }

    /// The key of a write, which must be inside.
    pub fn key(&self, write: usize) -> RetryKey {
        RetryKey(self.write_key[write])
    }

    /// Number of profile types.
    pub fn kinds(&self) -> usize {
        self.kind.len() / 5
    }

    /// The string at `at`, which must be inside.
    pub fn string(&self, at: u32) -> &'a str {
        &self.text[self.string_end.span(at as usize)]
    }

    pub fn profile_type(&self, at: u32) -> ProfileType {
        let part = |i: usize| self.string(self.kind.get(at as usize * 5 + i));
        ProfileType::new(part(0), (part(1), part(2)), (part(3), part(4)))
    }

    pub fn series_labels(&self, at: u32) -> Labels {
        Labels::from_pairs(self.series_end.span(at as usize).map(|pair| {
            (
                self.string(self.label_name.get(pair)),
                self.string(self.label_value.get(pair)),
            )
        }))
    }

    /// The span id of a sample; 0 if it has none.
    pub fn span(&self, sample: usize) -> u64 {
        if self.sample_span.is_empty() {
            0
        } else {
            self.sample_span.get(sample)
        }
    }

    /// The trace id of a sample; zeros if it has none.
    pub fn trace(&self, sample: usize) -> [u8; 16] {
        self.sample_trace.get(sample).copied().unwrap_or_default()
    }
}

/// Which count says how many rows a column has.
const ROWS: [usize; COLUMNS] = [
    2, 2, 2, 3, 4, 5, 11, 11, 11, 12, 13, // of 64-bit numbers
    0, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 9, 10, 11, 11, 11, 12, 15,
];
/// The column of types, which have five texts each.
const TYPES: usize = 26;

fn rows_of(column: usize, counts: &Counts) -> u64 {
    let each = if column == TYPES { 5 } else { 1 };
    u64::from(counts[ROWS[column]]) * each
}

/// Bytes after the head, or `u64::MAX` for counts that contradict each other.
fn length_of(counts: &Counts, widths: &[u8; COLUMNS]) -> u64 {
    let optional_fits = |at: usize| counts[at] == 0 || counts[at] == counts[12];
    if !optional_fits(13) || !optional_fits(14) {
        return u64::MAX;
    }
    let columns = widths.iter().zip(0..);
    let columns = columns.map(|(&width, column)| u64::from(width) * rows_of(column, counts));
    let ids = 16 * (u64::from(counts[15]) + u64::from(counts[14]));
    ids + columns.sum::<u64>() + u64::from(counts[1])
}

fn check_strings<'a>(
    string_end: PackedSlice<'_, u32>,
    bytes: &'a [u8],
) -> Result<&'a str, PartError> {
    ends("strings", string_end, bytes.len())?;
    if string_end.is_empty() || string_end.get(0) != 0 {
        return Err(PartError::FirstString);
    }
    let at_byte = |byte: usize| string_end.iter().position(|end| end as usize > byte);
    let text = std::str::from_utf8(bytes).map_err(|e| PartError::Utf8 {
        at: at_byte(e.valid_up_to()).unwrap_or_default(),
    })?;
    match string_end
        .iter()
        .position(|end| !text.is_char_boundary(end as usize))
    {
        Some(at) => Err(PartError::Utf8 { at }),
        None => Ok(text),
    }
}

fn inside(column: &'static str, col: PackedSlice<'_, u32>, size: usize) -> Result<(), PartError> {
    // The largest is found faster than the first that is too large.
    if size > 0 && (col.iter().fold(0, u32::max) as usize) < size {
        return Ok(());
    }
    let mut values = col.iter().enumerate();
    match values.find(|(_, value)| *value as usize >= size) {
        Some((at, value)) => Err(PartError::Index {
            column,
            at,
            value,
            size,
        }),
        None => Ok(()),
    }
}

fn inside_or_none(
    column: &'static str,
    col: PackedSlice<'_, u32>,
    size: usize,
) -> Result<(), PartError> {
    match col.iter().position(|v| v != NONE && v as usize >= size) {
        Some(at) => Err(PartError::Index {
            column,
            at,
            value: col.get(at),
            size,
        }),
        None => Ok(()),
    }
}

fn ends(column: &'static str, col: PackedSlice<'_, u32>, size: usize) -> Result<(), PartError> {
    let mut last = 0;
    for end in col.iter() {
        if end < last {
            return Err(PartError::Ends { column });
        }
        last = end;
    }
    if last as usize == size {
        Ok(())
    } else {
        Err(PartError::Ends { column })
    }
}
