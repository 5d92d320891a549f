//! Rows of numbers, which are fast, or a column for each of the numbers once there are many, as rows
//! take several times what the numbers do.
//!
//! # Invariants
//! - There are either rows or columns.
//! - Which of the two there are is nobody else's business, but for who writes them.
//!
//! # What it must not know
//! What the rows are of.

use std::borrow::Cow;
use std::fmt::Debug;

use super::{Number, Packed, WHOLE_BYTES};

/// A row of numbers that can be taken apart.
pub trait Row: Copy + PartialEq {
    type Cells: Cells;

    fn cells(self) -> Self::Cells;
    fn of(cells: Self::Cells) -> Self;
}

/// The numbers of a row, as a tuple, and their columns.
pub trait Cells: Copy {
    type Columns: Debug + Default + Clone;

    /// Of these rows.
    fn columns(rows: impl ExactSizeIterator<Item = Self> + Clone) -> Self::Columns;
    fn len(columns: &Self::Columns) -> usize;
    fn capacity(columns: &Self::Columns) -> usize;
    fn get(columns: &Self::Columns, at: usize) -> Self;
    fn set(self, columns: &mut Self::Columns, at: usize);
    fn push(self, columns: &mut Self::Columns);
    fn truncate(columns: &mut Self::Columns, n: usize);
    fn has_room(columns: &Self::Columns, more: usize) -> bool;
    fn reserve(columns: &mut Self::Columns, more: usize);
    fn reserve_exact(columns: &mut Self::Columns, more: usize);
    /// Makes room for exactly `more` rows of which no number takes more bytes than that of this.
    fn reserve_up_to(self, columns: &mut Self::Columns, more: usize);
    fn shrink_to_fit(columns: &mut Self::Columns);
    /// Of each row.
    fn width(columns: &Self::Columns) -> usize;
    fn narrowed_bytes(columns: &Self::Columns) -> usize;
    fn held_bytes(columns: &Self::Columns) -> usize;
}

macro_rules! cells {
    ($($cell:ident $at:tt),*) => {
        impl<$($cell: Number),*> Cells for ($($cell,)*) {
            type Columns = ($(Packed<$cell>,)*);

            fn columns(rows: impl ExactSizeIterator<Item = Self> + Clone) -> Self::Columns {
                ($(Packed::narrowest(rows.clone().map(|row| row.$at)),)*)
            }

            fn len(columns: &Self::Columns) -> usize {
                columns.0.len()
            }

            fn capacity(columns: &Self::Columns) -> usize {
                usize::MAX $(.min(columns.$at.capacity()))*
            }

            fn get(columns: &Self::Columns, at: usize) -> Self {
                ($(columns.$at.get(at),)*)
            }

            fn set(self, columns: &mut Self::Columns, at: usize) {
                $(columns.$at.set(at, self.$at);)*
            }

            fn push(self, columns: &mut Self::Columns) {
                $(columns.$at.push(self.$at);)*
            }

            fn truncate(columns: &mut Self::Columns, n: usize) {
                $(columns.$at.truncate(n);)*
            }

            fn has_room(columns: &Self::Columns, more: usize) -> bool {
                true $(&& columns.$at.has_room(more))*
            }

            fn reserve(columns: &mut Self::Columns, more: usize) {
                $(columns.$at.reserve(more);)*
            }

            fn reserve_exact(columns: &mut Self::Columns, more: usize) {
                $(columns.$at.reserve_exact(more);)*
            }

            fn reserve_up_to(self, columns: &mut Self::Columns, more: usize) {
                $(columns.$at.reserve_narrow(more, self.$at);)*
            }

            fn shrink_to_fit(columns: &mut Self::Columns) {
                $(columns.$at.shrink_to_fit();)*
            }

            fn width(columns: &Self::Columns) -> usize {
                0 $(+ columns.$at.width())*
            }

            fn narrowed_bytes(columns: &Self::Columns) -> usize {
                0 $(+ columns.$at.narrowed_bytes())*
            }

            fn held_bytes(columns: &Self::Columns) -> usize {
                0 $(+ columns.$at.held_bytes())*
            }
        }
    };
}

cells!(A 0, B 1);
cells!(A 0, B 1, C 2);
cells!(A 0, B 1, C 2, D 3);
cells!(A 0, B 1, C 2, D 3, E 4);

/// The columns of a kind of row.
pub type ColumnsOf<R> = <<R as Row>::Cells as Cells>::Columns;

/// See the module page. Whichever of the two there are, the other is empty, so that a row is looked
/// for without asking.
#[derive(Debug, Clone)]
pub struct Rows<R: Row> {
    rows: Vec<R>,
    columns: ColumnsOf<R>,
    is_narrow: bool,
}

