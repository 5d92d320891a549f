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

use super::{COUNTS, MAGIC, NONE};
use crate::columns::{Col32, Col64};
use crate::{Labels, ProfileType, RetryKey};

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
    pub mapping_start: Col64<'a>,
    pub mapping_limit: Col64<'a>,
    pub mapping_offset: Col64<'a>,
    pub function_start_line: Col64<'a>,
    pub location_address: Col64<'a>,
    pub line_number: Col64<'a>,
    pub profile_time: Col64<'a>,
    pub profile_duration: Col64<'a>,
    pub profile_period: Col64<'a>,
    pub sample_value: Col64<'a>,
    pub sample_span: Col64<'a>,
    pub string_end: Col32<'a>,
    pub mapping_filename: Col32<'a>,
    pub mapping_build_id: Col32<'a>,
    pub mapping_flags: Col32<'a>,
    pub function_name: Col32<'a>,
    pub function_system_name: Col32<'a>,
    pub function_filename: Col32<'a>,
    pub location_mapping: Col32<'a>,
    pub location_lines_end: Col32<'a>,
    pub line_function: Col32<'a>,
    pub stack_end: Col32<'a>,
    pub frame: Col32<'a>,
    pub series_end: Col32<'a>,
    pub label_name: Col32<'a>,
    pub label_value: Col32<'a>,
    /// Five entries a type.
    pub kind: Col32<'a>,
    pub profile_series: Col32<'a>,
    pub profile_kind: Col32<'a>,
    pub profile_samples_end: Col32<'a>,
    pub sample_stack: Col32<'a>,
    /// Cuts the profiles into writes.
    pub write_end: Col32<'a>,
    text: &'a str,
}

/// Hands out consecutive columns.
struct Cutter<'a> {
    left: &'a [u8],
}

impl<'a> Cutter<'a> {
    fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (head, left) = self.left.split_at(n);
        self.left = left;
        head
    }

    fn col32(&mut self, n: usize) -> Col32<'a> {
        Col32::new(self.bytes(n * 4))
    }

    fn col64(&mut self, n: usize) -> Col64<'a> {
        Col64::new(self.bytes(n * 8))
    }
}

impl<'a> PartView<'a> {
    /// Reads and checks a whole part.
    ///
    /// # Errors
    /// Names the first column that breaks an invariant of the module page.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PartError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(PartError::Magic)?;
        let (head, body) = body.split_at_checked(COUNTS * 4).ok_or(PartError::Magic)?;
        let counts = Col32::new(head);
        let n = |at: usize| counts.get(at) as usize;
        let expected = length_of(|at| u64::from(counts.get(at)));
        if expected != body.len() as u64 {
            return Err(PartError::Length {
                expected,
                actual: body.len(),
            });
        }
        let mut cut = Cutter { left: body };
        let write_key = cut.bytes(n(15) * 16).as_chunks().0;
        let sample_trace = cut.bytes(n(14) * 16).as_chunks().0;
        let [mapping_start, mapping_limit, mapping_offset] = [(); 3].map(|()| cut.col64(n(2)));
        let function_start_line = cut.col64(n(3));
        let location_address = cut.col64(n(4));
        let line_number = cut.col64(n(5));
        let [profile_time, profile_duration, profile_period] = [(); 3].map(|()| cut.col64(n(11)));
        let sample_value = cut.col64(n(12));
        let sample_span = cut.col64(n(13));
        let string_end = cut.col32(n(0));
        let [mapping_filename, mapping_build_id, mapping_flags] = [(); 3].map(|()| cut.col32(n(2)));
        let [function_name, function_system_name, function_filename] =
            [(); 3].map(|()| cut.col32(n(3)));
        let [location_mapping, location_lines_end] = [(); 2].map(|()| cut.col32(n(4)));
        let line_function = cut.col32(n(5));
        let stack_end = cut.col32(n(6));
        let frame = cut.col32(n(7));
        let series_end = cut.col32(n(8));
        let [label_name, label_value] = [(); 2].map(|()| cut.col32(n(9)));
        let kind = cut.col32(n(10) * 5);
        let [profile_series, profile_kind, profile_samples_end] =
            [(); 3].map(|()| cut.col32(n(11)));
        let sample_stack = cut.col32(n(12));
        let write_end = cut.col32(n(15));
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

/// Bytes after the counts, or `u64::MAX` for counts that contradict each other.
pub(super) fn length_of(counts: impl Fn(usize) -> u64) -> u64 {
    let n = counts;
    let optional_fits = |at: usize| n(at) == 0 || n(at) == n(12);
    if !optional_fits(13) || !optional_fits(14) || n(16) != 0 {
        return u64::MAX;
    }
    let wide16 = n(15) + n(14);
    let wide8 = 3 * n(2) + n(3) + n(4) + n(5) + 3 * n(11) + n(12) + n(13);
    let wide4 = n(0)
        + 3 * n(2)
        + 3 * n(3)
        + 2 * n(4)
        + n(5)
        + n(6)
        + n(7)
        + n(8)
        + 2 * n(9)
        + 5 * n(10)
        + 3 * n(11)
        + n(12)
        + n(15);
    16 * wide16 + 8 * wide8 + 4 * wide4 + n(1)
}

fn check_strings<'a>(string_end: Col32<'_>, bytes: &'a [u8]) -> Result<&'a str, PartError> {
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

fn inside(column: &'static str, col: Col32<'_>, size: usize) -> Result<(), PartError> {
    if col.iter().fold(0, u32::max) < size as u32 || col.is_empty() {
        return Ok(());
    }
    let at = col
        .iter()
        .position(|v| v as usize >= size)
        .unwrap_or_default();
    Err(PartError::Index {
        column,
        at,
        value: col.get(at),
        size,
    })
}

fn inside_or_none(column: &'static str, col: Col32<'_>, size: usize) -> Result<(), PartError> {
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

fn ends(column: &'static str, col: Col32<'_>, size: usize) -> Result<(), PartError> {
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
