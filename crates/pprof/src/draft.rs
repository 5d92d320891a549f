//! Builds a profile's columns without its bytes: the way in for every format that is not pprof.
//!
//! ```text
//! folded, speedscope, JFR ──decoder──► Draft ──Normaliser::normalise_draft──► Part
//!                  OTLP ──Converter──► Draft ──Normaliser::normalise_into──► Joined
//! ```
//!
//! A decoder makes one [`Draft`] for each profile that it finds (each label set and each group of
//! sample types) and fills it; the normaliser then treats it exactly like a decoded pprof: the same
//! checks, limits, repairs, label groups and merging. How to fill one:
//!
//! 1. [`Draft::new`] with the [`DraftTerms`] that the caller was given.
//! 2. [`set_types`](Draft::set_types), [`set_period`](Draft::set_period),
//!    [`set_times`](Draft::set_times).
//! 3. Frames. Where a frame is only a name, [`frame`](Draft::frame) gives the location of it. Else
//!    [`string`](Draft::string), [`mapping`](Draft::mapping), [`function`](Draft::function) and
//!    [`location`](Draft::location); only strings and frames are looked up, so a decoder that has
//!    indexes of its own keeps a table from them to what these return. Equal functions and locations
//!    are made one by the normaliser.
//! 4. [`add_sample`](Draft::add_sample), which adds to the sample of the same stack and labels if
//!    there is one; or [`push_sample`](Draft::push_sample) where the format has no repeated ones; or
//!    [`stack`](Draft::stack) and [`add_sample_of`](Draft::add_sample_of) where its samples name
//!    stacks that they share.
//!
//! Everything about who sent it (labels, `__name__` among them) travels beside the draft, in
//! [`crate::About`].
//!
//! # Invariants
//! - Memory is taken from the budget of the terms before it is filled, growth of the vectors
//!   included, and given back when the draft is dropped.
//! - The size in bytes, which limits and rates are charged by, is about that of the same profile
//!   as pprof, and depends on nothing but what was added.
//! - The same calls give the same draft, whatever the seed.
//!
//! # What it must not know
//! The formats, and what the labels of the profile are.

mod apart;

use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, PackedSlice, Permit};

pub(crate) use apart::Apart;

use crate::raw::{
    Columns, Ids, RawFunction, RawLabel, RawLine, RawLocation, RawMapping, RawProfile, SampleEnds,
    ValueType,
};
use crate::room::{Room, make_room};
use crate::tables::Fold;

/// Taken from the budget at least at a time.
const STEP_BYTES: u64 = 4096;
/// Vectors and tables double: at most this many times of what is in them is held.
const SLACK: u64 = 2;
/// A table's entry: the index and a control byte, at seven eighths full.
const TABLE_BYTES: u64 = 6;
/// A label of a sample as pprof.
const LABEL_SIZE: u64 = 8;

/// What a draft may take.
#[derive(Debug, Clone)]
pub struct DraftTerms {
    /// Secret to the process, so that no sender can provoke hash collisions.
    pub seed: u64,
    /// Where its memory comes from.
    pub memory: ByteBudget,
    /// How large the profile may get, in bytes as pprof; 0 means no limit.
    pub max_bytes: u64,
}

/// Why a draft takes no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    Memory(#[from] BudgetExceeded),
    #[error(
        "the profile exceeds the size limit (max_profile_size_bytes, actual: more than {limit} as pprof, limit: {limit})"
    )]
    TooLarge { limit: u64 },
    #[error(
        "the values of a stacktrace add up to more than {max}, counts of times multiplied by the period that the sample rate gives",
        max = i64::MAX
    )]
    Overflow,
}

/// A mapping as a decoder knows it; texts are what [`Draft::string`] returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DraftMapping {
    pub start: u64,
    pub limit: u64,
    pub offset: u64,
    pub filename: u32,
    pub build_id: u32,
    /// See [`scoria_model::part::mapping_flags`].
    pub flags: u32,
}