impl<R: Row> Default for Rows<R> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            columns: ColumnsOf::<R>::default(),
            is_narrow: false,
        }
    }
}

impl<R: Row> Rows<R> {
    /// More rows are kept as columns.
    pub const ROWS_MAX: usize = WHOLE_BYTES / size_of::<R>();

    #[inline]
    pub fn len(&self) -> usize {
        match self.is_narrow {
            true => R::Cells::len(&self.columns),
            false => self.rows.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        match self.is_narrow {
            true => R::Cells::capacity(&self.columns),
            false => self.rows.capacity(),
        }
    }

    /// The columns, made of the rows where there are rows.
    pub fn columns(&self) -> Cow<'_, ColumnsOf<R>> {
        match self.is_narrow {
            true => Cow::Borrowed(&self.columns),
            false => Cow::Owned(R::Cells::columns(self.rows.iter().map(|row| row.cells()))),
        }
    }

    /// The row at `at`, which must be inside.
    #[inline]
    pub fn get(&self, at: usize) -> R {
        match self.rows.get(at) {
            Some(row) => *row,
            None => self.get_narrow(at),
        }
    }

    /// One number of the row at `at`, which must be inside: where it is in a row, and which column
    /// it is in.
    #[inline]
    pub fn cell<T: Number>(
        &self,
        at: usize,
        in_row: impl FnOnce(&R) -> T,
        column: impl FnOnce(&ColumnsOf<R>) -> &Packed<T>,
    ) -> T {
        match self.rows.get(at) {
            Some(row) => in_row(row),
            None => column(&self.columns).get(at),
        }
    }

