//! Moves symbols and stacktraces from a raw profile into a part, each distinct one once.
//!
//! Nothing is moved before a sample needs it.
//! Sender's ids are looked up once each; content decides what is the same, because senders repeat
//! entries and because clearing addresses makes entries equal.
//!
//! # Invariants
//! - Every table is keyed on content by a seeded hash and verified, so neither collisions nor a
//!   sender that provokes them change the outcome.
//! - A location is found broken at its first use and stays broken.

mod ids;
mod join;
mod memo;
mod symbols;

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use scoria_model::part::{Function, Line, Mapping, NONE, Part, Strings, mapping_flags};

pub(crate) use ids::IdIndex;
pub use join::Joined;
pub(crate) use memo::Counts;
pub(crate) use symbols::{Repairs, Stacks, Symbols};

use memo::{Epochs, Memo, Memos};

use crate::golang;
use crate::raw::{RawFunction, RawLine, RawProfile};
use crate::room::make_room;

/// In the memos of locations and stacktraces: cannot be moved.
const BROKEN: u32 = u32::MAX - 1;
/// In the memo of stacktraces: it lost its root side. A part never has as many as this.
const CUT: u32 = 1 << 31;

/// Notes may not make much out of little: mappings are small, and labels need not be. So many bytes
/// of them are in a part, and so many are put together for it.
const MAX_NOTED_BYTES: usize = 16 << 20;
const MAX_NOTING_BYTES: usize = 256 << 20;

/// A location without function or address, or one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokenReference;

/// What became of a stacktrace that has been moved: its index in the part and whether it lost its
/// root side, or that it is broken, in a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved(pub(crate) u32);

impl Moved {
    /// # Errors
    /// One of its locations is broken.
    #[inline]
    pub(crate) const fn stack(self) -> Result<(u32, bool), BrokenReference> {
        match self.0 {
            BROKEN => Err(BrokenReference),
            moved => Ok((moved & !CUT, moved & CUT != 0)),
        }
    }
}

/// Scratch of one profile after the other; the part is passed in because it leaves with its owner.
#[derive(Debug)]
pub(crate) struct Tables {
    seed: u64,
    hash: FixedState,
    fold: Fold,
    strings: HashTable<u32>,
    mappings: HashTable<u32>,
    functions: HashTable<u32>,
    locations: HashTable<u32>,
    stacks: HashTable<(u32, u32)>,
    string_memo: Memo,
    /// Of strings that are names, shortened; empty where none are.
    short_memo: Memo,
    memos: Memos,
    epochs: Epochs,
    mapping_ids: IdIndex,
    function_ids: IdIndex,
    location_ids: IdIndex,
    /// What is done to entries on their way.
    repairs: Repairs,
    noted_bytes: usize,
    noting_bytes: usize,
    /// Of the location at hand.
    lines: Vec<RawLine>,
    /// Of the stacktrace at hand.
    frames: Vec<u32>,
}

impl Tables {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            hash: FixedState::with_seed(seed),
            fold: Fold::new(seed),
            strings: HashTable::new(),
            mappings: HashTable::new(),
            functions: HashTable::new(),
            locations: HashTable::new(),
            stacks: HashTable::new(),
            string_memo: Memo::default(),
            memos: Memos::default(),
            epochs: Epochs::default(),
            mapping_ids: IdIndex::default(),
            function_ids: IdIndex::default(),
            location_ids: IdIndex::default(),
            repairs: Repairs::default(),
            noted_bytes: 0,
            noting_bytes: 0,
            short_memo: Memo::default(),
            lines: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Forgets the profile before and learns the ids of this one.
    pub(crate) fn start(&mut self, raw: &RawProfile<'_>, repairs: Repairs) {
        self.repairs = repairs;
        self.start_again(raw);
    }

