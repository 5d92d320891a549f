//! The columnar form of one decoded profile: what a distributor hands to an ingester.
//!
//! A [`Part`] is one uploaded profile after decoding, normalisation and splitting: shared symbol
//! tables, its distinct stacktraces, and one [`ProfileRow`] for each (series, profile type) that
//! came out of it, each owning a run of samples. [`Part::encode`] writes it as fixed-width
//! little-endian columns; [`PartView::parse`] reads those in place, having checked every index
//! once, so that the interner that walks it needs no further checks.
//!
//! ```text
//! magic "SCP1" | 17 x u32 row counts | 16-byte columns | 8-byte columns | 4-byte columns | bytes
//! ```
//! The order of the columns within a width is the order in which [`Part::encode`] names them.
//!
//! # Invariants of a parsed view
//! - string 0 is the empty string; every string is UTF-8; every string index is inside the table;
//! - `location.mapping` and `line.function` are inside their tables or [`NONE`];
//! - columns of ends never fall, and the last end is the length of what they cut;
//! - every profile's series and type, every sample's stack and every frame are inside their tables.

use crate::columns::{Col32, Col64, put_i64s, put_u32s, put_u64s};
use crate::{Labels, ProfileType, RetryKey, Timestamp};

/// Stands for "no mapping" and "no function".
pub const NONE: u32 = u32::MAX;

const MAGIC: &[u8; 4] = b"SCP1";
const COUNTS: usize = 17;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Function {
    pub name: u32,
    pub system_name: u32,
    pub filename: u32,
    pub start_line: i64,
}

/// One line of a location; the first line of a location is the innermost inlined call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub function: u32,
    pub line: i64,
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

/// The owned form. See the module page for what holds of it once encoded and parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// By which a resend is recognised.
    pub key: RetryKey,
    pub strings: Strings,
    pub mappings: Vec<Mapping>,
    pub functions: Vec<Function>,
    /// Mapping index or [`NONE`], one per location.
    pub location_mapping: Vec<u32>,
    pub location_address: Vec<u64>,
    /// One past the location's last entry in `lines`.
    pub location_lines_end: Vec<u32>,
    pub lines: Vec<Line>,
    /// One past the stack's last entry in `frames`.
    pub stack_ends: Vec<u32>,
    /// Location indexes, leaf first.
    pub frames: Vec<u32>,
    /// One past the series' last entry in `series_labels`.
    pub series_ends: Vec<u32>,
    /// (name, value) string indexes, sorted by name within a series.
    pub series_labels: Vec<(u32, u32)>,
    /// name, sample type, sample unit, period type, period unit.
    pub types: Vec<[u32; 5]>,
    pub profiles: Vec<ProfileRow>,
    /// Index into the stacks. Within a profile each (stack, span, trace) stands once.
    pub sample_stack: Vec<u32>,
    pub sample_value: Vec<i64>,
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
            key: RetryKey([0; 16]),
            strings,
            mappings: Vec::new(),
            functions: Vec::new(),
            location_mapping: Vec::new(),
            location_address: Vec::new(),
            location_lines_end: Vec::new(),
            lines: Vec::new(),
            stack_ends: Vec::new(),
            frames: Vec::new(),
            series_ends: Vec::new(),
            series_labels: Vec::new(),
            types: Vec::new(),
            profiles: Vec::new(),
            sample_stack: Vec::new(),
            sample_value: Vec::new(),
            sample_span: Vec::new(),
            sample_trace: Vec::new(),
        }
    }
}

impl Part {
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

    /// Appends the columns to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        put_u32s(out, self.counts().map(|n| n as u32));
        out.extend_from_slice(&self.key.0);
        self.sample_trace
            .iter()
            .for_each(|trace| out.extend_from_slice(trace));

        put_u64s(out, self.mappings.iter().map(|m| m.start));
        put_u64s(out, self.mappings.iter().map(|m| m.limit));
        put_u64s(out, self.mappings.iter().map(|m| m.offset));
        put_i64s(out, self.functions.iter().map(|f| f.start_line));
        put_u64s(out, self.location_address.iter().copied());
        put_i64s(out, self.lines.iter().map(|l| l.line));
        put_i64s(out, self.profiles.iter().map(|p| p.time.0));
        put_i64s(out, self.profiles.iter().map(|p| p.duration_ns));
        put_i64s(out, self.profiles.iter().map(|p| p.period));
        put_i64s(out, self.sample_value.iter().copied());
        put_u64s(out, self.sample_span.iter().copied());