/// A function as a decoder knows it; texts are what [`Draft::string`] returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DraftFunction {
    pub name: u32,
    pub system_name: u32,
    pub filename: u32,
    pub start_line: i64,
}

/// The frames of a stacktrace in a draft; what [`Draft::stack`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stack {
    start: u32,
    end: u32,
    /// Bytes of them in a pprof's sample.
    size: u32,
}

impl Stack {
    const fn frames(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Of a sample: its values, its labels and its ids.
type Row<'r> = (&'r [i64], &'r [(u32, u32)], Ids);

/// A profile that is being put together; see the module's page.
#[derive(Debug)]
pub struct Draft {
    text: Vec<u8>,
    columns: Columns,
    hash: FixedState,
    fold: Fold,
    strings: HashTable<u32>,
    /// With the upper half of the hash.
    samples: HashTable<(u32, u32)>,
    /// By string index: the location that is a frame of this name, 0 if there is none yet.
    frames: Vec<u64>,
    /// Whether stacktraces and their symbols are elsewhere: a frame is then the place of a stacktrace
    /// there.
    apart: Option<Apart>,
    permit: Permit,
    held: u64,
    size: u64,
    max_bytes: u64,
}

impl Draft {
    /// An empty draft, without sample types.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn new(terms: &DraftTerms) -> Result<Self, DraftError> {
        let mut draft = Self {
            text: Vec::new(),
            columns: Columns::default(),
            hash: FixedState::with_seed(terms.seed),
            fold: Fold::new(terms.seed),
            strings: HashTable::new(),
            samples: HashTable::new(),
            frames: Vec::new(),
            apart: None,
            permit: terms.memory.try_acquire(STEP_BYTES)?,
            held: 0,
            size: 0,
            max_bytes: match terms.max_bytes {
                0 => u64::MAX,
                bytes => bytes,
            },
        };
        draft.string("")?;
        Ok(draft)
    }

    /// Makes room at once for what is to come.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn reserve(&mut self, room: Room) -> Result<(), DraftError> {
        let bytes = self.held + room.bytes() as u64;
        let missing = bytes.saturating_sub(self.permit.bytes());
        self.permit.grow(missing)?;
        self.columns.reserve(room);
        if self.samples.is_empty() {
            self.samples.reserve(room.samples, |_| 0);
        }
        Ok(())
    }

    /// The index of a text, which is added if it is new. Index 0 is the empty text.
    ///
    /// # Errors
    /// The draft is full.
    pub fn string(&mut self, text: &str) -> Result<u32, DraftError> {
        self.bytes_string(text.as_bytes())
    }

    /// As [`string`](Self::string) for bytes that nobody has checked to be UTF-8 yet; the
    /// normaliser refuses the profile if they are not.
    ///
    /// # Errors
    /// The draft is full.
    pub fn bytes_string(&mut self, text: &[u8]) -> Result<u32, DraftError> {
        let hash = self.hash.hash_one(text);
        let (columns, bytes) = (&self.columns, &self.text);
        let same = |&at: &u32| columns.string_in(bytes, at) == Some(text);
        if let Some(&known) = self.strings.find(hash, same) {
            return Ok(known);
        }
        let length = text.len() as u64;
        self.charge(length + 16 + TABLE_BYTES, 2 + length)?;
        make_room(&mut self.text, text.len());
        let at = self.columns.push_place(self.text.len(), text.len());
        let at = at.ok_or(DraftError::TooLarge {
            limit: self.max_bytes,
        })?;
        self.text.extend_from_slice(text);
        let (columns, bytes, state) = (&self.columns, &self.text, &self.hash);
        self.strings.insert_unique(hash, at, |&at| {
            state.hash_one(columns.string_in(bytes, at).unwrap_or_default())
        });
        Ok(at)
    }

