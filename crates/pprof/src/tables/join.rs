//! A part that profiles share, which came together and speak of the same symbols.
//!
//! The profiles of an export have one dictionary. An entry of it is moved into the part when the
//! first profile uses it; what uses it after that finds it by its place in the dictionary.
//!
//! # Invariants
//! - An entry is moved once, and once more for profiles that need its names shortened. Where
//!   neighbours have different notes of their source, what is in mappings is looked up again.
//! - Nothing is done to the whole dictionary but once, however many profiles there are.
//! - Every string, mapping, function, location and stacktrace stands in the part once.
//! - A profile that is refused leaves no rows behind, only symbols that nothing uses.
//!
//! # What it must not know
//! Where the symbols come from, and what repairs do.

use scoria_model::part::{Function, Line, Location, NONE, Part, ProfileRow, RowCounts, Write};

use super::memo::{Memo, Memos};
use super::{Repairs, Stacks, Tables};
use crate::otlp::Export;
use crate::room::Room;

/// What no number of a line is larger than, mostly.
const LINE_MAX: i64 = i16::MAX as i64;
/// Room is made for a row of each profile and for so many of its labels.
const LABELS_OF_EACH: usize = 16;

/// The part that profiles are added to, by [`crate::Normaliser::normalise_into`].
#[derive(Debug)]
pub struct Joined {
    part: Part,
    /// Finds what the part holds.
    tables: Tables,
    /// Where entries went with their names short, or else as they are: what the tables do not do at
    /// the moment.
    other_names: Memos,
    room: Room,
    is_begun: bool,
}

impl Joined {
    /// `seed` is secret to the process, so that no sender can provoke hash collisions. `room` is
    /// made when the first profile comes.
    pub fn new(seed: u64, room: Room) -> Self {
        Self {
            part: Part::default(),
            tables: Tables::new(seed),
            other_names: Memos::default(),
            room,
            is_begun: false,
        }
    }

    /// What has been added.
    pub const fn part(&self) -> &Part {
        &self.part
    }

    /// Memory held, in bytes, roughly.
    pub fn held_bytes(&self) -> usize {
        self.part.held_bytes() + self.tables.held_bytes() + self.other_names.held_bytes()
    }

    /// What the first profile of `export` makes room for, at most.
    pub fn room_bytes(&self, export: &Export<'_>) -> usize {
        if self.is_begun {
            return 0;
        }
        let (room, counts) = (self.room, export.counts());
        let each = LABELS_OF_EACH * 8 + 4 + size_of::<ProfileRow>() + size_of::<Write>();
        let memos =
            counts.strings + counts.mappings + counts.functions + counts.locations + counts.stacks;
        room.bytes() + memos * Memo::EACH_BYTES + room.profiles * each
    }

    /// Bytes of the part, encoded.
    pub fn encoded_bytes(&self) -> usize {
        self.part.encoded_bytes()
    }

    pub fn into_part(self) -> Part {
        self.part
    }

    /// The part and what finds its content, ready for a profile of these symbols, which are the
    /// same for every profile of the part, and repairs.
    pub(crate) fn begin(
        &mut self,
        from: &dyn Stacks,
        repairs: Repairs,
    ) -> (&mut Part, &mut Tables) {
        let tables = &mut self.tables;
        if tables.repairs.short_names != repairs.short_names {
            std::mem::swap(&mut tables.memos, &mut self.other_names);
        }
        if tables.repairs.note != repairs.note {
            tables.end_notes(&mut self.other_names);
        }
        tables.repairs = repairs;
        let counts = from.counts();
        tables.memos.fit(counts);
        if !self.is_begun {
            self.is_begun = true;
            tables.string_memo.fit(counts.strings);
            tables.mapping_ids.count_up_to(counts.mappings);
            tables.function_ids.count_up_to(counts.functions);
            tables.location_ids.count_up_to(counts.locations);
            self.make_room();
        }
        (&mut self.part, &mut self.tables)
    }

    /// The part and what finds its content, for a profile whose stacktraces are there.
    pub(crate) const fn open(&mut self) -> (&mut Part, &mut Tables) {
        (&mut self.part, &mut self.tables)
    }

    /// Forgets the rows of a profile that is refused.
    pub(crate) fn take_back(&mut self, rows: &RowCounts) {
        self.part.truncate_rows(rows);
    }

    /// For all that is expected.
    fn make_room(&mut self) {
        let (room, part, tables) = (self.room, &mut self.part, &mut self.tables);
        let n = room.profiles;
        reserve(&mut part.series_ends, n);
        reserve(&mut part.profiles, n);
        reserve(&mut part.writes, n);
        // Empty, so that nothing is hashed anew.
        tables.strings.reserve(room.strings, |_| 0);
        tables.functions.reserve(room.functions, |_| 0);
        tables.locations.reserve(room.locations, |_| 0);
        tables.stacks.reserve(room.stacks, |_| 0);
        reserve(&mut part.strings.ends, room.strings);
        // And some for labels.
        reserve(&mut part.strings.bytes, room.text + room.text / 16);
        // The part is new: there is nothing else.
        part.functions.reserve_up_to(room.functions, || Function {
            name: room.strings as u32,
            system_name: room.strings as u32,
            filename: room.strings as u32,
            start_line: 0,
        });
        let n_lines = room.locations;
        part.locations.reserve_up_to(room.locations, || Location {
            mapping: NONE,
            // With its lines known, an address is left out.
            address: 0,
            lines_end: n_lines as u32,
        });
        part.lines.reserve_up_to(n_lines, || Line {
            function: room.functions as u32,
            line: LINE_MAX,
        });
        part.stack_ends
            .reserve_up_to(room.stacks, room.frames as u32);
        part.frames.reserve_up_to(room.frames, room.frame_max);
    }
}

/// Makes room for `n` entries in all.
fn reserve<T>(vec: &mut Vec<T>, n: usize) {
    vec.reserve_exact(n.saturating_sub(vec.len()));
}
