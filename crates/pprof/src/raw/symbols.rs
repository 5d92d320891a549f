//! Locations with their lines, and functions.

use scoria_model::Rows;
use scoria_model::packed::{Row, extent};

use crate::room::make_room;

/// A location without its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawLocation {
    pub id: u64,
    pub mapping: u64,
    pub address: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawLine {
    pub function: u64,
    pub line: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawFunction {
    pub id: u64,
    pub name: u32,
    pub system_name: u32,
    pub filename: u32,
    pub start_line: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LocationRow {
    location: RawLocation,
    /// One past its last line.
    lines_end: u32,
}

impl Row for LocationRow {
    type Cells = (u64, u64, u64, u32);

    #[inline]
    fn cells(self) -> Self::Cells {
        let RawLocation {
            id,
            mapping,
            address,
        } = self.location;
        (id, mapping, address, self.lines_end)
    }

    #[inline]
    fn of((id, mapping, address, lines_end): Self::Cells) -> Self {
        let location = RawLocation {
            id,
            mapping,
            address,
        };
        Self {
            location,
            lines_end,
        }
    }
}

impl Row for RawLine {
    type Cells = (u64, i64);

    #[inline]
    fn cells(self) -> Self::Cells {
        (self.function, self.line)
    }

    #[inline]
    fn of((function, line): Self::Cells) -> Self {
        Self { function, line }
    }
}

impl Row for RawFunction {
    type Cells = (u64, u32, u32, u32, i64);

    #[inline]
    fn cells(self) -> Self::Cells {
        (
            self.id,
            self.name,
            self.system_name,
            self.filename,
            self.start_line,
        )
    }

    #[inline]
    fn of((id, name, system_name, filename, start_line): Self::Cells) -> Self {
        Self {
            id,
            name,
            system_name,
            filename,
            start_line,
        }
    }
}

/// The locations of a profile.
#[derive(Debug, Default)]
pub struct Locations {
    rows: Rows<LocationRow>,
    lines: Rows<RawLine>,
}

/// The functions of a profile.
#[derive(Debug, Default)]
pub struct Functions(Rows<RawFunction>);

impl Locations {
    #[inline]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines of all locations.
    pub fn n_lines(&self) -> usize {
        self.lines.len()
    }

    /// The location at `at`, which must be inside.
    #[inline]
    pub fn get(&self, at: usize) -> RawLocation {
        self.rows.get(at).location
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RawLocation> + Clone {
        self.rows.iter().map(|row| row.location)
    }

    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = u64> + Clone {
        let id = |at| {
            self.rows
                .cell(at, |row| row.location.id, |columns| &columns.0)
        };
        (0..self.len()).map(id)
    }

    /// The lines of the location at `at`, which must be inside: the innermost inlined call first.
    #[inline]
    pub fn lines_of(
        &self,
        at: usize,
    ) -> impl ExactSizeIterator<Item = RawLine> + DoubleEndedIterator + Clone {
        let end = |at| {
            self.rows
                .cell(at, |row| row.lines_end, |columns| &columns.3)
        };
        let start = at.checked_sub(1).map_or(0, end);
        (start as usize..end(at) as usize).map(|at| self.lines.get(at))
    }

    /// What no address takes more bytes than.
    pub(crate) fn address_extent(&self) -> u64 {
        let address = |at| {
            self.rows
                .cell(at, |row| row.location.address, |columns| &columns.2)
        };
        extent((0..self.len()).map(address))
    }

    /// What no number of a line takes more bytes than.
    pub(crate) fn line_extent(&self) -> i64 {
        let line = |at| self.lines.cell(at, |line| line.line, |columns| &columns.1);
        extent((0..self.n_lines()).map(line))
    }

    /// Adds a line to the location that is added next.
    #[inline]
    pub(super) fn push_line(&mut self, line: RawLine) {
        self.lines.push(line);
    }

    /// Adds a location with the lines that were added since the one before.
    #[inline]
    pub(super) fn push(&mut self, location: RawLocation) {
        let lines_end = self.n_lines() as u32;
        self.rows.push(LocationRow {
            location,
            lines_end,
        });
    }

    /// Adds a location, whose id is the number of locations then; the id.
    pub(crate) fn add(&mut self, (mapping, address): (u64, u64), lines: &[RawLine]) -> u64 {
        make_room(&mut self.lines, lines.len());
        self.lines.extend(lines.iter().copied());
        let id = self.len() as u64 + 1;
        make_room(&mut self.rows, 1);
        self.push(RawLocation {
            id,
            mapping,
            address,
        });
        id
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.lines.clear();
    }

    pub(super) fn shrink(&mut self) {
        self.rows.shrink_to_fit();
        self.lines.shrink_to_fit();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.rows.held_bytes() + self.lines.held_bytes()
    }
}

impl Functions {
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The function at `at`, which must be inside.
    #[inline]
    pub fn get(&self, at: usize) -> RawFunction {
        self.0.get(at)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RawFunction> + Clone {
        self.0.iter()
    }

    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = u64> + Clone {
        let id = |at| {
            self.0
                .cell(at, |function| function.id, |columns| &columns.0)
        };
        (0..self.len()).map(id)
    }

    /// What no line that one starts at takes more bytes than.
    pub(crate) fn line_extent(&self) -> i64 {
        let line = |at| {
            self.0
                .cell(at, |function| function.start_line, |columns| &columns.4)
        };
        extent((0..self.len()).map(line))
    }

    pub(crate) fn set_name(&mut self, at: usize, name: u32) {
        let function = self.0.get(at);
        self.0.set(at, RawFunction { name, ..function });
    }

    pub(crate) fn set_id(&mut self, at: usize, id: u64) {
        let function = self.0.get(at);
        self.0.set(at, RawFunction { id, ..function });
    }

    #[inline]
    pub(super) fn push(&mut self, function: RawFunction) {
        self.0.push(function);
    }

    /// Adds a function, whose id is the number of functions then; the id.
    pub(crate) fn add(&mut self, function: RawFunction) -> u64 {
        let id = self.len() as u64 + 1;
        make_room(&mut self.0, 1);
        self.0.push(RawFunction { id, ..function });
        id
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.0.held_bytes()
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
            let n = 2 * Rows::<LocationRow>::ROWS_MAX as u64;
            for at in 0..n {
                let lines: Vec<RawLine> = (0..lines_each).map(|n| line(at + n)).collect();
                let id = locations.add((at % 3, at << 12), &lines);
                assert_eq!(id, at + 1);
            }
            assert!(locations.address_extent() < n << 13 && locations.line_extent() < 1 << 13);
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
        }
    }

    #[test]
    fn functions_are_the_same_as_rows_and_as_columns() {
        let mut functions = Functions::default();
        let n = 2 * Rows::<RawFunction>::ROWS_MAX;
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
        for (at, function) in (0_u32..).zip(functions.iter()) {
            let name = if at == 5 { 123_456 } else { at };
            let id = if at == 4 { 1 << 40 } else { u64::from(at) + 1 };
            assert_eq!((function.id, function.name), (id, name));
            assert_eq!(function.start_line, -i64::from(at));
            assert_eq!((function.system_name, function.filename), (at + 1, at / 7));
        }
    }
}