    #[inline(never)]
    fn get_narrow(&self, at: usize) -> R {
        R::of(R::Cells::get(&self.columns, at))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = R> + Clone {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Puts another row in the place of the one at `at`, which must be inside.
    pub fn set(&mut self, at: usize, row: R) {
        match self.rows.get_mut(at) {
            Some(place) => *place = row,
            None => row.cells().set(&mut self.columns, at),
        }
    }

    #[inline]
    pub fn push(&mut self, row: R) {
        if !self.is_narrow && self.rows.len() < Self::ROWS_MAX {
            return self.rows.push(row);
        }
        self.push_narrow(row);
    }

    #[inline(never)]
    fn push_narrow(&mut self, row: R) {
        self.make_narrow();
        row.cells().push(&mut self.columns);
    }

    fn make_narrow(&mut self) {
        if self.is_narrow {
            return;
        }
        self.is_narrow = true;
        let rows = std::mem::take(&mut self.rows);
        // Of no rows it is not known how narrow they will be.
        if !rows.is_empty() {
            self.columns = R::Cells::columns(rows.iter().map(|row| row.cells()));
        }
    }

    /// Whether there is room for `more` rows as they are.
    #[inline]
    pub fn has_room(&self, more: usize) -> bool {
        match self.is_narrow {
            true => R::Cells::has_room(&self.columns, more),
            false => self.rows.capacity() - self.rows.len() >= more,
        }
    }

    /// Makes room for `more` rows, and for some after them.
    pub fn reserve(&mut self, more: usize) {
        match self.stays_rows(more) {
            true => self.rows.reserve(more),
            false => R::Cells::reserve(&mut self.columns, more),
        }
    }

    /// Makes room for exactly `more` rows, if there is less.
    pub fn reserve_exact(&mut self, more: usize) {
        match self.stays_rows(more) {
            true => self.rows.reserve_exact(more),
            false => R::Cells::reserve_exact(&mut self.columns, more),
        }
    }

    /// Makes room for exactly `more` rows, no number of which takes more bytes than that of `most`,
    /// which is only asked if there are many: what comes then moves nothing.
    pub fn reserve_up_to(&mut self, more: usize, most: impl FnOnce() -> R) {
        match self.stays_rows(more) {
            true => self.rows.reserve_exact(more),
            false => most().cells().reserve_up_to(&mut self.columns, more),
        }
    }

    /// Whether they are few with `more` too; else they are columns then.
    fn stays_rows(&mut self, more: usize) -> bool {
        if self.rows.len() + more > Self::ROWS_MAX {
            self.make_narrow();
        }
        !self.is_narrow
    }

    pub fn truncate(&mut self, n: usize) {
        self.rows.truncate(n);
        R::Cells::truncate(&mut self.columns, n);
    }

    /// Takes the rows out; their memory stays, that of columns does not.
    pub fn clear(&mut self) {
        self.rows.clear();
        if self.is_narrow {
            *self = Self::default();
        }
    }

    pub fn shrink_to_fit(&mut self) {
        self.rows.shrink_to_fit();
        R::Cells::shrink_to_fit(&mut self.columns);
    }

    /// What the rows take, in bytes.
    pub fn bytes(&self) -> usize {
        match self.is_narrow {
            true => self.len() * R::Cells::width(&self.columns),
            false => size_of_val(&self.rows[..]),
        }
    }

    /// By how much the columns could grow if a row of large numbers came.
    pub fn narrowed_bytes(&self) -> usize {
        R::Cells::narrowed_bytes(&self.columns)
    }

    /// Memory held, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<R>() + R::Cells::held_bytes(&self.columns)
    }
}

/// Equal rows, whatever they are kept as.
impl<R: Row> PartialEq for Rows<R> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<R: Row + Eq> Eq for Rows<R> {}

impl<R: Row> Extend<R> for Rows<R> {
    fn extend<I: IntoIterator<Item = R>>(&mut self, rows: I) {
        rows.into_iter().for_each(|row| self.push(row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Told {
        a: u32,
        b: i64,
    }

    impl Row for Told {
        type Cells = (u32, i64);

        fn cells(self) -> (u32, i64) {
            (self.a, self.b)
        }

        fn of((a, b): (u32, i64)) -> Self {
            Self { a, b }
        }
    }

    const MANY: u32 = 3 * Rows::<Told>::ROWS_MAX as u32;

    fn told(at: u32) -> Told {
        Told {
            a: at * 30,
            b: -i64::from(at),
        }
    }

    #[test]
    fn rows_and_columns_hold_the_same() {
        let mut rows = Rows::default();
        for at in 0..MANY {
            rows.push(told(at));
            assert_eq!(rows.is_narrow, at as usize >= Rows::<Told>::ROWS_MAX);
        }
        assert_eq!((rows.len(), rows.rows.capacity()), (MANY as usize, 0));
        assert!(rows.iter().eq((0..MANY).map(told)));
        for n in [2, MANY] {
            rows.clear();
            assert!(rows.is_empty());
            rows.reserve_up_to(n as usize, || told(n));
            let held = rows.held_bytes();
            rows.extend((0..n).map(told));
            assert!(rows.iter().eq((0..n).map(told)), "{n}");
            assert_eq!(rows.held_bytes(), held, "{n} had room");
            let third = rows.cell(1, |row| row.b, |columns| &columns.1);
            assert_eq!(third, told(1).b);
            let (a, b) = &*rows.columns();
            assert!(a.iter().eq((0..n).map(|at| told(at).a)));
            assert!(b.iter().eq((0..n).map(|at| told(at).b)));
            rows.set(1, told(1 << 20));
            assert_eq!((rows.get(0), rows.get(1)), (told(0), told(1 << 20)));
            rows.truncate(1);
            assert!(rows.iter().eq([told(0)]));
        }
    }

    #[test]
    fn what_has_room_does_not_move_whenever_it_becomes_columns() {
        let few = Rows::<Told>::ROWS_MAX as u32;
        for (first, more) in [(0, few), (0, few + 1), (few, 1), (5, few), (MANY, MANY)] {
            for exact in [true, false] {
                let mut rows = Rows::default();
                rows.extend((0..first).map(told));
                match exact {
                    true => rows.reserve_exact(more as usize),
                    false => rows.reserve(more as usize),
                }
                assert!(rows.has_room(more as usize), "{first} {more}");
                assert!(rows.capacity() >= (first + more) as usize);
                let columns = rows.is_narrow;
                rows.extend((first..first + more).map(|_| told(0)));
                assert_eq!(
                    (rows.is_narrow, rows.len()),
                    (columns, (first + more) as usize)
                );
                assert!(rows.iter().take(first as usize).eq((0..first).map(told)));
            }
        }
    }

    #[test]
    fn rows_are_equal_to_columns_of_the_same() {
        let (mut rows, mut columns) = (Rows::default(), Rows::default());
        rows.extend((0..9).map(told));
        columns.reserve_up_to(MANY as usize, || told(MANY));
        columns.extend((0..9).map(told));
        assert!(columns.is_narrow && !rows.is_narrow);
        assert_eq!(rows, columns);
        columns.set(8, told(7));
        assert_ne!(rows, columns);
        columns.truncate(0);
        columns.extend((0..9).map(told));
        assert_eq!(rows, columns);
    }

    #[test]
    fn what_grew_gives_back_and_says_what_it_holds() {
        for n in [2, MANY] {
            let mut rows = Rows::default();
            rows.extend((0..n).map(told));
            let grown = rows.held_bytes();
            rows.shrink_to_fit();
            let (each, held) = (rows.bytes() / n as usize, rows.held_bytes());
            assert!(held <= grown && rows.bytes() <= held);
            assert!((5..=size_of::<Told>()).contains(&each), "{each}");
        }
    }
}
