//! Moves symbols and stacktraces from a raw profile into a part, each distinct one once.
//!
//! Nothing is moved before a kept sample needs it, so what only dropped samples used stays behind.
//! Sender's ids are looked up once each; content decides what is the same, because senders repeat
//! entries and because clearing addresses makes entries equal.
//!
//! # Invariants
//! - Every table is keyed on content by a seeded hash and verified, so neither collisions nor a
//!   sender that provokes them change the outcome.
//! - A location is found broken at its first use and stays broken.

mod join;

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use scoria_model::part::{Function, Line, Mapping, NONE, Part, Strings, mapping_flags};

pub use join::Joined;

use crate::raw::{Columns, RawFunction, RawProfile};
use crate::room::make_room;

/// In a memo: not moved yet.
const UNSEEN: u32 = u32::MAX;
/// In the memo of locations: cannot be moved.
const BROKEN: u32 = u32::MAX - 1;
/// Sender's ids up to this many times their number are looked up in a plain table.
const SPARSE: u64 = 8;

/// A location without function or address, or one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokenReference;

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
    string_memo: Vec<u32>,
    mapping_memo: Vec<u32>,
    function_memo: Vec<u32>,
    location_memo: Vec<u32>,
    mapping_ids: IdIndex,
    function_ids: IdIndex,
    location_ids: IdIndex,
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
            string_memo: Vec::new(),
            mapping_memo: Vec::new(),
            function_memo: Vec::new(),
            location_memo: Vec::new(),
            mapping_ids: IdIndex::default(),
            function_ids: IdIndex::default(),
            location_ids: IdIndex::default(),
        }
    }

    /// Forgets the profile before and learns the ids of this one.
    pub(crate) fn start(&mut self, columns: &Columns, n_strings: usize) {
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
        for (memo, n) in [
            (&mut self.string_memo, n_strings),
            (&mut self.mapping_memo, columns.mappings.len()),
            (&mut self.function_memo, columns.functions.len()),
            (&mut self.location_memo, columns.locations.len()),
        ] {
            memo.clear();
            memo.resize(n, UNSEEN);
        }
        self.mapping_ids
            .learn(columns.mappings.iter().map(|m| m.id), self.seed);
        self.function_ids
            .learn(columns.functions.iter().map(|f| f.id), self.seed);
        self.location_ids
            .learn(columns.locations.iter().map(|l| l.id), self.seed);
    }

    /// Memory held, in bytes, roughly.
    pub(crate) fn held_bytes(&self) -> usize {
        let tables = [
            &self.strings,
            &self.mappings,
            &self.functions,
            &self.locations,
        ];
        let memos = [
            &self.string_memo,
            &self.mapping_memo,
            &self.function_memo,
            &self.location_memo,
        ];
        tables.iter().map(|t| t.capacity() * 5).sum::<usize>()
            + self.stacks.capacity() * 9
            + memos.iter().map(|m| m.capacity() * 4).sum::<usize>()
            + self.mapping_ids.held_bytes()
            + self.function_ids.held_bytes()
            + self.location_ids.held_bytes()
    }

    /// The index in the part of a text that is not one of the raw profile's strings.
    pub(crate) fn text(&mut self, part: &mut Part, text: &str) -> u32 {
        let text = text.as_bytes();
        intern_text(&mut self.strings, &self.hash, &mut part.strings, text)
    }

    /// The index in the part of a string of the raw profile, all of which have been checked to be
    /// UTF-8.
    pub(crate) fn string(&mut self, part: &mut Part, raw: &RawProfile<'_>, at: u32) -> u32 {
        match self.string_memo.get(at as usize) {
            Some(&known) if known != UNSEEN => return known,
            Some(_) => {}
            None => return 0,
        }
        let text = raw.text(at);
        let moved = intern_text(&mut self.strings, &self.hash, &mut part.strings, text);
        self.string_memo[at as usize] = moved;
        moved
    }

    /// Moves a stacktrace given as the raw profile's frames, leaf first; its index.
    ///
    /// # Errors
    /// One of its locations is broken. The part may then hold locations that nothing uses.
    #[inline]
    pub(crate) fn stack(
        &mut self,
        part: &mut Part,
        raw: &RawProfile<'_>,
        stack: &[u32],
    ) -> Result<u32, BrokenReference> {
        let start = part.frames.len();
        let mut hash = self.fold.start();
        for &frame in stack {
            let location = match self.location(part, raw, raw.location_id(frame)) {
                Ok(location) => location,
                Err(broken) => {
                    part.frames.truncate(start);
                    return Err(broken);
                }
            };
            hash = self.fold.add(hash, u64::from(location));
            part.frames.push(location);
        }
        Ok(self.seal_stack(part, start, hash))
    }

    /// Makes the frames from `start` on a stacktrace, or finds the one they repeat.
    fn seal_stack(&mut self, part: &mut Part, start: usize, hash: u64) -> u32 {
        let (frames, ends) = (&part.frames, &part.stack_ends);
        let check = (hash >> 32) as u32;
        let same = |&(stack, known): &(u32, u32)| {
            known == check && frames[span(ends, stack)] == frames[start..]
        };
        if let Some(&(stack, _)) = self.stacks.find(hash, same) {
            part.frames.truncate(start);
            return stack;
        }
        let stack = ends.len() as u32;
        make_room(&mut part.stack_ends, 1);
        part.stack_ends.push(part.frames.len() as u32);
        let (frames, ends, fold) = (&part.frames, &part.stack_ends, &self.fold);
        self.stacks
            .insert_unique(hash, (stack, check), |&(stack, _)| {
                let again = frames[span(ends, stack)].iter();
                again.fold(fold.start(), |hash, &f| fold.add(hash, u64::from(f)))
            });
        stack
    }

    #[inline]
    fn location(
        &mut self,
        part: &mut Part,
        raw: &RawProfile<'_>,
        id: u64,
    ) -> Result<u32, BrokenReference> {
        let at = self.location_ids.find(id).ok_or(BrokenReference)?;
        match self.location_memo[at] {
            BROKEN => Err(BrokenReference),
            UNSEEN => {
                let moved = self.move_location(part, raw, at);
                self.location_memo[at] = moved.unwrap_or(BROKEN);
                moved.ok_or(BrokenReference)
            }
            known => Ok(known),
        }
    }

    fn move_location(&mut self, part: &mut Part, raw: &RawProfile<'_>, at: usize) -> Option<u32> {
        let row = raw.columns.locations[at];
        let lines = raw.lines_of(at);
        if lines.is_empty() && row.address == 0 {
            return None;
        }
        let mapping = self.mapping(part, raw, row.mapping);
        let is_symbolised = match part.mappings.get(mapping as usize) {
            Some(mapping) => mapping.flags & mapping_flags::HAS_FUNCTIONS != 0,
            None => true,
        };
        // With its lines known, where the loader put the code only keeps equal frames apart.
        let address = if is_symbolised && !lines.is_empty() {
            0
        } else {
            row.address
        };
        let start = part.lines.len();
        let mut hash = self.fold.add(self.fold.start(), u64::from(mapping));
        hash = self.fold.add(hash, address);
        for line in lines {
            let Some(function) = self.function(part, raw, line.function) else {
                part.lines.truncate(start);
                return None;
            };
            hash = self.fold.add(hash, u64::from(function));
            hash = self.fold.add(hash, line.line as u64);
            part.lines.push(Line {
                function,
                line: line.line,
            });
        }
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
        let same = |&at: &u32| {
            part.location_mapping[at as usize] == mapping
                && part.location_address[at as usize] == address
                && part.lines[span(&part.location_lines_end, at)] == part.lines[start..]
        };
        if let Some(&at) = self.locations.find(hash, same) {
            part.lines.truncate(start);
            return at;
        }
        let at = part.location_mapping.len() as u32;
        make_room(&mut part.location_mapping, 1);
        make_room(&mut part.location_address, 1);
        make_room(&mut part.location_lines_end, 1);
        part.location_mapping.push(mapping);
        part.location_address.push(address);
        part.location_lines_end.push(part.lines.len() as u32);
        let (part, fold) = (&*part, &self.fold);
        self.locations
            .insert_unique(hash, at, |&at| location_hash(fold, part, at));
        at
    }

    /// [`NONE`] for id 0 and for a mapping that is not there.
    fn mapping(&mut self, part: &mut Part, raw: &RawProfile<'_>, id: u64) -> u32 {
        if id == 0 {
            return NONE;
        }
        let Some(at) = self.mapping_ids.find(id) else {
            return NONE;
        };
        if self.mapping_memo[at] != UNSEEN {
            return self.mapping_memo[at];
        }
        let row = raw.columns.mappings[at];
        let is_symbolised = row.flags & mapping_flags::HAS_FUNCTIONS != 0;
        let kept = |place: u64| if is_symbolised { 0 } else { place };
        let mapping = Mapping {
            start: kept(row.start),
            limit: kept(row.limit),
            offset: kept(row.offset),
            filename: self.string(part, raw, row.filename),
            build_id: self.string(part, raw, row.build_id),
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
                rows.push(mapping);
                self.mappings
                    .insert_unique(hash, new, |&at| mapping_hash(fold, &rows[at as usize]));
                new
            }
        };
        self.mapping_memo[at] = moved;
        moved
    }

    fn function(&mut self, part: &mut Part, raw: &RawProfile<'_>, id: u64) -> Option<u32> {
        let at = self.function_ids.find(id)?;
        if self.function_memo[at] != UNSEEN {
            return Some(self.function_memo[at]);
        }
        let RawFunction {
            name,
            system_name,
            filename,
            start_line,
            ..
        } = raw.columns.functions[at];
        let function = Function {
            name: self.string(part, raw, name),
            system_name: self.string(part, raw, system_name),
            filename: self.string(part, raw, filename),
            start_line,
        };
        let fold = &self.fold;
        let hash = function_hash(fold, &function);
        let rows = &mut part.functions;
        let same = |&at: &u32| rows[at as usize] == function;
        let moved = match self.functions.find(hash, same) {
            Some(&known) => known,
            None => {
                let new = rows.len() as u32;
                rows.push(function);
                self.functions
                    .insert_unique(hash, new, |&at| function_hash(fold, &rows[at as usize]));
                new
            }
        };
        self.function_memo[at] = moved;
        Some(moved)
    }
}