    /// Adds a sample type.
    ///
    /// # Errors
    /// The draft is full.
    pub fn add_type(&mut self, kind: &str, unit: &str) -> Result<(), DraftError> {
        let kind = self.string(kind)?;
        let unit = self.string(unit)?;
        self.charge(size_of::<ValueType>() as u64, 6)?;
        self.columns.sample_types.push(ValueType { kind, unit });
        Ok(())
    }

    /// The sample types, each as (type, unit), in the order of a sample's values.
    ///
    /// # Errors
    /// The draft is full.
    pub fn set_types(&mut self, types: &[(&str, &str)]) -> Result<(), DraftError> {
        self.columns.sample_types.clear();
        let mut types = types.iter();
        types.try_for_each(|(kind, unit)| self.add_type(kind, unit))
    }

    /// The period and its type; both texts may be empty.
    ///
    /// # Errors
    /// The draft is full.
    pub fn set_period(&mut self, kind: &str, unit: &str, period: i64) -> Result<(), DraftError> {
        self.columns.period_type = ValueType {
            kind: self.string(kind)?,
            unit: self.string(unit)?,
        };
        self.columns.period = period;
        Ok(())
    }

    /// When the profile starts, in nanoseconds since the epoch (0: when it arrives), and how long
    /// it lasts, in nanoseconds.
    pub const fn set_times(&mut self, time_ns: i64, duration_ns: i64) {
        self.columns.time_ns = time_ns;
        self.columns.duration_ns = duration_ns;
    }

    /// Adds a mapping; the id by which locations name it.
    ///
    /// # Errors
    /// The draft is full.
    pub fn mapping(&mut self, mapping: DraftMapping) -> Result<u64, DraftError> {
        self.charge(size_of::<RawMapping>() as u64, 24)?;
        let id = self.columns.mappings.len() as u64 + 1;
        self.columns.mappings.push(RawMapping {
            id,
            start: mapping.start,
            limit: mapping.limit,
            offset: mapping.offset,
            filename: mapping.filename,
            build_id: mapping.build_id,
            flags: mapping.flags,
        });
        Ok(id)
    }

    /// Adds a function; the id by which lines name it.
    ///
    /// # Errors
    /// The draft is full.
    pub fn function(&mut self, function: DraftFunction) -> Result<u64, DraftError> {
        self.charge(size_of::<RawFunction>() as u64, 12)?;
        Ok(self.columns.functions.add(RawFunction {
            id: 0,
            name: function.name,
            system_name: function.system_name,
            filename: function.filename,
            start_line: function.start_line,
        }))
    }

    /// Adds a location with its lines, the innermost inlined call first; the id by which samples
    /// name it. Mapping 0 is none. A location needs lines or an address: samples that use another
    /// are dropped and counted.
    ///
    /// # Errors
    /// The draft is full.
    pub fn location(
        &mut self,
        mapping: u64,
        address: u64,
        lines: &[RawLine],
    ) -> Result<u64, DraftError> {
        let held = size_of::<RawLocation>() + size_of_val(lines);
        self.charge(held as u64, 6 + 8 * lines.len() as u64)?;
        Ok(self.columns.locations.add((mapping, address), lines))
    }

    /// The location of a frame of which only the name is known: one function without file, in no
    /// mapping. The same name gives the same location.
    ///
    /// # Errors
    /// The draft is full.
    pub fn frame(&mut self, name: &[u8]) -> Result<u64, DraftError> {
        let name = self.bytes_string(name)?;
        let at = name as usize;
        if let Some(&known) = self.frames.get(at).filter(|&&known| known != 0) {
            return Ok(known);
        }
        let function = self.function(DraftFunction {
            name,
            system_name: name,
            ..DraftFunction::default()
        })?;
        let location = self.location(0, 0, &[RawLine { function, line: 0 }])?;
        if self.frames.len() <= at {
            let new = (at + 1 - self.frames.len()) * size_of::<u64>();
            self.charge(new as u64, 0)?;
            self.frames.resize(at + 1, 0);
        }
        self.frames[at] = location;
        Ok(location)
    }