    /// Begins anew with the same profile.
    pub(crate) fn start_again(&mut self, raw: &RawProfile<'_>) {
        let (columns, n_strings) = (&raw.columns, raw.n_strings());
        self.noted_bytes = 0;
        self.noting_bytes = 0;
        self.strings.clear();
        self.mappings.clear();
        self.functions.clear();
        self.locations.clear();
        self.stacks.clear();
        for (table, n) in [
            (&mut self.strings, n_strings),
            (&mut self.mappings, columns.mappings.len()),
            (&mut self.functions, columns.functions.len()),
            (&mut self.locations, columns.locations.len()),
        ] {
            // Empty, so that nothing is hashed anew.
            table.reserve(n, |_| 0);
        }
        self.stacks.reserve(columns.n_stacks(), |_| 0);
        self.end_epochs();
        self.string_memo.fit(n_strings);
        self.memos.fit(Counts {
            strings: n_strings,
            mappings: columns.mappings.len(),
            functions: columns.functions.len(),
            locations: columns.locations.len(),
            stacks: 0,
        });
        self.mapping_ids
            .learn(columns.mappings.iter().map(|m| m.id), self.seed);
        self.function_ids.learn(columns.functions.ids(), self.seed);
        self.location_ids.learn(columns.locations.ids(), self.seed);
    }

    /// From now on nothing is known of where entries went.
    fn end_epochs(&mut self) {
        let next = self.epochs.texts.checked_add(1);
        self.epochs.texts = next.unwrap_or_else(|| {
            self.string_memo = Memo::default();
            self.short_memo = Memo::default();
            self.memos.functions = Memo::default();
            1
        });
        self.end_notes(&mut Memos::default());
    }

    /// From now on nothing is known of where mappings went, and what is in them; nor by `others`.
    fn end_notes(&mut self, others: &mut Memos) {
        let next = self.epochs.notes.checked_add(1);
        self.epochs.notes = next.unwrap_or_else(|| {
            self.memos.forget_noted();
            others.forget_noted();
            1
        });
    }

    /// Memory held, in bytes, roughly.
    pub(crate) fn held_bytes(&self) -> usize {
        let tables = [
            &self.strings,
            &self.mappings,
            &self.functions,
            &self.locations,
        ];
        tables.iter().map(|t| t.capacity() * 5).sum::<usize>()
            + self.stacks.capacity() * 9
            + self.string_memo.held_bytes()
            + self.short_memo.held_bytes()
            + self.memos.held_bytes()
            + self.mapping_ids.held_bytes()
            + self.function_ids.held_bytes()
            + self.location_ids.held_bytes()
            + self.lines.capacity() * size_of::<RawLine>()
            + self.frames.capacity() * 4
    }

    /// The index in the part of a text that is not one of the raw profile's strings.
    pub(crate) fn text(&mut self, part: &mut Part, text: &str) -> u32 {
        self.bytes_text(part, text.as_bytes())
    }

    /// As [`text`](Self::text) for bytes that have been checked to be UTF-8.
    pub(crate) fn bytes_text(&mut self, part: &mut Part, text: &[u8]) -> u32 {
        intern_text(&mut self.strings, &self.hash, &mut part.strings, text)
    }

    /// The index in the part of a string, all of which have been checked to be UTF-8.
    fn string(&mut self, part: &mut Part, from: &(impl Symbols + ?Sized), at: u32) -> u32 {
        let (place, epoch) = (at as usize, self.epochs.texts);
        if let Some(known) = self.string_memo.get(place, epoch) {
            return known;
        }
        let moved = self.bytes_text(part, from.text(at));
        if place < self.string_memo.len() {
            self.string_memo.set(place, epoch, moved);
        }
        moved
    }

    /// As [`string`](Self::string) for the name of a function.
    fn name(&mut self, part: &mut Part, from: &(impl Symbols + ?Sized), at: u32) -> u32 {
        let (place, epoch) = (at as usize, self.epochs.texts);
        if !self.repairs.short_names || place >= self.string_memo.len() {
            return self.string(part, from, at);
        }
        self.short_memo.fit(self.string_memo.len());
        if let Some(known) = self.short_memo.get(place, epoch) {
            return known;
        }
        let moved = match golang::without_type_parameters(from.text(at)) {
            Some(short) => self.bytes_text(part, &short),
            None => self.string(part, from, at),
        };
        self.short_memo.set(place, epoch, moved);
        moved
    }

