//! Reads google.v1.Profile bytes into columns, without copying a string.
//!
//! The columns hold what the message says and nothing has been looked up yet: ids are the sender's,
//! string indexes may point anywhere. [`RawProfile::string`] and the checks of the normaliser deal
//! with that. Strings are places in the message; a repair that rewrites one appends the new text to
//! a side buffer.
//!
//! # Invariants
//! - Columns grow only by elements that took bytes of the message.
//! - A string index that does not fit is kept as [`BAD_INDEX`], which is outside of every table.
//! - Of a field that may stand once, the last one counts; unknown fields are skipped; a known field
//!   with the wrong wire type is an error.

mod labels;
mod read;
mod samples;
mod symbols;

use std::collections::BTreeMap;
use std::ops::Range;

pub use labels::{NUMBER, RawLabel, SampleLabels};
pub use read::has_shape;
pub use samples::SampleEnds;
pub use symbols::{Functions, Locations, RawFunction, RawLine, RawLocation};

use scoria_model::{Packed, Rows};

use crate::room::{Room, make_room};

/// Stands for a string index that is negative or larger than any table.
pub const BAD_INDEX: u32 = u32::MAX;

/// Marks a place in the side buffer of rewritten strings.
const REWRITTEN: u32 = 1 << 31;
/// Places are 31 bits wide.
const MAX_BYTES: usize = REWRITTEN as usize - 1;
/// Rewriting may not make much out of little: functions are small and share long strings.
const MAX_REWRITTEN_BYTES: usize = 16 * 1024 * 1024;
/// What an entry of a tree of ids takes, about.
const WIDE_BYTES: usize = 24;
/// Put into their column, whose width is looked at once for them.
const FRAMES_AT_ONCE: usize = 32;
/// Marks a frame whose location's id is in [`WideIds`].
const WIDE: u32 = 1 << 31;

/// Why bytes are not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the profile is empty")]
    Empty,
    #[error("the profile's protobuf ends inside a field")]
    Truncated,
    #[error("the profile's protobuf has an integer longer than 64 bits")]
    Varint,
    #[error("the profile's protobuf has the impossible field tag {tag}")]
    Tag { tag: u64 },
    #[error("field {field} of the profile's {what} has wire type {wire}, which it never has")]
    WireType {
        what: &'static str,
        field: u32,
        wire: u8,
    },
    #[error("unknown field {field} has wire type {wire}, which cannot be skipped")]
    UnknownWireType { field: u32, wire: u8 },
    #[error("the profile is {actual} bytes long; more than {limit} cannot be read")]
    TooLong { actual: usize, limit: usize },
}

/// String indexes of a kind and its unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValueType {
    pub kind: u32,
    pub unit: u32,
}

/// Span and trace of a sample; zero for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ids {
    /// Of its eight bytes, the first is the lowest.
    pub span: u64,
    pub trace: [u8; 16],
}

impl Ids {
    pub const NONE: Self = Self {
        span: 0,
        trace: [0; 16],
    };

    /// How many of the two there are.
    pub fn count(self) -> usize {
        usize::from(self.span != 0) + usize::from(self.trace != [0; 16])
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct RawMapping {
    pub id: u64,
    pub start: u64,
    pub limit: u64,
    pub offset: u64,
    pub filename: u32,
    pub build_id: u32,
    /// See [`scoria_model::part::mapping_flags`].
    pub flags: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    start: u32,
    length: u32,
}

/// Location ids that do not fit in a frame, each once. Hardly any sender has them.
#[derive(Debug, Default)]
struct WideIds {
    ids: Vec<u64>,
    /// Ordered: a sender can choose ids, and this knows no secret to hash them with.
    frames: BTreeMap<u64, u32>,
}

impl WideIds {
    #[inline]
    fn frame(&mut self, id: u64) -> u32 {
        if id < u64::from(WIDE) {
            return id as u32;
        }
        self.wide_frame(id)
    }

    #[cold]
    #[inline(never)]
    fn wide_frame(&mut self, id: u64) -> u32 {
        *self.frames.entry(id).or_insert_with(|| {
            self.ids.push(id);
            // A message is too short to hold as many ids as this has room for.
            WIDE | (self.ids.len() - 1) as u32
        })
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.frames.clear();
    }
}

/// The columns of one profile; kept and refilled to spare allocations.
#[derive(Debug, Default)]
pub struct Columns {
    strings: Vec<Place>,
    rewritten: Vec<u8>,
    pub sample_types: Vec<ValueType>,
    pub samples: Rows<SampleEnds>,
    /// Where the frames of each sample start; empty while each sample's follow those of the one
    /// before. Samples may share theirs.
    frames_start: Vec<u32>,
    /// Of each sample, beside what its labels say; empty while no sample has any.
    ids: Vec<Ids>,
    /// Runs of frames, of which samples that share theirs have one.
    n_runs: usize,
    /// Leaf first. Equal for equal locations; [`RawProfile::location_id`] says which one.
    pub frames: Packed<u32>,
    wide_ids: WideIds,
    pub values: Packed<i64>,
    pub labels: SampleLabels,
    /// The largest index of a unit that a label has.
    pub label_unit_max: u32,
    pub mappings: Vec<RawMapping>,
    pub locations: Locations,
    pub functions: Functions,
    pub time_ns: i64,
    pub duration_ns: i64,
    pub period_type: ValueType,
    pub period: i64,
}

/// A decoded profile over the bytes it came from.
#[derive(Debug)]
pub struct RawProfile<'a> {
    bytes: &'a [u8],
    size: u64,
    pub columns: Columns,
}

impl<'a> RawProfile<'a> {
    /// Reads a whole profile.
    ///
    /// # Errors
    /// The bytes are not a protobuf message of this shape.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::decode_into(bytes, Columns::default())
    }

