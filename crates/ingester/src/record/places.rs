//! Which rows of a record are one profile.
//!
//! # Invariants
//! - Rows of one profile (its types, and the series that labels of its samples make) share a place.
//! - No two rows of a series and type do: with series, type and time a place names one row.

use std::collections::HashSet;

use foldhash::fast::FixedState;
use scoria_model::Timestamp;

use super::AppendedProfile;

/// Gives the rows of a record their places, in the order in which it tells them. Writer and reader
/// count alike.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// One past the last place.
    end: u32,
    /// The write that the last row came with, and its time.
    last: Option<(u32, Timestamp)>,
    /// Series and types at the last place.
    at_last: HashSet<(u32, u32), FixedState>,
}

impl Places {
    /// Rows of another dataset follow.
    pub(super) fn section(&mut self) {
        self.last = None;
    }

    /// The place of the next row.
    pub(super) fn of(&mut self, row: &AppendedProfile) -> u32 {
        let of = Some((row.part, row.time));
        let key = (row.series, row.kind);
        if self.last != of || self.at_last.contains(&key) {
            self.last = of;
            self.at_last.clear();
            self.end += 1;
        }
        self.at_last.insert(key);
        self.end - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(part: u32, time: i64, series: u32, kind: u32) -> AppendedProfile {
        AppendedProfile {
            part,
            time: Timestamp(time),
            series,
            kind,
            ..AppendedProfile::default()
        }
    }

    #[test]
    fn rows_of_one_profile_share_a_place_and_rows_of_a_series_do_not() {
        let mut places = Places::default();
        // Two types in two series, then the first series and type once more, another time, another
        // write, and the same write in another dataset.
        let rows = [
            (0, 5, 0, 0),
            (0, 5, 0, 1),
            (0, 5, 1, 0),
            (0, 5, 1, 1),
            (0, 5, 0, 0),
            (0, 5, 1, 0),
            (0, 6, 0, 0),
            (1, 6, 0, 0),
        ];
        let told = rows.map(|(part, time, series, kind)| places.of(&row(part, time, series, kind)));
        assert_eq!(told, [0, 0, 0, 0, 1, 1, 2, 3]);
        places.section();
        assert_eq!(places.of(&row(1, 6, 1, 0)), 4);
    }
}