    /// Moves the stacktrace at `at` of a table of them, without what is beyond `depth` on the root
    /// side.
    pub(crate) fn stack_at(
        &mut self,
        part: &mut Part,
        (from, at): (&dyn Stacks, u32),
        depth: usize,
    ) -> Moved {
        let (place, epoch) = (at as usize, self.epochs.notes);
        if let Some(known) = self.memos.stacks.get(place, epoch) {
            return Moved(known);
        }
        if place >= self.memos.stacks.len() {
            return Moved(BROKEN);
        }
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        from.frames(place, &mut frames);
        // Leaf first: what is beyond the depth is cut at the front.
        let cut = frames.len().saturating_sub(depth);
        let stack = self.stack(part, from, &mut frames[cut..]);
        self.frames = frames;
        let mark = if cut > 0 { CUT } else { 0 };
        let moved = stack.map_or(BROKEN, |stack| stack | mark);
        self.memos.stacks.set(place, epoch, moved);
        Moved(moved)
    }

    /// The stacktrace without frames.
    pub(crate) fn empty_stack(&mut self, part: &mut Part) -> u32 {
        self.seal_stack(part, &[], self.fold.start())
    }

    /// Moves a stacktrace given as its frames, leaf first, which become locations of the part; its
    /// index.
    ///
    /// # Errors
    /// One of its locations is broken. The part may then hold locations that nothing uses.
    #[inline]
    pub(crate) fn stack<S: Symbols + ?Sized>(
        &mut self,
        part: &mut Part,
        from: &S,
        stack: &mut [u32],
    ) -> Result<u32, BrokenReference> {
        let mut hash = self.fold.start();
        for frame in &mut *stack {
            let location = self.location(part, from, from.location_id(*frame))?;
            hash = self.fold.add(hash, u64::from(location));
            *frame = location;
        }
        Ok(self.seal_stack(part, stack, hash))
    }

    /// Makes locations of the part a stacktrace, or finds the one they repeat.
    fn seal_stack(&mut self, part: &mut Part, path: &[u32], hash: u64) -> u32 {
        let (frames, ends) = (&part.frames, &part.stack_ends);
        let check = (hash >> 32) as u32;
        let same = |&(stack, known): &(u32, u32)| {
            known == check && frames.slice(ends.as_slice().span(stack as usize)) == *path
        };
        if let Some(&(stack, _)) = self.stacks.find(hash, same) {
            return stack;
        }
        let stack = ends.len() as u32;
        make_room(&mut part.frames, path.len());
        part.frames.extend_from_slice(path);
        make_room(&mut part.stack_ends, 1);
        part.stack_ends.push(part.frames.len() as u32);
        let (frames, ends, fold) = (&part.frames, &part.stack_ends, &self.fold);
        self.stacks
            .insert_unique(hash, (stack, check), |&(stack, _)| {
                let again = frames.slice(ends.as_slice().span(stack as usize)).iter();
                again.fold(fold.start(), |hash, f| fold.add(hash, u64::from(f)))
            });
        stack
    }

    #[inline]
    fn location<S: Symbols + ?Sized>(
        &mut self,
        part: &mut Part,
        from: &S,
        id: u64,
    ) -> Result<u32, BrokenReference> {
        let at = self.location_ids.find(id).ok_or(BrokenReference)?;
        match self.memos.locations.get(at, self.epochs.notes) {
            Some(BROKEN) => Err(BrokenReference),
            Some(known) => Ok(known),
            None => {
                let moved = self.move_location(part, from, at);
                let noted = moved.unwrap_or(BROKEN);
                self.memos.locations.set(at, self.epochs.notes, noted);
                moved.ok_or(BrokenReference)
            }
        }
    }

