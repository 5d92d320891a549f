//! Locations with their lines, and functions: rows, which are fast, or columns once there are many,
//! as rows take several times what the message does.
//!
//! # Invariants
//! - There are either rows or columns.

use scoria_model::Packed;
use scoria_model::packed::WHOLE_BYTES;

use crate::room::make_room;

/// A location without its lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawLocation {
    pub id: u64,
    pub mapping: u64,
    pub address: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct RawLine {
    pub function: u64,
    pub line: i64,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct RawFunction {
    pub id: u64,
    pub name: u32,
    pub system_name: u32,
    pub filename: u32,
    pub start_line: i64,
}

/// A location, and one past its last line.
type LocationRow = (RawLocation, u32);

/// More locations, lines or functions are kept as columns.
const LOCATION_ROWS_MAX: usize = WHOLE_BYTES / size_of::<LocationRow>();
const LINE_ROWS_MAX: usize = WHOLE_BYTES / size_of::<RawLine>();
const FUNCTION_ROWS_MAX: usize = WHOLE_BYTES / size_of::<RawFunction>();

/// The locations of a profile.
#[derive(Debug, Default)]
pub struct Locations {
    rows: Vec<LocationRow>,
    line_rows: Vec<RawLine>,
    is_narrow: bool,
    ids: Packed<u64>,
    mappings: Packed<u64>,
    addresses: Packed<u64>,
    lines_end: Packed<u32>,
    line_functions: Packed<u64>,
    line_numbers: Packed<i64>,
}

/// The functions of a profile.
#[derive(Debug, Default)]
pub struct Functions {
    rows: Vec<RawFunction>,
    is_narrow: bool,
    ids: Packed<u64>,
    names: Packed<u32>,
    system_names: Packed<u32>,
    filenames: Packed<u32>,
    start_lines: Packed<i64>,
}

impl Locations {
    pub const fn len(&self) -> usize {
        match self.is_narrow {
            true => self.ids.len(),
            false => self.rows.len(),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines of all locations.
    pub const fn n_lines(&self) -> usize {
        match self.is_narrow {
            true => self.line_functions.len(),
            false => self.line_rows.len(),
        }
    }

    /// The location at `at`, which must be inside.
    #[inline]
    pub fn get(&self, at: usize) -> RawLocation {
        match self.rows.get(at) {
            Some((location, _)) => *location,
            None => RawLocation {
                id: self.ids.get(at),
                mapping: self.mappings.get(at),
                address: self.addresses.get(at),
            },
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RawLocation> + Clone {
        (0..self.len()).map(|at| self.get(at))
    }

    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = u64> + Clone {
        (0..self.len()).map(|at| match self.rows.get(at) {
            Some((location, _)) => location.id,
            None => self.ids.get(at),
        })
    }

    /// The lines of the location at `at`, which must be inside: the innermost inlined call first.
    #[inline]
    pub fn lines_of(
        &self,
        at: usize,
    ) -> impl ExactSizeIterator<Item = RawLine> + DoubleEndedIterator + Clone {
        let places = match self.rows.get(at) {
            Some(&(_, end)) => {
                let before = at.checked_sub(1).and_then(|at| self.rows.get(at));
                before.map_or(0, |&(_, end)| end as usize)..end as usize
            }
            None => self.lines_end.as_slice().span(at),
        };
        places.map(|at| self.line(at))
    }

    #[inline]
    fn line(&self, at: usize) -> RawLine {
        match self.line_rows.get(at) {
            Some(line) => *line,
            None => RawLine {
                function: self.line_functions.get(at),
                line: self.line_numbers.get(at),
            },
        }
    }

    /// Bytes of an address.
    pub(crate) const fn address_width(&self) -> usize {
        self.addresses.width()
    }

    /// Bytes of the number of a line.
    pub(crate) const fn line_width(&self) -> usize {
        self.line_numbers.width()
    }

    /// Adds a line to the location that is added next.
    #[inline]
    pub(super) fn push_line(&mut self, line: RawLine) {
        if !self.is_narrow && self.line_rows.len() < LINE_ROWS_MAX {
            return self.line_rows.push(line);
        }
        if !self.is_narrow {
            self.make_narrow();
        }
        self.push_line_columns(line);
    }

    /// Adds a location with the lines that were added since the one before.
    #[inline]
    pub(super) fn push(&mut self, location: RawLocation) {
        let end = self.n_lines() as u32;
        if !self.is_narrow && self.rows.len() < LOCATION_ROWS_MAX {
            return self.rows.push((location, end));
        }
        if !self.is_narrow {
            self.make_narrow();
        }
        self.push_columns((location, end));
    }

    /// Adds a location, whose id is the number of locations then; the id.
    pub(crate) fn add(&mut self, (mapping, address): (u64, u64), lines: &[RawLine]) -> u64 {
        if self.is_narrow {
            make_room(&mut self.line_functions, lines.len());
            make_room(&mut self.line_numbers, lines.len());
            make_room(&mut self.ids, 1);
            make_room(&mut self.mappings, 1);
            make_room(&mut self.addresses, 1);
            make_room(&mut self.lines_end, 1);
        }
        lines.iter().for_each(|&line| self.push_line(line));
        let id = self.len() as u64 + 1;
        self.push(RawLocation {
            id,
            mapping,
            address,
        });
        id
    }

    fn push_line_columns(&mut self, line: RawLine) {
        self.line_functions.push(line.function);
        self.line_numbers.push(line.line);
    }

    fn push_columns(&mut self, (location, lines_end): LocationRow) {
        self.ids.push(location.id);
        self.mappings.push(location.mapping);
        self.addresses.push(location.address);
        self.lines_end.push(lines_end);
    }

    #[cold]
    fn make_narrow(&mut self) {
        self.is_narrow = true;
        for row in std::mem::take(&mut self.rows) {
            self.push_columns(row);
        }
        for line in std::mem::take(&mut self.line_rows) {
            self.push_line_columns(line);
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.line_rows.clear();
        self.is_narrow = false;
        self.ids.clear();
        self.mappings.clear();
        self.addresses.clear();
        self.lines_end.clear();
        self.line_functions.clear();
        self.line_numbers.clear();
    }

    pub(super) fn shrink(&mut self) {
        self.rows.shrink_to_fit();
        self.line_rows.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.mappings.shrink_to_fit();
        self.addresses.shrink_to_fit();
        self.lines_end.shrink_to_fit();
        self.line_functions.shrink_to_fit();
        self.line_numbers.shrink_to_fit();
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<LocationRow>()
            + self.line_rows.capacity() * size_of::<RawLine>()
            + self.ids.held_bytes()
            + self.mappings.held_bytes()
            + self.addresses.held_bytes()
            + self.lines_end.held_bytes()
            + self.line_functions.held_bytes()
            + self.line_numbers.held_bytes()
    }
}

impl Functions {
    pub const fn len(&self) -> usize {
        match self.is_narrow {
            true => self.ids.len(),
            false => self.rows.len(),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The function at `at`, which must be inside.
    #[inline]
    pub fn get(&self, at: usize) -> RawFunction {
        match self.rows.get(at) {
            Some(row) => *row,
            None => RawFunction {
                id: self.ids.get(at),
                name: self.names.get(at),
                system_name: self.system_names.get(at),
                filename: self.filenames.get(at),
                start_line: self.start_lines.get(at),
            },
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RawFunction> + Clone {
        (0..self.len()).map(|at| self.get(at))
    }

    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = u64> + Clone {
        self.iter().map(|function| function.id)
    }

    /// Bytes of the line that one starts at.
    pub(crate) const fn line_width(&self) -> usize {
        self.start_lines.width()
    }

    pub(crate) fn set_name(&mut self, at: usize, name: u32) {
        match self.rows.get_mut(at) {
            Some(row) => row.name = name,
            None => self.names.set(at, name),
        }
    }

    pub(crate) fn set_id(&mut self, at: usize, id: u64) {
        match self.rows.get_mut(at) {
            Some(row) => row.id = id,
            None => self.ids.set(at, id),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, function: RawFunction) {
        if !self.is_narrow && self.rows.len() < FUNCTION_ROWS_MAX {
            return self.rows.push(function);
        }
        if !self.is_narrow {
            self.make_narrow();
        }
        self.push_columns(function);
    }

    /// Adds a function, whose id is the number of functions then; the id.
    pub(crate) fn add(&mut self, function: RawFunction) -> u64 {
        if self.is_narrow {
            make_room(&mut self.ids, 1);
            make_room(&mut self.names, 1);
            make_room(&mut self.system_names, 1);
            make_room(&mut self.filenames, 1);
            make_room(&mut self.start_lines, 1);
        }
        let id = self.len() as u64 + 1;
        self.push(RawFunction { id, ..function });
        id
    }

    fn push_columns(&mut self, function: RawFunction) {
        self.ids.push(function.id);
        self.names.push(function.name);
        self.system_names.push(function.system_name);
        self.filenames.push(function.filename);
        self.start_lines.push(function.start_line);
    }

    #[cold]
    fn make_narrow(&mut self) {
        self.is_narrow = true;
        for row in std::mem::take(&mut self.rows) {
            self.push_columns(row);
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.is_narrow = false;
        self.ids.clear();
        self.names.clear();
        self.system_names.clear();
        self.filenames.clear();
        self.start_lines.clear();
    }

    pub(super) fn shrink(&mut self) {
        self.rows.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.names.shrink_to_fit();
        self.system_names.shrink_to_fit();
        self.filenames.shrink_to_fit();
        self.start_lines.shrink_to_fit();
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<RawFunction>()
            + self.ids.held_bytes()
            + self.names.held_bytes()
            + self.system_names.held_bytes()
            + self.filenames.held_bytes()
            + self.start_lines.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64) -> RawLine {
        RawLine {
            function: at % 700,
            line: at as i64 - 3,
        }
    }

    #[test]
    fn locations_are_the_same_as_rows_and_as_columns() {
        // Lines get too many first, or locations do.
        for lines_each in [3_u64, 1] {
            let mut locations = Locations::default();
            let n = 2 * LOCATION_ROWS_MAX as u64;
            for at in 0..n {
                let lines: Vec<RawLine> = (0..lines_each).map(|n| line(at + n)).collect();
                let id = locations.add((at % 3, at << 12), &lines);
                assert_eq!(id, at + 1);
            }
            assert!(locations.is_narrow && locations.rows.is_empty());
            assert!(locations.line_rows.is_empty());
            assert_eq!(locations.n_lines() as u64, n * lines_each);
            assert!(locations.ids().eq(1..=n));
            for (at, location) in (0..).zip(locations.iter()) {
                assert_eq!((location.mapping, location.address), (at % 3, at << 12));
                let lines = locations.lines_of(at as usize);
                let lines = lines.map(|line| (line.function, line.line));
                let expected = (0..lines_each).map(|n| line(at + n));
                assert!(lines.eq(expected.map(|line| (line.function, line.line))));
            }
            locations.clear();
            assert_eq!((locations.len(), locations.n_lines()), (0, 0));
            assert!(!locations.is_narrow);
        }
    }

    #[test]
    fn functions_are_the_same_as_rows_and_as_columns() {
        let mut functions = Functions::default();
        let n = 2 * FUNCTION_ROWS_MAX;
        for at in 0..n as u32 {
            functions.add(RawFunction {
                id: 0,
                name: at,
                system_name: at + 1,
                filename: at / 7,
                start_line: -i64::from(at),
            });
            if [5, n as u32 - 1].contains(&at) {
                functions.set_name(5, 123_456);
                functions.set_id(4, 1 << 40);
            }
        }
        assert!(functions.is_narrow && functions.rows.is_empty());
        for (at, function) in (0_u32..).zip(functions.iter()) {
            let name = if at == 5 { 123_456 } else { at };
            let id = if at == 4 { 1 << 40 } else { u64::from(at) + 1 };
            assert_eq!((function.id, function.name), (id, name));
            assert_eq!(function.start_line, -i64::from(at));
            assert_eq!((function.system_name, function.filename), (at + 1, at / 7));
        }
    }
}
