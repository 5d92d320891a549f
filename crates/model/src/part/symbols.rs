//! Functions, and locations with their lines.

use crate::packed::Row;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Function {
    pub name: u32,
    pub system_name: u32,
    pub filename: u32,
    pub start_line: i64,
}

/// A location. Its lines start where those of the one before stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Location {
    /// Mapping index or [`NONE`](super::NONE).
    pub mapping: u32,
    pub address: u64,
    /// One past its last line.
    pub lines_end: u32,
}

/// One line of a location; the first line of a location is the innermost inlined call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub function: u32,
    pub line: i64,
}

impl Row for Function {
    type Cells = (u32, u32, u32, i64);

    #[inline]
    fn cells(self) -> Self::Cells {
        (self.name, self.system_name, self.filename, self.start_line)
    }

    #[inline]
    fn of((name, system_name, filename, start_line): Self::Cells) -> Self {
        Self {
            name,
            system_name,
            filename,
            start_line,
        }
    }
}

impl Row for Location {
    type Cells = (u32, u64, u32);

    #[inline]
    fn cells(self) -> Self::Cells {
        (self.mapping, self.address, self.lines_end)
    }

    #[inline]
    fn of((mapping, address, lines_end): Self::Cells) -> Self {
        Self {
            mapping,
            address,
            lines_end,
        }
    }
}

impl Row for Line {
    type Cells = (u32, i64);

    #[inline]
    fn cells(self) -> Self::Cells {
        (self.function, self.line)
    }

    #[inline]
    fn of((function, line): Self::Cells) -> Self {
        Self { function, line }
    }
}