    /// As [`decode`](Self::decode), into the memory of `columns`, whose content is forgotten.
    ///
    /// # Errors
    /// The bytes are not a protobuf message of this shape.
    pub fn decode_into(bytes: &'a [u8], mut columns: Columns) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty);
        }
        if bytes.len() > MAX_BYTES {
            return Err(DecodeError::TooLong {
                actual: bytes.len(),
                limit: MAX_BYTES,
            });
        }
        columns.clear();
        columns.read(bytes)?;
        let size = bytes.len() as u64;
        Ok(Self {
            bytes,
            size,
            columns,
        })
    }

    /// Over columns whose strings lie in `bytes`; `size` is that of the profile as a message.
    pub(crate) const fn of_columns(bytes: &'a [u8], columns: Columns, size: u64) -> Self {
        Self {
            bytes,
            size,
            columns,
        }
    }

    pub fn n_strings(&self) -> usize {
        self.columns.strings.len()
    }

    /// The bytes of a string, `None` if the index is outside the table.
    #[inline]
    pub fn string(&self, at: u32) -> Option<&[u8]> {
        self.columns.string_in(self.bytes, at)
    }

    /// The bytes of a string; the empty one for an index outside the table.
    pub fn text(&self, at: u32) -> &[u8] {
        self.string(at).unwrap_or_default()
    }

    /// The place of sample `at` in the three columns of runs.
    #[inline]
    pub fn sample(&self, at: usize) -> Sample {
        self.columns.sample(at)
    }

    /// Span and trace of sample `at`, as far as its labels do not say them.
    pub fn ids(&self, at: usize) -> Ids {
        self.columns.ids_of(at)
    }

    /// Whether sample `at` has a value above zero and none below.
    pub(crate) fn counts(&self, at: usize) -> bool {
        let values = self.columns.values.slice(self.sample(at).values());
        // The sign bit of any shows in the union of all.
        values.iter().fold(0, |union, value| union | value) > 0
    }

    /// The sender's id of the location that a frame stands for.
    #[inline]
    pub fn location_id(&self, frame: u32) -> u64 {
        self.columns.location_id(frame)
    }

    /// The lines of location `at`, the innermost inlined call first.
    pub fn lines_of(
        &self,
        at: usize,
    ) -> impl ExactSizeIterator<Item = RawLine> + DoubleEndedIterator + Clone {
        self.columns.locations.lines_of(at)
    }

    /// Bytes of the longest string.
    pub(crate) fn longest_string(&self) -> u32 {
        let lengths = self.columns.strings.iter().map(|place| place.length);
        lengths.max().unwrap_or_default()
    }

    /// Adds a string; its index, or `None` if there is no room for more rewritten text.
    pub(crate) fn push_string(&mut self, text: &[u8]) -> Option<u32> {
        let place = self.columns.append(text)?;
        self.columns.strings.push(place);
        u32::try_from(self.columns.strings.len() - 1).ok()
    }

    /// The message itself, or the bytes in which the strings lie if it never was one.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the message; about, if it never was one.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Cuts `n` bytes off the front of the string at `at`.
    pub(crate) fn cut_front(&mut self, at: u32, n: u32) {
        if let Some(place) = self.columns.strings.get_mut(at as usize) {
            let n = n.min(place.length);
            place.start += n;
            place.length -= n;
        }
    }
}

