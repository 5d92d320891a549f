//! What the events of one kind add up to, by stacktrace and tag.
//!
//! # Invariants
//! - Events of the same stacktrace and tag are one row once the rows are settled, and at most as
//!   many rows again as there are distinct ones are held before.
//! - Sums are checked.
//!
//! # What it must not know
//! What is counted.

use super::allowance::Allowance;
use super::error::JfrError;

/// How often, and how much of it altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amount {
    pub(crate) count: i64,
    /// Bytes or nanoseconds; unused where only the count is asked for.
    pub(crate) sum: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) tag: u32,
    pub(crate) stack: u32,
    pub(crate) amount: Amount,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: Vec<Row>,
}

impl Rows {
    pub(crate) fn add(&mut self, row: Row, allowance: &Allowance) -> Result<(), JfrError> {
        let capacity = self.rows.capacity();
        if self.rows.len() == capacity {
            allowance.step(capacity as u64, 0)?;
            self.settle()?;
            if self.rows.len() > capacity / 2 || capacity == 0 {
                let n = capacity + 1 - self.rows.len();
                allowance.reserve(&mut self.rows, n)?;
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// Makes rows of the same stacktrace and tag one, in the order of the tags.
    pub(crate) fn settle(&mut self) -> Result<(), JfrError> {
        self.rows.sort_unstable_by_key(|row| (row.tag, row.stack));
        let mut fits = true;
        self.rows.dedup_by(|row, kept| {
            let same = (row.tag, row.stack) == (kept.tag, kept.stack);
            if same {
                match (
                    kept.amount.count.checked_add(row.amount.count),
                    kept.amount.sum.checked_add(row.amount.sum),
                ) {
                    (Some(count), Some(sum)) => kept.amount = Amount { count, sum },
                    _ => fits = false,
                }
            }
            same
        });
        if fits {
            Ok(())
        } else {
            Err(JfrError::Overflow)
        }
    }

    pub(crate) fn as_slice(&self) -> &[Row] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tag: u32, stack: u32, count: i64, sum: i64) -> Row {
        let amount = Amount { count, sum };
        Row { tag, stack, amount }
    }

    #[test]
    fn equal_rows_are_added_and_take_no_room() {
        let allowance = Allowance::of_test(1 << 20);
        let mut rows = Rows::default();
        for at in 0..100_000 {
            let row = row(at % 3, at % 2, 1, i64::from(at));
            rows.add(row, &allowance).unwrap();
        }
        rows.settle().unwrap();
        assert!(rows.rows.capacity() < 50, "{}", rows.rows.capacity());
        assert_eq!(rows.as_slice().len(), 6);
        let sums = rows.as_slice().iter().map(|row| row.amount);
        let (count, sum) = sums.fold((0, 0), |(c, s), a| (c + a.count, s + a.sum));
        assert_eq!((count, sum), (100_000, 99_999 * 50_000));
    }

    #[test]
    fn sums_that_do_not_fit() {
        let allowance = Allowance::of_test(0);
        let mut rows = Rows::default();
        rows.add(row(0, 0, 1, i64::MAX), &allowance).unwrap();
        rows.add(row(0, 0, 1, 1), &allowance).unwrap();
        assert_eq!(rows.settle(), Err(JfrError::Overflow));
    }
}