/// What entry `at` of a column of ends covers.
pub(crate) fn span(ends: &[u32], at: u32) -> std::ops::Range<usize> {
    let start = match at.checked_sub(1) {
        Some(before) => ends[before as usize] as usize,
        None => 0,
    };
    start..ends[at as usize] as usize
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
    let mut hash = fold.add(fold.start(), u64::from(part.location_mapping[at as usize]));
    hash = fold.add(hash, part.location_address[at as usize]);
    for line in &part.lines[span(&part.location_lines_end, at)] {
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

/// Finds the row that a sender's id names. Of rows with one id, the last counts.
#[derive(Debug, Default)]
pub(crate) struct IdIndex {
    /// Set if the ids are 1, 2, 3, …: the number of rows.
    n_dense: usize,
    rows: Vec<u32>,
    sparse: HashMap<u64, u32, FixedState>,
}

impl IdIndex {
    pub(crate) fn learn(&mut self, ids: impl ExactSizeIterator<Item = u64> + Clone, seed: u64) {
        self.n_dense = 0;
        self.rows.clear();
        self.sparse.clear();
        let n = ids.len();
        if ids.clone().zip(1u64..).all(|(id, expected)| id == expected) {
            self.n_dense = n;
            return;
        }
        let max = ids.clone().max().unwrap_or_default();
        if max <= n as u64 * SPARSE {
            self.rows.resize(max as usize + 1, UNSEEN);
            for (at, id) in ids.enumerate() {
                self.rows[id as usize] = at as u32;
            }
            return;
        }
        if self.sparse.is_empty() {
            self.sparse = HashMap::with_hasher(FixedState::with_seed(seed));
        }
        for (at, id) in ids.enumerate() {
            self.sparse.insert(id, at as u32);
        }
    }

    #[inline]
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        if self.n_dense != 0 {
            let at = id.wrapping_sub(1);
            return (at < self.n_dense as u64).then_some(at as usize);
        }
        self.find_scattered(id)
    }

    fn find_scattered(&self, id: u64) -> Option<usize> {
        if self.rows.is_empty() {
            return self.sparse.get(&id).map(|&at| at as usize);
        }
        let row = self.rows.get(usize::try_from(id).ok()?)?;
        (*row != UNSEEN).then_some(*row as usize)
    }

    fn held_bytes(&self) -> usize {
        self.rows.capacity() * 4 + self.sparse.capacity() * 17
    }
}