/// The runs of one sample.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    start: SampleEnds,
    end: SampleEnds,
}

impl Sample {
    pub const fn frames(self) -> Range<usize> {
        self.start.frames as usize..self.end.frames as usize
    }

    pub const fn values(self) -> Range<usize> {
        self.start.values as usize..self.end.values as usize
    }

    pub const fn labels(self) -> Range<usize> {
        self.start.labels as usize..self.end.labels as usize
    }
}

impl Columns {
    fn clear(&mut self) {
        self.strings.clear();
        self.rewritten.clear();
        self.sample_types.clear();
        self.samples.clear();
        self.frames_start.clear();
        self.n_runs = 0;
        self.ids.clear();
        self.frames.clear();
        self.wide_ids.clear();
        self.values.clear();
        self.labels.clear();
        self.label_unit_max = 0;
        self.mappings.clear();
        self.locations.clear();
        self.functions.clear();
        self.time_ns = 0;
        self.duration_ns = 0;
        self.period_type = ValueType::default();
        self.period = 0;
    }

    /// Memory held, in bytes, by the columns that a profile can make large.
    pub(crate) fn held_bytes(&self) -> usize {
        self.strings.capacity() * 8
            + self.rewritten.capacity()
            + self.samples.held_bytes()
            + self.frames_start.capacity() * 4
            + self.ids.capacity() * size_of::<Ids>()
            + self.frames.held_bytes()
            + self.wide_ids.ids.capacity() * 8
            + self.wide_ids.frames.len() * WIDE_BYTES
            + self.values.held_bytes()
            + self.labels.held_bytes()
            + self.mappings.capacity() * size_of::<RawMapping>()
            + self.locations.held_bytes()
            + self.functions.held_bytes()
    }

    /// Gives back everything but strings and types.
    pub(crate) fn release_samples(&mut self) {
        self.samples = Rows::default();
        self.frames_start = Vec::new();
        self.ids = Vec::new();
        self.frames = Packed::default();
        self.wide_ids = WideIds::default();
        self.values = Packed::default();
        self.labels = SampleLabels::default();
        self.mappings = Vec::new();
        self.locations = Locations::default();
        self.functions = Functions::default();
    }

    /// Gives back the room that growing has left over.
    pub(crate) fn shrink(&mut self) {
        self.strings.shrink_to_fit();
        self.samples.shrink_to_fit();
        self.frames_start.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.frames.shrink_to_fit();
        self.values.shrink_to_fit();
        self.labels.shrink();
        self.mappings.shrink_to_fit();
        self.locations.shrink();
        self.functions.shrink();
    }

    /// Bytes of all strings.
    pub(crate) fn string_bytes(&self) -> usize {
        let lengths = self.strings.iter().map(|place| place.length as usize);
        lengths.sum()
    }

    /// The sender's id of the location that a frame stands for.
    #[inline]
    pub(crate) fn location_id(&self, frame: u32) -> u64 {
        if frame & WIDE == 0 {
            return u64::from(frame);
        }
        let wide = self.wide_ids.ids.get((frame & !WIDE) as usize);
        // No location has the id 0.
        wide.copied().unwrap_or_default()
    }

    /// Makes room for what is to come.
    pub(crate) fn reserve(&mut self, room: Room) {
        self.strings.reserve_exact(room.strings);
        self.frames.reserve_up_to(room.frames, room.frame_max);
        // Of one type.
        self.samples.reserve_up_to(room.samples, || SampleEnds {
            frames: room.frames as u32,
            values: room.samples as u32,
            labels: room.labels as u32,
        });
        self.values.reserve_up_to(room.samples, 1);
        self.labels.reserve_exact(room.labels);
    }

    /// Adds frames of locations with these ids; their place.
    pub(crate) fn push_frames(&mut self, ids: &[u64]) -> Range<usize> {
        let start = self.frames.len();
        self.n_runs += 1;
        make_room(&mut self.frames, ids.len());
        for ids in ids.chunks(FRAMES_AT_ONCE) {
            let mut frames = [0; FRAMES_AT_ONCE];
            for (frame, &id) in frames.iter_mut().zip(ids) {
                *frame = self.wide_ids.frame(id);
            }
            self.frames.extend_from_slice(&frames[..ids.len()]);
        }
        start..self.frames.len()
    }

