//! Puts the parts of profiles that came together into one, in which they share their symbols.
//!
//! The profiles of an export speak of the same functions over and over; each one's part holds all
//! that it uses. Joined they take about what the export's own dictionary does.
//!
//! # Invariants
//! - What each write says of its series, types, times, samples and stacktraces is what its own part
//!   said, in the order in which the parts were added.
//! - Every string, mapping, function, location and stacktrace stands in the part once.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use scoria_model::part::{Function, Line, Mapping, NONE, Part, ProfileRow, Write};

use super::{Tables, function_hash, intern_text, location_hash, mapping_hash, span};
use crate::room::{Room, make_room};

/// Room is made for so many labels of each profile, and so many series and types, at most: what has
/// more grows into it.
const LABELS_OF_EACH: usize = 16;
const ROWS_OF_EACH: usize = 2;

/// The part that parts are added to.
#[derive(Debug)]
pub struct Joined {
    part: Part,
    /// Finds what the part holds; filled when a second part comes.
    tables: Tables,
    kinds: HashMap<[u32; 5], u32, FixedState>,
    is_indexed: bool,
    room: Room,
}

impl Joined {
    /// `seed` is secret to the process, so that no sender can provoke hash collisions. `room` is
    /// made when a second part comes.
    pub fn new(seed: u64, room: Room) -> Self {
        Self {
            room,
            part: Part::default(),
            tables: Tables::new(seed),
            kinds: HashMap::with_hasher(FixedState::with_seed(seed)),
            is_indexed: false,
        }
    }

    /// Adds the writes of a part. Gives it back if its content was copied, for its memory.
    pub fn add(&mut self, part: Part) -> Option<Part> {
        if self.part.writes.is_empty() {
            self.part = part;
            return None;
        }
        if !self.is_indexed {
            self.make_all_room();
            self.index();
            self.is_indexed = true;
        }
        self.copy(&part);
        Some(part)
    }

    /// Memory held, in bytes, roughly.
    pub fn held_bytes(&self) -> usize {
        self.part.held_bytes() + self.tables.held_bytes() + self.kinds.capacity() * 25
    }

    /// What adding a part takes beside the part, at most.
    pub fn room_bytes(&self) -> usize {
        let is_first = self.part.writes.is_empty() || self.is_indexed;
        if is_first {
            return 0;
        }
        let (labels, rows) = self.rows_of_each();
        let each = labels * 8 + rows * (size_of::<ProfileRow>() + 4) + size_of::<Write>();
        self.room.bytes() + self.room.profiles * each
    }

    /// Labels and rows that each profile to come probably has: as many as the first, within reason.
    fn rows_of_each(&self) -> (usize, usize) {
        let part = &self.part;
        (
            part.series_labels.len().min(LABELS_OF_EACH),
            part.profiles.len().min(ROWS_OF_EACH),
        )
    }

    /// Bytes of the part, encoded.
    pub fn encoded_bytes(&self) -> usize {
        self.part.encoded_bytes()
    }

    pub fn into_part(self) -> Part {
        self.part
    }

    /// Learns what the first part holds.
    fn index(&mut self) {
        let (part, tables) = (&self.part, &mut self.tables);
        let (hash, fold) = (&tables.hash, tables.fold);
        for at in 1..part.strings.len() as u32 {
            let text = |&at: &u32| std::hash::BuildHasher::hash_one(hash, part.strings.get(at));
            tables.strings.insert_unique(text(&at), at, text);
        }
        for at in 0..part.mappings.len() as u32 {
            let of = |&at: &u32| mapping_hash(&fold, &part.mappings[at as usize]);
            tables.mappings.insert_unique(of(&at), at, of);
        }
        for at in 0..part.functions.len() as u32 {
            let of = |&at: &u32| function_hash(&fold, &part.functions[at as usize]);
            tables.functions.insert_unique(of(&at), at, of);
        }
        for at in 0..part.location_mapping.len() as u32 {
            let of = |&at: &u32| location_hash(&fold, part, at);
            tables.locations.insert_unique(of(&at), at, of);
        }
        for at in 0..part.stack_ends.len() as u32 {
            let of = |at: u32| {
                let frames = part.frames[span(&part.stack_ends, at)].iter();
                frames.fold(fold.start(), |hash, &f| fold.add(hash, u64::from(f)))
            };
            let own = of(at);
            tables
                .stacks
                .insert_unique(own, (at, (own >> 32) as u32), |&(at, _)| of(at));
        }
        self.kinds.extend(part.types.iter().copied().zip(0..));
    }

