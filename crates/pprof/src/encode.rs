//! Writes profiles as google.v1.Profile protobuf bytes.
//!
//! The caller adds mappings before the locations that use them and functions before the lines that
//! use them; ids are handed out densely from 1 in the order of the calls. Tables go straight into
//! the output, only the string table waits for the end, so that memory is the answer's size.
//!
//! # Invariants
//! - String 0 is the empty string; each string stands once.
//! - Whatever is written passes google/pprof's CheckValid if the ids passed in are ones that this
//!   encoder handed out and each sample has one value per sample type.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use scoria_model::part::mapping_flags;
use scoria_model::varint::put_u64;

mod field {
    pub(super) const SAMPLE_TYPE: u32 = 1;
    pub(super) const SAMPLE: u32 = 2;
    pub(super) const MAPPING: u32 = 3;
    pub(super) const LOCATION: u32 = 4;
    pub(super) const FUNCTION: u32 = 5;
    pub(super) const STRING: u32 = 6;
    pub(super) const TIME_NANOS: u32 = 9;
    pub(super) const DURATION_NANOS: u32 = 10;
    pub(super) const PERIOD_TYPE: u32 = 11;
    pub(super) const PERIOD: u32 = 12;
    pub(super) const DEFAULT_SAMPLE_TYPE: u32 = 14;
}

const VARINT: u32 = 0;
const BYTES: u32 = 2;

/// A mapping to write. Empty texts are allowed.
#[derive(Debug, Clone, Copy, Default)]
pub struct MappingRow<'a> {
    pub start: u64,
    pub limit: u64,
    pub offset: u64,
    pub filename: &'a str,
    pub build_id: &'a str,
    /// See [`mapping_flags`].
    pub flags: u32,
}

/// A function to write.
#[derive(Debug, Clone, Copy, Default)]
pub struct FunctionRow<'a> {
    pub name: &'a str,
    pub system_name: &'a str,
    pub filename: &'a str,
    pub start_line: i64,
}

/// A label of a sample.
#[derive(Debug, Clone, Copy)]
pub struct SampleLabel<'a> {
    pub key: &'a str,
    pub value: &'a str,
}

/// Collects one profile.
#[derive(Debug, Default)]
pub struct ProfileEncoder {
    body: Vec<u8>,
    /// One message while it is being written.
    message: Vec<u8>,
    /// A message or a packed list inside the message.
    inner: Vec<u8>,
    text: String,
    text_ends: Vec<usize>,
    by_text: HashTable<u32>,
    n_mappings: u64,
    n_functions: u64,
    n_locations: u64,
}