    /// Adds the frames of a stacktrace, as location ids leaf first, for samples to come.
    ///
    /// # Errors
    /// The draft is full.
    pub fn stack(&mut self, frames: &[u64]) -> Result<Stack, DraftError> {
        self.charge((frames.len() * size_of::<u32>()) as u64, 0)?;
        let size: u64 = frames.iter().map(|&id| varint_length(id)).sum();
        let frames = self.columns.push_frames(frames);
        Ok(Stack {
            start: frames.start as u32,
            end: frames.end as u32,
            size: size as u32,
        })
    }

    /// Adds a sample: location ids leaf first, a value for each sample type, and labels as string
    /// indexes (name, value).
    ///
    /// # Errors
    /// The draft is full.
    pub fn push_sample(
        &mut self,
        frames: &[u64],
        values: &[i64],
        labels: &[(u32, u32)],
    ) -> Result<(), DraftError> {
        let stack = self.stack(frames)?;
        self.append(stack, (values, labels, Ids::NONE))?;
        Ok(())
    }

    /// As [`push_sample`](Self::push_sample); if there is a sample of the same frames and labels,
    /// the values are added to it instead.
    ///
    /// # Errors
    /// The draft is full, or a sum does not fit.
    pub fn add_sample(
        &mut self,
        frames: &[u64],
        values: &[i64],
        labels: &[(u32, u32)],
    ) -> Result<(), DraftError> {
        let hash = sample_hash(
            &self.fold,
            frames.iter().copied(),
            labels.iter().copied(),
            Ids::NONE,
        );
        let same = |columns: &Columns, known: PackedSlice<'_, u32>| {
            let known = known.iter().map(|frame| columns.location_id(frame));
            known.eq(frames.iter().copied())
        };
        if let Some(known) = self.find(hash, same, (labels, Ids::NONE)) {
            return self.add_values(known, values);
        }
        let stack = self.stack(frames)?;
        self.insert(hash, stack, (values, labels, Ids::NONE))
    }

    /// As [`add_sample`](Self::add_sample), of a stacktrace that the draft has already, which
    /// thousands of samples may share, and of a span and trace.
    ///
    /// # Errors
    /// The draft is full, or a sum does not fit.
    pub fn add_sample_of(
        &mut self,
        stack: Stack,
        (values, labels, ids): (&[i64], &[(u32, u32)], Ids),
    ) -> Result<(), DraftError> {
        let columns = &self.columns;
        let frames = columns.frames.slice(stack.frames());
        let locations = frames.iter().map(|frame| columns.location_id(frame));
        let hash = sample_hash(&self.fold, locations, labels.iter().copied(), ids);
        let same = |_: &Columns, known: PackedSlice<'_, u32>| known == frames;
        if let Some(known) = self.find(hash, same, (labels, ids)) {
            return self.add_values(known, values);
        }
        self.insert(hash, stack, (values, labels, ids))
    }

    /// Samples so far.
    pub fn n_samples(&self) -> usize {
        self.columns.samples.len()
    }

    /// Bytes of the profile as it would be as pprof, about.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes taken from the budget.
    pub fn permitted_bytes(&self) -> u64 {
        self.permit.bytes()
    }

    /// The columns as the normaliser sees them, moved out of the draft, which takes nothing more:
    /// what found its entries is given back.
    pub fn raw(&mut self) -> RawProfile<'_> {
        let columns = std::mem::take(&mut self.columns);
        self.strings = HashTable::new();
        self.samples = HashTable::new();
        self.frames = Vec::new();
        RawProfile::of_columns(&self.text, columns, self.size)
    }

    /// The sample of these frames, labels and ids, if there is one.
    fn find(
        &self,
        hash: u64,
        same_frames: impl Fn(&Columns, PackedSlice<'_, u32>) -> bool,
        (labels, ids): (&[(u32, u32)], Ids),
    ) -> Option<u32> {
        let (columns, check) = (&self.columns, (hash >> 32) as u32);
        let same = |&(at, known): &(u32, u32)| {
            known == check && {
                let (frames, known_labels) = sample_of(columns, at);
                let known_labels = known_labels.map(|label| (label.key, label.text));
                same_frames(columns, frames)
                    && known_labels.eq(labels.iter().copied())
                    && columns.ids_of(at as usize) == ids
            }
        };
        self.samples.find(hash, same).map(|&(at, _)| at)
    }

    fn insert(&mut self, hash: u64, stack: Stack, row: Row<'_>) -> Result<(), DraftError> {
        self.charge(2 * TABLE_BYTES, 0)?;
        let at = self.append(stack, row)?;
        let (columns, fold) = (&self.columns, &self.fold);
        let entry = (at, (hash >> 32) as u32);
        self.samples.insert_unique(hash, entry, |&(at, _)| {
            let (frames, labels) = sample_of(columns, at);
            let locations = frames.iter().map(|frame| columns.location_id(frame));
            let labels = labels.map(|label| (label.key, label.text));
            sample_hash(fold, locations, labels, columns.ids_of(at as usize))
        });
        Ok(())
    }

    /// Adds a row, which is paid for first.
    fn append(&mut self, stack: Stack, row: Row<'_>) -> Result<u32, DraftError> {
        let (values, labels, ids) = row;
        let has_ids = ids != Ids::NONE;
        let held = size_of::<SampleEnds>()
            + size_of::<u32>()
            + size_of_val(values)
            + labels.len() * size_of::<RawLabel>()
            + if has_ids { size_of::<Ids>() } else { 0 };
        let ids_before = self.columns.samples.len().checked_sub(1);
        let ids_before = ids_before.map_or(Ids::NONE, |at| self.columns.ids_of(at));
        let values_size = values.iter().map(|&value| varint_length(value as u64));
        let size = 6
            + u64::from(stack.size)
            + values_size.sum::<u64>()
            + LABEL_SIZE * labels.len() as u64
            + ids_size(ids, ids_before);
        self.charge(held as u64, size)?;
        let columns = &mut self.columns;
        make_room(&mut columns.values, values.len());
        columns.values.extend_from_slice(values);
        let labels = labels.iter().map(|&(key, text)| RawLabel { key, text });
        columns.labels.extend(labels);
        Ok(columns.push_sample(&stack.frames(), ids))
    }

    fn add_values(&mut self, sample: u32, values: &[i64]) -> Result<(), DraftError> {
        let start = self.columns.sample(sample as usize).values().start;
        let sums = &mut self.columns.values;
        for (at, &value) in (start..).zip(values) {
            let sum = sums.get(at).checked_add(value);
            sums.set(at, sum.ok_or(DraftError::Overflow)?);
        }
        Ok(())
    }

    /// Pays for `held` bytes of memory before they are filled, and for `size` bytes of the profile.
    #[inline]
    fn charge(&mut self, held: u64, size: u64) -> Result<(), DraftError> {
        self.size += size;
        if self.size > self.max_bytes {
            return Err(DraftError::TooLarge {
                limit: self.max_bytes,
            });
        }
        self.held += held * SLACK;
        let permitted = self.permit.bytes();
        if self.held > permitted {
            let step = (permitted / 4).max(STEP_BYTES);
            self.permit.grow((self.held - permitted).max(step))?;
        }
        Ok(())
    }
}