    fn copy(&mut self, from: &Part) {
        self.make_room(from);
        let strings: Vec<u32> = (0..from.strings.len() as u32)
            .map(|at| {
                let Tables { strings, hash, .. } = &mut self.tables;
                intern_text(strings, hash, &mut self.part.strings, from.strings.get(at))
            })
            .collect();
        let text = |at: u32| strings[at as usize];
        let mappings: Vec<u32> = from
            .mappings
            .iter()
            .map(|m| self.mapping(m, text))
            .collect();
        let functions: Vec<u32> = from
            .functions
            .iter()
            .map(|f| self.function(f, text))
            .collect();
        let locations: Vec<u32> = (0..from.location_mapping.len() as u32)
            .map(|at| self.location(from, at, (&mappings, &functions)))
            .collect();
        let stacks: Vec<u32> = (0..from.stack_ends.len() as u32)
            .map(|at| self.stack(&from.frames[span(&from.stack_ends, at)], &locations))
            .collect();
        let n_series = self.part.series_ends.len() as u32;
        let n_labels = self.part.series_labels.len() as u32;
        let labels = from.series_labels.iter();
        self.part
            .series_labels
            .extend(labels.map(|&(name, value)| (text(name), text(value))));
        let ends = from.series_ends.iter();
        self.part.series_ends.extend(ends.map(|end| n_labels + end));
        let kinds: Vec<u32> = from
            .types
            .iter()
            .map(|kind| self.kind(kind.map(text)))
            .collect();
        self.profiles(from, n_series, &kinds);
        self.samples(from, &stacks);
    }

    /// For all that is expected.
    fn make_all_room(&mut self) {
        let (labels, rows) = self.rows_of_each();
        let n = self.room.profiles;
        reserve(&mut self.part.series_labels, n * labels);
        reserve(&mut self.part.series_ends, n * rows);
        reserve(&mut self.part.profiles, n * rows);
        reserve(&mut self.part.writes, n);
        let (room, part, tables) = (self.room, &mut self.part, &mut self.tables);
        // Empty, so that nothing is hashed anew.
        tables.strings.reserve(room.strings, |_| 0);
        tables.functions.reserve(room.functions, |_| 0);
        tables.locations.reserve(room.locations, |_| 0);
        tables.stacks.reserve(room.stacks, |_| 0);
        reserve(&mut part.strings.ends, room.strings);
        // And some for labels.
        reserve(&mut part.strings.bytes, room.text + room.text / 16);
        reserve(&mut part.functions, room.functions);
        reserve(&mut part.location_mapping, room.locations);
        reserve(&mut part.location_address, room.locations);
        reserve(&mut part.location_lines_end, room.locations);
        reserve(&mut part.lines, room.locations);
        reserve(&mut part.stack_ends, room.stacks);
        reserve(&mut part.frames, room.frames);
    }

    /// For what the part adds whatever there is already.
    fn make_room(&mut self, from: &Part) {
        let part = &mut self.part;
        make_room(&mut part.series_ends, from.series_ends.len());
        make_room(&mut part.series_labels, from.series_labels.len());
        make_room(&mut part.profiles, from.profiles.len());
        make_room(&mut part.sample_stack, from.sample_stack.len());
        make_room(&mut part.sample_value, from.sample_value.len());
    }

    fn mapping(&mut self, from: &Mapping, text: impl Fn(u32) -> u32) -> u32 {
        let mapping = Mapping {
            filename: text(from.filename),
            build_id: text(from.build_id),
            ..*from
        };
        let fold = self.tables.fold;
        let rows = &mut self.part.mappings;
        let hash = mapping_hash(&fold, &mapping);
        let table = &mut self.tables.mappings;
        if let Some(&known) = table.find(hash, |&at| rows[at as usize] == mapping) {
            return known;
        }
        let new = rows.len() as u32;
        rows.push(mapping);
        table.insert_unique(hash, new, |&at| mapping_hash(&fold, &rows[at as usize]));
        new
    }