impl ProfileEncoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// One column of values; call once for each in their order.
    pub fn sample_type(&mut self, kind: &str, unit: &str) {
        self.value_type(field::SAMPLE_TYPE, kind, unit);
    }

    /// Names the column that a viewer shows first.
    pub fn default_sample_type(&mut self, kind: &str) {
        let kind = self.string(kind);
        put_int(&mut self.body, field::DEFAULT_SAMPLE_TYPE, kind);
    }

    /// What the profiler counted between two samples, and how much of it.
    pub fn period(&mut self, kind: &str, unit: &str, period: i64) {
        self.value_type(field::PERIOD_TYPE, kind, unit);
        put_int(&mut self.body, field::PERIOD, period as u64);
    }

    /// Start, in nanoseconds since the Unix epoch, and length.
    pub fn time(&mut self, time_ns: i64, duration_ns: i64) {
        put_int(&mut self.body, field::TIME_NANOS, time_ns as u64);
        put_int(&mut self.body, field::DURATION_NANOS, duration_ns as u64);
    }

    /// Adds a mapping; its id.
    pub fn mapping(&mut self, row: &MappingRow<'_>) -> u64 {
        self.n_mappings += 1;
        let (filename, build_id) = (self.string(row.filename), self.string(row.build_id));
        self.message.clear();
        let out = &mut self.message;
        put_int(out, 1, self.n_mappings);
        put_int(out, 2, row.start);
        put_int(out, 3, row.limit);
        put_int(out, 4, row.offset);
        put_int(out, 5, filename);
        put_int(out, 6, build_id);
        let flags = [
            (7, mapping_flags::HAS_FUNCTIONS),
            (8, mapping_flags::HAS_FILENAMES),
            (9, mapping_flags::HAS_LINE_NUMBERS),
            (10, mapping_flags::HAS_INLINE_FRAMES),
        ];
        for (number, flag) in flags {
            put_int(out, number, u64::from(row.flags & flag != 0));
        }
        put_message(&mut self.body, field::MAPPING, &self.message);
        self.n_mappings
    }

    /// Adds a function; its id.
    pub fn function(&mut self, row: &FunctionRow<'_>) -> u64 {
        self.n_functions += 1;
        let name = self.string(row.name);
        let system_name = self.string(row.system_name);
        let filename = self.string(row.filename);
        self.message.clear();
        let out = &mut self.message;
        put_int(out, 1, self.n_functions);
        put_int(out, 2, name);
        put_int(out, 3, system_name);
        put_int(out, 4, filename);
        put_int(out, 5, row.start_line as u64);
        put_message(&mut self.body, field::FUNCTION, &self.message);
        self.n_functions
    }

    /// Adds a location; its id. `mapping` is an id or 0 for none; `lines` are (function id, line),
    /// the innermost inlined call first.
    pub fn location(&mut self, mapping: u64, address: u64, lines: &[(u64, i64)]) -> u64 {
        self.n_locations += 1;
        self.message.clear();
        put_int(&mut self.message, 1, self.n_locations);
        put_int(&mut self.message, 2, mapping);
        put_int(&mut self.message, 3, address);
        for &(function, line) in lines {
            self.inner.clear();
            put_int(&mut self.inner, 1, function);
            put_int(&mut self.inner, 2, line as u64);
            put_message(&mut self.message, 4, &self.inner);
        }
        put_message(&mut self.body, field::LOCATION, &self.message);
        self.n_locations
    }

    /// Adds a sample: location ids leaf first, one value per sample type.
    pub fn sample(
        &mut self,
        locations: impl IntoIterator<Item = u64>,
        values: &[i64],
        labels: &[SampleLabel<'_>],
    ) {
        self.message.clear();
        self.inner.clear();
        locations
            .into_iter()
            .for_each(|id| put_u64(&mut self.inner, id));
        put_packed(&mut self.message, 1, &self.inner);
        self.inner.clear();
        values
            .iter()
            .for_each(|&value| put_u64(&mut self.inner, value as u64));
        put_packed(&mut self.message, 2, &self.inner);
        for label in labels {
            let (key, value) = (self.string(label.key), self.string(label.value));
            self.inner.clear();
            put_int(&mut self.inner, 1, key);
            put_int(&mut self.inner, 2, value);
            put_message(&mut self.message, 3, &self.inner);
        }
        put_message(&mut self.body, field::SAMPLE, &self.message);
    }

    /// Bytes written so far; what [`finish`](Self::finish) returns is no smaller.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.text.len()
    }

    /// The profile's bytes: none at all if nothing was added.
    pub fn finish(mut self) -> Vec<u8> {
        if self.body.is_empty() {
            return self.body;
        }
        put_message(&mut self.body, field::STRING, b"");
        let mut start = 0;
        for &end in &self.text_ends {
            put_message(
                &mut self.body,
                field::STRING,
                &self.text.as_bytes()[start..end],
            );
            start = end;
        }
        self.body
    }

    fn value_type(&mut self, number: u32, kind: &str, unit: &str) {
        let (kind, unit) = (self.string(kind), self.string(unit));
        self.inner.clear();
        put_int(&mut self.inner, 1, kind);
        put_int(&mut self.inner, 2, unit);
        put_message(&mut self.body, number, &self.inner);
    }

    /// The index of `text` in the string table.
    fn string(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        let state = foldhash::fast::FixedState::default();
        let (all, ends) = (&mut self.text, &mut self.text_ends);
        let at = |ends: &[usize], n: u32| {
            let start = (n as usize).checked_sub(1).map_or(0, |n| ends[n]);
            start..ends[n as usize]
        };
        let hash = state.hash_one(text);
        if let Some(&n) = self.by_text.find(hash, |&n| &all[at(ends, n)] == text) {
            return u64::from(n) + 1;
        }
        let n = ends.len() as u32;
        all.push_str(text);
        ends.push(all.len());
        self.by_text
            .insert_unique(hash, n, |&n| state.hash_one(&all[at(ends, n)]));
        u64::from(n) + 1
    }
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    put_u64(out, u64::from(number << 3 | wire));
}

/// Zero is what a reader assumes of a missing field, so it is left out.
fn put_int(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_tag(out, number, VARINT);
        put_u64(out, value);
    }
}

fn put_message(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_packed(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message(out, number, bytes);
    }
}