fn sample_of(
    columns: &Columns,
    at: u32,
) -> (
    PackedSlice<'_, u32>,
    impl ExactSizeIterator<Item = RawLabel> + Clone,
) {
    let sample = columns.sample(at as usize);
    (
        columns.frames.slice(sample.frames()),
        columns.labels.slice(sample.labels()),
    )
}

fn sample_hash(
    fold: &Fold,
    locations: impl Iterator<Item = u64>,
    labels: impl Iterator<Item = (u32, u32)>,
    ids: Ids,
) -> u64 {
    let hash = labels.fold(fold.start(), |hash, (key, text)| {
        fold.add(hash, u64::from(key) << 32 | u64::from(text))
    });
    let hash = match ids {
        Ids::NONE => hash,
        Ids { span, trace } => {
            let trace = u128::from_le_bytes(trace);
            let hash = fold.add(fold.add(hash, span), trace as u64);
            fold.add(hash, (trace >> 64) as u64)
        }
    };
    locations.fold(hash, |hash, id| fold.add(hash, id))
}

/// Bytes that ids would be as labels of a pprof: the labels, and their texts unless the sample
/// before has them too.
fn ids_size(ids: Ids, before: Ids) -> u64 {
    let text = |is_new: bool, digits: u64| if is_new { 2 + digits } else { 0 };
    let span = text(ids.span != 0 && ids.span != before.span, 16);
    let trace = text(
        ids.trace != Ids::NONE.trace && ids.trace != before.trace,
        32,
    );
    LABEL_SIZE * ids.count() as u64 + span + trace
}