    fn function(&mut self, from: &Function, text: impl Fn(u32) -> u32) -> u32 {
        let function = Function {
            name: text(from.name),
            system_name: text(from.system_name),
            filename: text(from.filename),
            ..*from
        };
        let fold = self.tables.fold;
        let rows = &mut self.part.functions;
        let hash = function_hash(&fold, &function);
        let table = &mut self.tables.functions;
        if let Some(&known) = table.find(hash, |&at| rows[at as usize] == function) {
            return known;
        }
        let new = rows.len() as u32;
        make_room(rows, 1);
        rows.push(function);
        table.insert_unique(hash, new, |&at| function_hash(&fold, &rows[at as usize]));
        new
    }

    fn location(&mut self, from: &Part, at: u32, (mappings, functions): (&[u32], &[u32])) -> u32 {
        let new = |ids: &[u32], id: u32| ids.get(id as usize).copied().unwrap_or(NONE);
        let mapping = new(mappings, from.location_mapping[at as usize]);
        let address = from.location_address[at as usize];
        let fold = self.tables.fold;
        let start = self.part.lines.len();
        let mut hash = fold.add(fold.start(), u64::from(mapping));
        hash = fold.add(hash, address);
        for line in &from.lines[span(&from.location_lines_end, at)] {
            let function = new(functions, line.function);
            hash = fold.add(hash, u64::from(function));
            hash = fold.add(hash, line.line as u64);
            make_room(&mut self.part.lines, 1);
            self.part.lines.push(Line {
                function,
                line: line.line,
            });
        }
        self.tables
            .seal_location(&mut self.part, start, (mapping, address), hash)
    }

    fn stack(&mut self, frames: &[u32], locations: &[u32]) -> u32 {
        let fold = self.tables.fold;
        make_room(&mut self.part.frames, frames.len());
        let start = self.part.frames.len();
        let mut hash = fold.start();
        for &frame in frames {
            let location = locations[frame as usize];
            hash = fold.add(hash, u64::from(location));
            self.part.frames.push(location);
        }
        self.tables.seal_stack(&mut self.part, start, hash)
    }

    fn kind(&mut self, kind: [u32; 5]) -> u32 {
        let types = &mut self.part.types;
        *self.kinds.entry(kind).or_insert_with(|| {
            types.push(kind);
            types.len() as u32 - 1
        })
    }

    fn profiles(&mut self, from: &Part, n_series: u32, kinds: &[u32]) {
        let n_profiles = self.part.profiles.len() as u32;
        let n_samples = self.part.sample_stack.len() as u32;
        let rows = from.profiles.iter().map(|row| ProfileRow {
            series: n_series + row.series,
            kind: kinds[row.kind as usize],
            samples_end: n_samples + row.samples_end,
            ..*row
        });
        self.part.profiles.extend(rows);
        let writes = from.writes.iter().map(|write| Write {
            profiles_end: n_profiles + write.profiles_end,
            ..*write
        });
        self.part.writes.extend(writes);
    }

    fn samples(&mut self, from: &Part, stacks: &[u32]) {
        let part = &mut self.part;
        let (before, n) = (part.sample_stack.len(), from.sample_stack.len());
        let moved = from
            .sample_stack
            .iter()
            .map(|&stack| stacks[stack as usize]);
        part.sample_stack.extend(moved);
        part.sample_value.extend_from_slice(&from.sample_value);
        append_ids(&mut part.sample_span, before, &from.sample_span, n);
        append_ids(&mut part.sample_trace, before, &from.sample_trace, n);
    }
}

/// Makes room for `n` entries in all.
fn reserve<T>(vec: &mut Vec<T>, n: usize) {
    vec.reserve_exact(n.saturating_sub(vec.len()));
}

/// Adds a column that is empty where no sample has any, else as long as its part's samples.
fn append_ids<T: Copy + Default>(into: &mut Vec<T>, before: usize, from: &[T], n: usize) {
    if into.is_empty() && from.is_empty() {
        return;
    }
    into.resize(before, T::default());
    into.extend_from_slice(from);
    into.resize(before + n, T::default());
}

#[cfg(test)]
mod tests {
    use scoria_model::part::PartView;
    use scoria_model::{Labels, RetryKey, Timestamp};

    use super::*;