    /// The place of sample `at` in the three columns of runs.
    #[inline]
    pub(crate) fn sample(&self, at: usize) -> Sample {
        let mut start = match at.checked_sub(1) {
            Some(before) => self.samples.get(before),
            None => SampleEnds::default(),
        };
        if let Some(&frames) = self.frames_start.get(at) {
            start.frames = frames;
        }
        let end = self.samples.get(at);
        Sample { start, end }
    }

    /// How many different stacktraces there are at most.
    pub(crate) fn n_stacks(&self) -> usize {
        match self.frames_start.is_empty() {
            true => self.samples.len(),
            false => self.n_runs.min(self.samples.len()),
        }
    }

    pub(crate) fn ids_of(&self, at: usize) -> Ids {
        self.ids.get(at).copied().unwrap_or(Ids::NONE)
    }

    /// Adds a sample of these frames, which may be another's too, and of the values and labels
    /// that no sample has yet; its index.
    pub(crate) fn push_sample(&mut self, frames: &Range<usize>, ids: Ids) -> u32 {
        let at = self.samples.len();
        let before = at
            .checked_sub(1)
            .map_or(0, |at| self.samples.get(at).frames);
        let follows = frames.start == before as usize;
        if !self.frames_start.is_empty() || !follows {
            self.start_apart(at + 1);
            self.frames_start[at] = frames.start as u32;
        }
        if !self.ids.is_empty() || ids != Ids::NONE {
            reserve(&mut self.ids, self.samples.capacity().max(at + 1));
            self.ids.resize(at, Ids::NONE);
            self.ids.push(ids);
        }
        make_room(&mut self.samples, 1);
        self.samples.push(SampleEnds {
            frames: frames.end as u32,
            values: self.values.len() as u32,
            labels: self.labels.len() as u32,
        });
        at as u32
    }

    /// Puts frames in place of each entry in the column of frames, which each is the one run of the
    /// samples that have it.
    pub(crate) fn expand_frames(&mut self, mut expand: impl FnMut(u32, &mut Vec<u32>)) {
        self.start_apart(self.samples.len());
        let entries = std::mem::take(&mut self.frames);
        let mut starts = Vec::with_capacity(entries.len() + 1);
        starts.push(0);
        let mut stack = Vec::new();
        for entry in entries.iter() {
            stack.clear();
            expand(entry, &mut stack);
            make_room(&mut self.frames, stack.len());
            self.frames.extend_from_slice(&stack);
            starts.push(self.frames.len() as u32);
        }
        for (at, start) in self.frames_start.iter_mut().enumerate() {
            let entry = *start as usize;
            *start = starts[entry];
            let sample = self.samples.get(at);
            let frames = starts[entry + 1];
            self.samples.set(at, SampleEnds { frames, ..sample });
        }
    }

    /// Has a start of its own for the frames of each of `n` samples, one of which may be to come.
    fn start_apart(&mut self, n: usize) {
        if self.frames_start.is_empty() {
            self.n_runs = self.n_runs.max(self.samples.len());
        }
        reserve(&mut self.frames_start, self.samples.capacity().max(n));
        for at in self.frames_start.len()..n {
            let before = at
                .checked_sub(1)
                .map_or(0, |before| self.samples.get(before).frames);
            self.frames_start.push(before);
        }
    }

    /// The string at `at` of columns over `bytes`.
    #[inline]
    pub(crate) fn string_in<'s>(&'s self, bytes: &'s [u8], at: u32) -> Option<&'s [u8]> {
        let place = self.strings.get(at as usize)?;
        let start = (place.start & !REWRITTEN) as usize;
        let home = if place.start & REWRITTEN == 0 {
            bytes
        } else {
            &self.rewritten
        };
        home.get(start..start + place.length as usize)
    }

    /// Adds a string that lies in the bytes the columns are over; its index, or `None` if it lies
    /// beyond what a place can name.
    pub(crate) fn push_place(&mut self, start: usize, length: usize) -> Option<u32> {
        if start + length > MAX_BYTES {
            return None;
        }
        make_room(&mut self.strings, 1);
        self.strings.push(Place {
            start: start as u32,
            length: length as u32,
        });
        u32::try_from(self.strings.len() - 1).ok()
    }

    fn append(&mut self, text: &[u8]) -> Option<Place> {
        let start = self.rewritten.len();
        if start + text.len() > MAX_REWRITTEN_BYTES {
            return None;
        }
        self.rewritten.extend_from_slice(text);
        Some(Place {
            start: start as u32 | REWRITTEN,
            length: text.len() as u32,
        })
    }
}

/// Makes room for `n` entries in all.
fn reserve<T>(column: &mut Vec<T>, n: usize) {
    column.reserve_exact(n - column.len().min(n));
}