    fn move_location<S: Symbols + ?Sized>(
        &mut self,
        part: &mut Part,
        from: &S,
        at: usize,
    ) -> Option<u32> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let (mapping, address) = from.location(at, &mut lines);
        let moved = self.move_lines(part, from, (mapping, address, &mut lines));
        self.lines = lines;
        moved
    }

    /// The location of a mapping, an address and lines, whose functions become those of the part.
    fn move_lines<S: Symbols + ?Sized>(
        &mut self,
        part: &mut Part,
        from: &S,
        (mapping, address, lines): (u64, u64, &mut [RawLine]),
    ) -> Option<u32> {
        if lines.is_empty() && address == 0 {
            return None;
        }
        let mapping = self.mapping(part, from, mapping);
        let is_symbolised = match part.mappings.get(mapping as usize) {
            Some(mapping) => mapping.flags & mapping_flags::HAS_FUNCTIONS != 0,
            None => true,
        };
        // With its lines known, where the loader put the code only keeps equal frames apart.
        let address = if is_symbolised && !lines.is_empty() {
            0
        } else {
            address
        };
        let mut hash = self.fold.add(self.fold.start(), u64::from(mapping));
        hash = self.fold.add(hash, address);
        // All of them first: what a broken location has is not put into the part.
        for line in &mut *lines {
            line.function = u64::from(self.function(part, from, line.function)?);
            hash = self.fold.add(hash, line.function);
            hash = self.fold.add(hash, line.line as u64);
        }
        let start = part.lines.len();
        make_room(&mut part.lines, lines.len());
        part.lines.extend(lines.iter().map(|line| Line {
            function: line.function as u32,
            line: line.line,
        }));
        Some(self.seal_location(part, start, (mapping, address), hash))
    }

    /// Makes the lines from `start` on a location, or finds the one they repeat.
    fn seal_location(
        &mut self,
        part: &mut Part,
        start: usize,
        (mapping, address): (u32, u64),
        hash: u64,
    ) -> u32 {
        let end = part.lines.len();
        let same = |&at: &u32| {
            let (known, lines) = part.location(at);
            (known.mapping, known.address) == (mapping, address)
                && lines.len() == end - start
                && lines
                    .zip(start..end)
                    .all(|(a, b)| part.lines.get(a) == part.lines.get(b))
        };
        if let Some(&at) = self.locations.find(hash, same) {
            part.lines.truncate(start);
            return at;
        }
        make_room(&mut part.locations, 1);
        let at = part.push_location((mapping, address), []);
        let (part, fold) = (&*part, &self.fold);
        self.locations
            .insert_unique(hash, at, |&at| location_hash(fold, part, at));
        at
    }

    /// [`NONE`] for id 0 and for a mapping that is not there.
    fn mapping(&mut self, part: &mut Part, from: &(impl Symbols + ?Sized), id: u64) -> u32 {
        if id == 0 {
            return NONE;
        }
        let Some(at) = self.mapping_ids.find(id) else {
            return NONE;
        };
        if let Some(known) = self.memos.mappings.get(at, self.epochs.notes) {
            return known;
        }
        let row = from.mapping(at);
        let is_symbolised = row.flags & mapping_flags::HAS_FUNCTIONS != 0;
        let kept = |place: u64| if is_symbolised { 0 } else { place };
        let build_id = self.noted_build_id(part, &from.build_id(at));
        let mapping = Mapping {
            start: kept(row.start),
            limit: kept(row.limit),
            offset: kept(row.offset),
            filename: self.string(part, from, row.filename),
            build_id,
            flags: row.flags,
        };
        let fold = &self.fold;
        let hash = mapping_hash(fold, &mapping);
        let rows = &mut part.mappings;
        let same = |&at: &u32| rows[at as usize] == mapping;
        let moved = match self.mappings.find(hash, same) {
            Some(&known) => known,
            None => {
                let new = rows.len() as u32;
                make_room(rows, 1);
                rows.push(mapping);
                self.mappings
                    .insert_unique(hash, new, |&at| mapping_hash(fold, &rows[at as usize]));
                new
            }
        };
        self.memos.mappings.set(at, self.epochs.notes, moved);
        moved
    }

    /// A mapping's build id, with what is noted around it while there is room for that.
    fn noted_build_id(&mut self, part: &mut Part, build_id: &[u8]) -> u32 {
        let Some(note) = &self.repairs.note else {
            return self.bytes_text(part, build_id);
        };
        self.noting_bytes += note.len() + build_id.len();
        if self.noting_bytes > MAX_NOTING_BYTES || self.noted_bytes > MAX_NOTED_BYTES {
            return self.bytes_text(part, build_id);
        }
        let noted = note.around(build_id);
        let before = part.strings.bytes.len();
        let at = self.text(part, &noted);
        self.noted_bytes += part.strings.bytes.len() - before;
        at
    }

    fn function(
        &mut self,
        part: &mut Part,
        from: &(impl Symbols + ?Sized),
        id: u64,
    ) -> Option<u32> {
        let at = self.function_ids.find(id)?;
        if let Some(known) = self.memos.functions.get(at, self.epochs.texts) {
            return Some(known);
        }
        let RawFunction {
            name,
            system_name,
            filename,
            start_line,
            ..
        } = from.function(at);
        let function = Function {
            name: self.name(part, from, name),
            system_name: self.name(part, from, system_name),
            filename: self.string(part, from, filename),
            start_line,
        };
        let fold = &self.fold;
        let hash = function_hash(fold, &function);
        let rows = &mut part.functions;
        let same = |&at: &u32| rows.get(at as usize) == function;
        let moved = match self.functions.find(hash, same) {
            Some(&known) => known,
            None => {
                let new = rows.len() as u32;
                make_room(rows, 1);
                rows.push(function);
                self.functions
                    .insert_unique(hash, new, |&at| function_hash(fold, &rows.get(at as usize)));
                new
            }
        };
        self.memos.functions.set(at, self.epochs.texts, moved);
        Some(moved)
    }
}

