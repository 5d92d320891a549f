//! Functions and lines of locations, a column for each of what they have.

use std::ops::Range;

use crate::Packed;

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

/// The functions of a part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Functions {
    pub names: Packed<u32>,
    pub system_names: Packed<u32>,
    pub filenames: Packed<u32>,
    pub start_lines: Packed<i64>,
}

impl Functions {
    pub const fn len(&self) -> usize {
        self.names.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    #[inline]
    pub fn push(&mut self, function: Function) {
        self.names.push(function.name);
        self.system_names.push(function.system_name);
        self.filenames.push(function.filename);
        self.start_lines.push(function.start_line);
    }

    /// The function at `at`; `None` outside.
    pub fn get(&self, at: usize) -> Option<Function> {
        (at < self.len()).then(|| Function {
            name: self.names.get(at),
            system_name: self.system_names.get(at),
            filename: self.filenames.get(at),
            start_line: self.start_lines.get(at),
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = Function> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Makes room for `more` functions with texts and lines of these widths.
    pub fn reserve(&mut self, more: usize, (text, line): (usize, usize)) {
        self.names.reserve_wide(more, text);
        self.system_names.reserve_wide(more, text);
        self.filenames.reserve_wide(more, text);
        self.start_lines.reserve_wide(more, line);
    }

    pub fn clear(&mut self) {
        self.names.clear();
        self.system_names.clear();
        self.filenames.clear();
        self.start_lines.clear();
    }

    /// Memory held, in bytes.
    pub const fn held_bytes(&self) -> usize {
        self.names.held_bytes()
            + self.system_names.held_bytes()
            + self.filenames.held_bytes()
            + self.start_lines.held_bytes()
    }

    pub(super) fn bytes(&self) -> usize {
        self.names.bytes().len()
            + self.system_names.bytes().len()
            + self.filenames.bytes().len()
            + self.start_lines.bytes().len()
    }
}

/// The lines of all locations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lines {
    pub functions: Packed<u32>,
    pub numbers: Packed<i64>,
}

impl Lines {
    pub const fn len(&self) -> usize {
        self.functions.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    #[inline]
    pub fn push(&mut self, line: Line) {
        self.functions.push(line.function);
        self.numbers.push(line.line);
    }

    /// The lines at these places, which must be inside.
    pub fn slice(&self, places: Range<usize>) -> impl ExactSizeIterator<Item = Line> {
        let functions = self.functions.slice(places.clone()).iter();
        let lines = functions.zip(self.numbers.slice(places));
        lines.map(|(function, line)| Line { function, line })
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Line> {
        self.slice(0..self.len())
    }

    /// Whether the lines at both places, which must be inside, are the same.
    pub fn are_equal(&self, a: Range<usize>, b: Range<usize>) -> bool {
        self.functions.slice(a.clone()) == self.functions.slice(b.clone())
            && self.numbers.slice(a) == self.numbers.slice(b)
    }

    /// Makes room for `more` lines with functions and numbers of these widths.
    pub fn reserve(&mut self, more: usize, (function, number): (usize, usize)) {
        self.functions.reserve_wide(more, function);
        self.numbers.reserve_wide(more, number);
    }

    pub fn truncate(&mut self, n: usize) {
        self.functions.truncate(n);
        self.numbers.truncate(n);
    }

    pub fn clear(&mut self) {
        self.functions.clear();
        self.numbers.clear();
    }

    /// Memory held, in bytes.
    pub const fn held_bytes(&self) -> usize {
        self.functions.held_bytes() + self.numbers.held_bytes()
    }

    pub(super) fn bytes(&self) -> usize {
        self.functions.bytes().len() + self.numbers.bytes().len()
    }
}

impl Extend<Line> for Lines {
    fn extend<I: IntoIterator<Item = Line>>(&mut self, lines: I) {
        lines.into_iter().for_each(|line| self.push(line));
    }
}