        put_u32s(out, self.strings.ends.iter().copied());
        put_u32s(out, self.mappings.iter().map(|m| m.filename));
        put_u32s(out, self.mappings.iter().map(|m| m.build_id));
        put_u32s(out, self.mappings.iter().map(|m| m.flags));
        put_u32s(out, self.functions.iter().map(|f| f.name));
        put_u32s(out, self.functions.iter().map(|f| f.system_name));
        put_u32s(out, self.functions.iter().map(|f| f.filename));
        put_u32s(out, self.location_mapping.iter().copied());
        put_u32s(out, self.location_lines_end.iter().copied());
        put_u32s(out, self.lines.iter().map(|l| l.function));
        put_u32s(out, self.stack_ends.iter().copied());
        put_u32s(out, self.frames.iter().copied());
        put_u32s(out, self.series_ends.iter().copied());
        put_u32s(out, self.series_labels.iter().map(|l| l.0));
        put_u32s(out, self.series_labels.iter().map(|l| l.1));
        put_u32s(out, self.types.iter().flatten().copied());
        put_u32s(out, self.profiles.iter().map(|p| p.series));
        put_u32s(out, self.profiles.iter().map(|p| p.kind));
        put_u32s(out, self.profiles.iter().map(|p| p.samples_end));
        put_u32s(out, self.sample_stack.iter().copied());
        out.extend_from_slice(&self.strings.bytes);
    }

    fn counts(&self) -> [usize; COUNTS] {
        [
            self.strings.ends.len(),
            self.strings.bytes.len(),
            self.mappings.len(),
            self.functions.len(),
            self.location_mapping.len(),
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
            0,
            0,
        ]
    }
}

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
    pub key: RetryKey,
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
        let expected = expected_length(counts);
        if expected != body.len() as u64 {
            return Err(PartError::Length {
                expected,
                actual: body.len(),
            });
        }
        let mut cut = Cutter { left: body };
        let key = RetryKey(cut.bytes(16).try_into().unwrap_or_default());
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
        let text = check_strings(string_end, cut.left)?;
        let view = Self {
            key,
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
        )
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
fn expected_length(counts: Col32<'_>) -> u64 {
    let n = |at: usize| u64::from(counts.get(at));
    let optional_fits = |at: usize| n(at) == 0 || n(at) == n(12);
    if !optional_fits(13) || !optional_fits(14) || n(15) != 0 || n(16) != 0 {
        return u64::MAX;
    }
    let wide16 = 1 + n(14);
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
        + n(12);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Part {
        let mut part = Part {
            key: RetryKey([7; 16]),
            ..Part::default()
        };
        let main = part.strings.push("main");
        let work = part.strings.push("wörk");
        part.mappings.push(Mapping {
            start: 1,
            limit: 2,
            offset: 3,
            ..Mapping::default()
        });
        for name in [main, work] {
            part.functions.push(Function {
                name,
                system_name: name,
                filename: 0,
                start_line: -1,
            });
        }
        part.location_mapping = vec![0, NONE];
        part.location_address = vec![0x10, u64::MAX];
        part.location_lines_end = vec![1, 3];
        part.lines = [(0, 10), (1, 20), (NONE, 0)]
            .map(|(function, line)| Line { function, line })
            .to_vec();
        part.stack_ends = vec![1, 3];
        part.frames = vec![0, 1, 0];
        let series = part.push_series(&Labels::from_pairs([("service_name", "api")]));
        let kind = part.push_type(&"memory:live:count::".parse().unwrap());
        part.profiles.push(ProfileRow {
            series,
            kind,
            time: Timestamp(5),
            duration_ns: 6,
            period: 7,
            samples_end: 2,
        });
        part.sample_stack = vec![0, 1];
        part.sample_value = vec![3, i64::MAX];
        part.sample_span = vec![0, 9];
        part.sample_trace = vec![[0; 16], [1; 16]];
        part
    }

    fn encoded(part: &Part) -> Vec<u8> {
        let mut out = Vec::new();
        part.encode(&mut out);
        out
    }

    #[test]
    fn a_view_shows_what_was_encoded() {
        let part = small();
        let bytes = encoded(&part);
        let view = PartView::parse(&bytes).unwrap();
        assert_eq!(view.key, part.key);
        assert_eq!(view.string(view.function_name.get(1)), "wörk");
        assert_eq!(view.profile_type(0).to_string(), "memory:live:count::");
        assert_eq!(view.series_labels(0).service_name(), "api");
        assert_eq!(view.stack_end.span(1), 1..3);
        assert_eq!(view.sample_value.get_i64(1), i64::MAX);
        assert_eq!((view.span(1), view.trace(1)), (9, [1; 16]));
        assert_eq!(view.function_start_line.get_i64(0), -1);
    }

    #[test]
    fn every_truncation_and_every_flip_is_refused_or_stays_inside() {
        let bytes = encoded(&small());
        for length in 0..bytes.len() {
            assert!(PartView::parse(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(view) = PartView::parse(&damaged) {
                    touch_everything(&view);
                }
            }
        }
    }

    fn touch_everything(view: &PartView<'_>) {
        for series in 0..view.series_end.len() {
            view.series_labels(series as u32);
        }
        for kind in 0..view.kinds() {
            view.profile_type(kind as u32);
        }
        for frame in view.frame.iter() {
            for line in view.location_lines_end.span(frame as usize) {
                let function = view.line_function.get(line);
                if function != NONE {
                    view.string(view.function_name.get(function as usize));
                }
            }
        }
        for profile in 0..view.profile_series.len() {
            for sample in view.profile_samples_end.span(profile) {
                view.stack_end.span(view.sample_stack.get(sample) as usize);
                view.trace(sample);
            }
        }
    }
}