/// Bytes of a number in the pprof's encoding.
pub(crate) const fn varint_length(value: u64) -> u64 {
    let bits = 64 - (value | 1).leading_zeros() as u64;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use scoria_model::{Limits, RetryKey, Timestamp};

    use super::*;
    use crate::{About, Normaliser, Origin};

    fn terms(memory: u64, max_bytes: u64) -> DraftTerms {
        DraftTerms {
            seed: 7,
            memory: ByteBudget::new("test", memory),
            max_bytes,
        }
    }

    fn filled(terms: &DraftTerms) -> Result<Draft, DraftError> {
        let mut draft = Draft::new(terms)?;
        draft.set_types(&[("cpu", "nanoseconds")])?;
        draft.set_period("cpu", "nanoseconds", 10)?;
        draft.set_times(1_000, 5);
        let (main, work) = (draft.frame(b"main")?, draft.frame(b"work")?);
        let labels = [(draft.string("thread")?, draft.string("a")?)];
        draft.add_sample(&[work, main], &[10], &[])?;
        draft.add_sample(&[main], &[20], &[])?;
        draft.add_sample(&[work, main], &[30], &[])?;
        draft.add_sample(&[work, main], &[50], &labels)?;
        draft.add_sample(&[work, main], &[50], &labels)?;
        Ok(draft)
    }

    #[test]
    fn equal_stacks_with_equal_labels_are_added() {
        let terms = terms(1 << 20, 0);
        let mut draft = filled(&terms).unwrap();
        assert_eq!(draft.n_samples(), 3);
        let main = draft.frame(b"main").unwrap();
        draft.push_sample(&[main], &[1], &[]).unwrap();
        let raw = draft.raw();
        assert_eq!(raw.columns.values, [40, 20, 100, 1]);
        assert_eq!(raw.columns.functions.len(), 2);
        drop(draft);
        assert_eq!(terms.memory.used(), 0);
    }

    /// The same samples, once with frames written out and once with stacks that they share.
    #[test]
    fn samples_that_share_a_stack_are_those_that_have_it_written_out() {
        let about = About {
            labels: &[("__name__", "process_cpu"), ("service_name", "shop")],
            origin: Origin::Push,
            key: RetryKey([1; 16]),
            now: Timestamp(2_000),
        };
        let ids = |span| Ids {
            span: u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, span]),
            ..Ids::NONE
        };
        let of = |shared: bool| {
            let mut draft = Draft::new(&terms(1 << 20, 0)).unwrap();
            draft.set_types(&[("cpu", "nanoseconds")]).unwrap();
            let frames = [b"main", b"work"].map(|name| draft.frame(name).unwrap());
            let stacks = [vec![frames[1], frames[0]], vec![frames[0]]];
            let runs = [&stacks[0], &stacks[1]].map(|stack| draft.stack(stack).unwrap());
            let key = draft.string("span_id").unwrap();
            // Stack, span, value: the first and the last are one sample.
            for (at, span, value) in [(0, 0, 1), (1, 0, 2), (0, 1, 4), (1, 1, 8), (0, 0, 16)] {
                if shared {
                    let row = (&[value][..], &[][..], ids(span));
                    draft.add_sample_of(runs[at], row).unwrap();
                } else {
                    let text = draft.string(&format!("{span:016x}")).unwrap();
                    let labels = [(key, text)];
                    let labels = if span == 0 { &[] } else { &labels[..] };
                    draft.add_sample(&stacks[at], &[value], labels).unwrap();
                }
            }
            assert_eq!(draft.n_samples(), 4);
            let size = draft.size();
            let mut normaliser = Normaliser::new(3);
            let limits = Limits {
                reject_older_than_ms: 0,
                ..Limits::default()
            };
            let part = normaliser.normalise_draft(draft, &about, &limits);
            let part = part.unwrap().part;
            let told = (
                part.frames,
                part.stack_ends,
                part.sample_stack,
                part.sample_value,
                part.sample_span,
            );
            (told, size)
        };
        let ((shared, size), (written_out, other_size)) = (of(true), of(false));
        assert_eq!(shared, written_out);
        assert_eq!(shared.1, [2, 3]);
        // Without the texts of two spans; one is as good as the other.
        assert!(size.abs_diff(other_size) < 60, "{size} {other_size}");
    }

    #[test]
    fn a_draft_is_normalised_like_a_pprof() {
        let limits = Limits {
            reject_older_than_ms: 0,
            ..Limits::default()
        };
        let about = About {
            labels: &[("__name__", "process_cpu"), ("service_name", "shop")],
            origin: Origin::Push,
            key: RetryKey([1; 16]),
            now: Timestamp(2_000),
        };
        let draft = filled(&terms(1 << 20, 0)).unwrap();
        let size = draft.size();
        let mut normaliser = Normaliser::new(3);
        let normalised = normaliser.normalise_draft(draft, &about, &limits).unwrap();
        assert_eq!(normalised.part.series_ends.len(), 2);
        assert_eq!(normalised.part.sample_value.iter().sum::<i64>(), 160);
        assert_eq!(normalised.part.profiles[0].time, Timestamp(1_000));
        assert_eq!(normalised.told.stats.decompressed_bytes, size);
    }

    #[test]
    fn the_size_is_about_that_of_a_pprof() {
        let mut draft = Draft::new(&terms(1 << 20, 0)).unwrap();
        draft.set_types(&[("cpu", "nanoseconds")]).unwrap();
        for at in 0..500_u64 {
            let name = format!("package.Class{at}.method");
            let frame = draft.frame(name.as_bytes()).unwrap();
            draft
                .add_sample(&[frame, 1, 1, 1], &[1_000_000], &[])
                .unwrap();
        }
        let size = draft.size();
        // 500 x (string 27, function 8 to 12, location 8 to 12, sample 14)
        assert!((27_000..36_000).contains(&size), "{size}");
    }

    #[test]
    fn memory_and_size_end_it() {
        let fill = |terms: &DraftTerms| -> DraftError {
            let mut draft = Draft::new(terms).unwrap();
            for at in 0_u64.. {
                if let Err(error) = draft.frame(at.to_string().as_bytes()) {
                    return error;
                }
                assert!(terms.memory.used() >= draft.held);
            }
            unreachable!("the draft never filled up")
        };
        assert!(matches!(fill(&terms(100_000, 0)), DraftError::Memory(_)));
        let limit = 10_000;
        assert_eq!(fill(&terms(1 << 20, limit)), DraftError::TooLarge { limit });
        let mut draft = Draft::new(&terms(1 << 20, 0)).unwrap();
        draft.add_sample(&[1], &[i64::MAX], &[]).unwrap();
        assert_eq!(draft.add_sample(&[1], &[1], &[]), Err(DraftError::Overflow));
    }

    #[test]
    fn lengths_of_varints() {
        for (value, length) in [(0, 1), (127, 1), (128, 2), (u64::MAX, 10)] {
            assert_eq!(varint_length(value), length);
        }
    }
}