    /// A part of one write, with two stacks over `functions`; the second has a span if asked for.
    fn part(key: u8, functions: [&str; 2], span: Option<u64>) -> Part {
        let mut part = Part::default();
        let file = part.strings.push("a.rs");
        part.mappings.push(Mapping {
            filename: file,
            ..Mapping::default()
        });
        for (at, name) in (0..).zip(functions) {
            let name = part.strings.push(name);
            part.functions.push(Function {
                name,
                system_name: name,
                filename: file,
                start_line: 1,
            });
            part.lines.push(Line {
                function: at,
                line: 7,
            });
            part.location_lines_end.push(at + 1);
            part.location_mapping.push([0, NONE][at as usize]);
            part.location_address.push(0);
        }
        part.frames = vec![0, 1, 1];
        part.stack_ends = vec![2, 3];
        let pod = format!("pod-{key}");
        let series = part.push_series(&Labels::from_pairs([("pod", &*pod)]));
        let kind = part.push_type(&"process_cpu:samples:count:cpu:nanoseconds".parse().unwrap());
        part.sample_stack = vec![0, 1];
        part.sample_value = vec![i64::from(key), 10];
        if let Some(span) = span {
            part.sample_span = vec![0, span];
        }
        part.profiles.push(ProfileRow {
            series,
            kind,
            time: Timestamp(i64::from(key)),
            duration_ns: 0,
            period: 1,
            samples_end: 2,
        });
        part.end_write(RetryKey([key; 16]));
        part
    }

    /// What each write says, in words.
    fn told(part: &Part) -> Vec<String> {
        let mut bytes = Vec::new();
        part.encode(&mut bytes);
        let view = PartView::parse(&bytes).unwrap();
        let frame = |at: usize| {
            let location = view.frame.get(at) as usize;
            let mapping = view.location_mapping.get(location);
            let lines = view.location_lines_end.span(location);
            let names = lines.map(|line| {
                let function = view.line_function.get(line) as usize;
                let name = view.string(view.function_name.get(function));
                format!("{name}:{}", view.line_number.get(line))
            });
            format!("{}@{}", names.collect::<String>(), mapping == NONE)
        };
        let sample = |at: usize| {
            let stack = view.stack_end.span(view.sample_stack.get(at) as usize);
            let frames: Vec<String> = stack.map(frame).collect();
            let value = view.sample_value.get_i64(at);
            format!("{} {value} {}", frames.join(";"), view.span(at))
        };
        let writes = view.keys().enumerate().flat_map(|(write, key)| {
            view.write_end.span(write).map(move |row| {
                let samples = view.profile_samples_end.span(row).map(sample);
                let samples: Vec<String> = samples.collect();
                let labels = view.series_labels(view.profile_series.get(row));
                let kind = view.profile_type(view.profile_kind.get(row));
                let time = view.profile_time.get(row);
                format!("{key:?} {labels} {kind} {time} {samples:?}")
            })
        });
        writes.collect()
    }

    #[test]
    fn joined_parts_say_what_each_one_said() {
        let parts = [
            part(1, ["main", "work"], None),
            part(2, ["work", "main"], Some(9)),
            part(3, ["main", "other"], None),
        ];
        let expected: Vec<String> = parts.iter().flat_map(told).collect();
        let mut joined = Joined::new(5, Room::default());
        let given_back = parts.map(|part| joined.add(part).is_some());
        assert_eq!(given_back, [false, true, true]);
        let joined = joined.into_part();
        assert_eq!(told(&joined), expected);
        // main and other with and without the mapping, work likewise.
        assert_eq!(joined.functions.len(), 3);
        assert_eq!(joined.location_mapping.len(), 5);
        assert_eq!((joined.mappings.len(), joined.types.len()), (1, 1));
    }

    #[test]
    fn equal_profiles_share_everything_but_their_rows() {
        let mut joined = Joined::new(5, Room::default());
        let one = part(1, ["main", "work"], None).encoded_bytes();
        for key in 1..=100 {
            joined.add(part(key, ["main", "work"], None));
        }
        let part = joined.into_part();
        assert_eq!(part.stack_ends.len(), 2);
        assert_eq!((part.writes.len(), part.profiles.len()), (100, 100));
        assert!(part.encoded_bytes() < 100 * one / 2);
    }
}
