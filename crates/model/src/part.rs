//! The columnar form of decoded profiles: what a distributor hands to an ingester.
//!
//! A [`Part`] is one uploaded profile after decoding, normalisation and splitting, or several that
//! came in one request and share their symbols: symbol tables, the distinct stacktraces, and one
//! [`ProfileRow`] for each (series, profile type) that came out of them, each owning a run of
//! samples. Each uploaded profile is a [`Write`] of its own: it can be a resend while the ones
//! beside it are new. [`Part::encode`] writes a part as fixed-width little-endian columns;
//! [`PartView::parse`] reads those in place, having checked every index once, so that the interner
//! that walks it needs no further checks.
//!
//! ```text
//! magic "SCP2" | 17 x u32 row counts | 16-byte columns | 8-byte columns | 4-byte columns | bytes
//! ```
//! The order of the columns within a width is the order in which [`Part::encode`] names them.
//!
//! # What it must not know
//! What the profiles were decoded from, and where the part goes.

mod view;

#[cfg(test)]
mod tests;

pub use view::{PartError, PartView};

use crate::columns::{put_i64s, put_u32s, put_u64s};
use crate::{Labels, ProfileType, RetryKey, Timestamp};

/// Stands for "no mapping" and "no function".
pub const NONE: u32 = u32::MAX;

const MAGIC: &[u8; 4] = b"SCP2";
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
pub struct Rows {
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
            writes: Vec::new(),
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

    /// Makes the profiles since the last one a write.
    pub fn end_write(&mut self, key: RetryKey) {
        self.writes.push(Write {
            key,
            profiles_end: self.profiles.len() as u32,
        });
    }

    /// The rows so far.
    pub const fn rows(&self) -> Rows {
        Rows {
            series: self.series_ends.len(),
            series_labels: self.series_labels.len(),
            profiles: self.profiles.len(),
            samples: self.sample_stack.len(),
        }
    }

    /// Forgets the series, profiles and samples that came after these rows. Symbols, stacktraces
    /// and types stay.
    pub fn truncate_rows(&mut self, rows: &Rows) {
        self.series_ends.truncate(rows.series);
        self.series_labels.truncate(rows.series_labels);
        self.profiles.truncate(rows.profiles);
        self.sample_stack.truncate(rows.samples);
        self.sample_value.truncate(rows.samples);
        self.sample_span.truncate(rows.samples);
        self.sample_trace.truncate(rows.samples);
    }

    /// Empties the part for another profile; its memory stays.
    pub fn clear(&mut self) {
        self.writes.clear();
        self.strings.ends.clear();
        self.strings.bytes.clear();
        self.strings.push("");
        self.mappings.clear();
        self.functions.clear();
        self.location_mapping.clear();
        self.location_address.clear();
        self.location_lines_end.clear();
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
            + self.functions.capacity() * size_of::<Function>()
            + self.location_mapping.capacity() * 16
            + self.lines.capacity() * size_of::<Line>()
            + (self.stack_ends.capacity() + self.frames.capacity()) * 4
            + (self.series_ends.capacity() + self.series_labels.capacity()) * 8
            + self.profiles.capacity() * size_of::<ProfileRow>()
            + (self.sample_stack.capacity() + self.sample_value.capacity()) * 8
            + (self.sample_span.capacity() + self.sample_trace.capacity()) * 16
    }

    /// The bytes that [`encode`](Self::encode) appends.
    pub fn encoded_bytes(&self) -> usize {
        let counts = self.counts();
        let columns = view::length_of(|at| counts[at] as u64);
        MAGIC.len() + COUNTS * 4 + usize::try_from(columns).unwrap_or_default()
    }

    /// Appends the columns to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        put_u32s(out, self.counts().map(|n| n as u32));
        self.writes
            .iter()
            .for_each(|write| out.extend_from_slice(&write.key.0));
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
        put_u32s(out, self.writes.iter().map(|w| w.profiles_end));
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
            self.writes.len(),
            0,
        ]
    }
}
