//! Doubles of ambiguous writes: a write whose answer was lost is sent again, maybe to another
//! ingester, whose log knows nothing of the first copy. Both are acknowledged; one counts (D2).
//!
//! # Invariants
//! - Of the records of one dataset with the same key that arrived within [`WINDOW_NS`] of one that
//!   counts, none counts. A write of that key which comes later is a new one, as it is for the log.
//! - A record of a dataset counts with all its rows or with none.
//! - The answer follows from the records alone, not from the order of inputs.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::ProfileRows;

/// For how long a resend is recognised, as in the log.
const WINDOW_NS: i64 = 10 * 60 * 1_000_000_000;

/// A record that counts, with its map entry, roughly.
const RECORD_BYTES: u64 = 96;

/// One record: stream (as the output numbers it) and sequence number.
type Record = (u32, u64);

/// The writes that count of one dataset, over all outputs of one merge.
#[derive(Debug, Default)]
pub struct Resends {
    /// Arrival and record of those that count, by key.
    counted: HashMap<[u8; 16], Vec<(i64, Record)>>,
    records: u64,
}

impl Resends {
    /// Memory held.
    pub(super) const fn bytes(&self) -> u64 {
        self.records * RECORD_BYTES
    }

    /// Takes the rows of records that do not count out of `order`, and returns them.
    pub(super) fn take(&mut self, order: &mut Vec<u32>, rows: &ProfileRows) -> Vec<u32> {
        let doubles = self.doubles(order, rows);
        if doubles.is_empty() {
            return Vec::new();
        }
        let is_double = |&at: &u32| doubles.contains(&identity(rows, at));
        let (out, kept) = order.iter().partition(|at| is_double(at));
        *order = kept;
        out
    }

    fn doubles(&mut self, order: &[u32], rows: &ProfileRows) -> HashSet<([u8; 16], Record)> {
        let mut writes: Vec<([u8; 16], i64, Record)> = order
            .iter()
            .map(|&at| (rows.write_of(at as usize), at))
            .filter(|(write, _)| !write.is_none())
            .map(|(write, at)| (write.key, write.arrival_ns, identity(rows, at).1))
            .collect();
        writes.sort_unstable();
        writes.dedup();
        let mut doubles = HashSet::new();
        for (key, arrival, record) in writes {
            let counted = match self.counted.entry(key) {
                Entry::Occupied(counted) => counted.into_mut(),
                Entry::Vacant(slot) => slot.insert(Vec::new()),
            };
            let near = |&(other, _): &(i64, Record)| arrival.abs_diff(other) < WINDOW_NS as u64;
            if counted.iter().any(|(_, other)| *other == record) {
                continue;
            }
            if counted.iter().any(near) {
                doubles.insert((key, record));
            } else {
                counted.push((arrival, record));
                self.records += 1;
            }
        }
        doubles
    }
}

fn identity(rows: &ProfileRows, at: u32) -> ([u8; 16], Record) {
    let at = at as usize;
    (rows.write_of(at).key, (rows.stream[at], rows.seq[at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProfileRow, WriteKey};

    const SECOND: i64 = 1_000_000_000;

    fn row(key: u8, arrival_s: i64, (stream, seq): Record, place: u32) -> ProfileRow {
        ProfileRow {
            stream,
            seq,
            place,
            write: WriteKey {
                key: [key; 16],
                arrival_ns: arrival_s * SECOND,
            },
            ..ProfileRow::default()
        }
    }

    fn taken(resends: &mut Resends, rows: &[ProfileRow]) -> Vec<u32> {
        let rows: ProfileRows = rows.iter().copied().collect();
        let mut order: Vec<u32> = (0..rows.len() as u32).rev().collect();
        let mut out = resends.take(&mut order, &rows);
        assert!(!order.iter().any(|at| out.contains(at)));
        assert_eq!(order.len() + out.len(), rows.len());
        out.sort_unstable();
        out
    }

    #[test]
    fn d2_of_two_records_of_a_write_the_first_to_arrive_counts_with_all_its_rows() {
        let rows = [
            row(1, 20, (0, 7), 0),
            row(1, 20, (0, 7), 1),
            row(1, 10, (1, 3), 0),
            row(1, 10, (1, 3), 1),
            // Another part of the same record, and one that has no key.
            row(2, 20, (0, 7), 2),
            row(0, 20, (0, 8), 0),
            row(0, 20, (1, 8), 0),
        ];
        assert_eq!(taken(&mut Resends::default(), &rows), [0, 1]);
    }

    #[test]
    fn a_write_of_the_same_key_ten_minutes_later_is_a_new_one() {
        let rows = [
            row(1, 0, (0, 1), 0),
            row(1, 599, (1, 1), 0),
            row(1, 600, (2, 1), 0),
            row(1, 1100, (3, 1), 0),
        ];
        assert_eq!(taken(&mut Resends::default(), &rows), [1, 3]);
    }

    #[test]
    fn what_counted_in_one_output_is_known_in_the_next() {
        let mut resends = Resends::default();
        assert!(taken(&mut resends, &[row(1, 50, (0, 1), 0)]).is_empty());
        let later = [row(1, 50, (0, 1), 3), row(1, 40, (1, 1), 0)];
        assert_eq!(taken(&mut resends, &later), [1]);
        assert_eq!(resends.bytes(), RECORD_BYTES);
    }
}