fn intern_text(
    table: &mut HashTable<u32>,
    state: &FixedState,
    strings: &mut Strings,
    text: &[u8],
) -> u32 {
    if text.is_empty() {
        return 0;
    }
    let hash = state.hash_one(text);
    let same = |&at: &u32| strings.get(at) == text;
    if let Some(&at) = table.find(hash, same) {
        return at;
    }
    let at = strings.ends.len() as u32;
    make_room(&mut strings.bytes, text.len());
    make_room(&mut strings.ends, 1);
    strings.bytes.extend_from_slice(text);
    strings.ends.push(strings.bytes.len() as u32);
    table.insert_unique(hash, at, |&at| state.hash_one(strings.get(at)));
    at
}

fn location_hash(fold: &Fold, part: &Part, at: u32) -> u64 {
    let (row, lines) = part.location(at);
    let mut hash = fold.add(fold.start(), u64::from(row.mapping));
    hash = fold.add(hash, row.address);
    for line in lines.map(|line| part.lines.get(line)) {
        hash = fold.add(hash, u64::from(line.function));
        hash = fold.add(hash, line.line as u64);
    }
    hash
}

fn mapping_hash(fold: &Fold, row: &Mapping) -> u64 {
    let texts = u64::from(row.filename) << 32 | u64::from(row.build_id);
    let numbers = [
        row.start,
        row.limit,
        row.offset,
        texts,
        u64::from(row.flags),
    ];
    numbers
        .into_iter()
        .fold(fold.start(), |hash, n| fold.add(hash, n))
}

fn function_hash(fold: &Fold, row: &Function) -> u64 {
    let names = u64::from(row.name) << 32 | u64::from(row.system_name);
    let hash = fold.add(fold.start(), names);
    let hash = fold.add(hash, u64::from(row.filename));
    fold.add(hash, row.start_line as u64)
}

/// A hash of a few numbers: one wide multiplication each, with a secret of the process in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fold {
    start: u64,
    factor: u64,
}

impl Fold {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            start: seed ^ 0x9e37_79b9_7f4a_7c15,
            factor: seed.rotate_left(29) ^ 0xd6e8_feb8_6659_fd93 | 1,
        }
    }

    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    #[inline]
    pub(crate) const fn add(&self, hash: u64, value: u64) -> u64 {
        let wide = (hash ^ value) as u128 * self.factor as u128;
        (wide as u64) ^ (wide >> 64) as u64
    }
}
