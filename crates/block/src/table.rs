//! The tables of a block, and which of the two sample tables a profile type belongs to.

use std::fmt;
use std::str::FromStr;

use scoria_model::ProfileType;

/// A table of a block: one ordinary Parquet file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// One row per series: its labels.
    Series = 0,
    /// One row per profile and type.
    Profiles = 1,
    /// Samples of types that count over an interval (CPU time, waits).
    Samples = 2,
    /// Samples of types that come from a look at the state of a process: all that heap and
    /// goroutine profiles hold.
    Snapshots = 3,
    /// The stack tree in pre-order.
    Stacks = 4,
    Locations = 5,
    Functions = 6,
    Mappings = 7,
    /// Sorted, each once per dataset.
    Strings = 8,
    /// One row per bucket of a roll-up: what it stands for and how many samples it has.
    Rollups = 9,
    /// Samples of all profiles of five minutes, added up.
    Rollup5m = 10,
    /// Samples of all profiles of an hour, added up.
    Rollup1h = 11,
}

/// A table name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no table of a block; the tables are {}", Table::ALL.map(Table::name).join(", "))]
pub struct TableNameError {
    pub name: String,
}

impl Table {
    pub const COUNT: usize = 12;

    /// Every table, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Series,
        Self::Profiles,
        Self::Samples,
        Self::Snapshots,
        Self::Stacks,
        Self::Locations,
        Self::Functions,
        Self::Mappings,
        Self::Strings,
        Self::Rollups,
        Self::Rollup5m,
        Self::Rollup1h,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Profiles => "profiles",
            Self::Samples => "samples",
            Self::Snapshots => "snapshots",
            Self::Stacks => "stacks",
            Self::Locations => "locations",
            Self::Functions => "functions",
            Self::Mappings => "mappings",
            Self::Strings => "strings",
            Self::Rollups => "rollups",
            Self::Rollup5m => "rollup_5m",
            Self::Rollup1h => "rollup_1h",
        }
    }

    /// The last segment of the object's path.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Series => "series.parquet",
            Self::Profiles => "profiles.parquet",
            Self::Samples => "samples.parquet",
            Self::Snapshots => "snapshots.parquet",
            Self::Stacks => "stacks.parquet",
            Self::Locations => "locations.parquet",
            Self::Functions => "functions.parquet",
            Self::Mappings => "mappings.parquet",
            Self::Strings => "strings.parquet",
            Self::Rollups => "rollups.parquet",
            Self::Rollup5m => "rollup_5m.parquet",
            Self::Rollup1h => "rollup_1h.parquet",
        }
    }

    /// Its place in [`Table::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether its rows are samples, by stack rank.
    pub const fn has_samples(self) -> bool {
        matches!(
            self,
            Self::Samples | Self::Snapshots | Self::Rollup5m | Self::Rollup1h
        )
    }

    /// Whether it says again, added up, what other tables say.
    pub const fn is_rollup(self) -> bool {
        matches!(self, Self::Rollups | Self::Rollup5m | Self::Rollup1h)
    }

    /// The sample table of a profile type: [`Table::Snapshots`] for types that come from a look at
    /// the state of a process, [`Table::Samples`] for all others. The values of the former are wide
    /// and repeat from profile to profile, those of the latter are a few multiples of a period, and
    /// one Parquet column has one encoding. How values of a type add up over time is no matter of
    /// its table.
    ///
    /// The answer is part of the format: a released version never answers differently.
    pub fn of_kind(kind: &ProfileType) -> Self {
        let sample = kind.sample_type.as_ref();
        let begins = |text: &str, starts: &[&str]| starts.iter().any(|s| text.starts_with(s));
        let snapshot = begins(
            sample,
            &["inuse", "alloc", "live", "goroutine", "threadcreate"],
        ) || begins(&kind.name, &["goroutine", "threadcreate"]);
        if snapshot {
            Self::Snapshots
        } else {
            Self::Samples
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Table {
    type Err = TableNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|table| table.name() == name)
            .ok_or_else(|| TableNameError {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_table() {
        for (at, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table.index(), at);
            assert_eq!(table.name().parse(), Ok(table));
            assert_eq!(table.file_name(), format!("{table}.parquet"));
        }
        let refused = "rollup".parse::<Table>().unwrap_err();
        assert!(refused.to_string().contains("series, profiles, samples"));
    }

    #[test]
    fn the_sample_table_of_a_type_never_changes() {
        let tables = [
            (
                "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
                Table::Samples,
            ),
            ("process_cpu:samples:count:cpu:nanoseconds", Table::Samples),
            ("mutex:delay:nanoseconds:contentions:count", Table::Samples),
            ("block:contentions:count:contentions:count", Table::Samples),
            ("wall:wall:nanoseconds:wall:nanoseconds", Table::Samples),
            ("memory:alloc_space:bytes:space:bytes", Table::Snapshots),
            ("memory:inuse_objects:count:space:bytes", Table::Snapshots),
            ("memory:live:count:objects:count", Table::Snapshots),
            (
                "goroutine:goroutine:count:goroutine:count",
                Table::Snapshots,
            ),
            (
                "goroutines:goroutine:count:goroutine:count",
                Table::Snapshots,
            ),
            ("::::", Table::Samples),
        ];
        for (kind, table) in tables {
            let kind: ProfileType = kind.parse().unwrap();
            assert_eq!(Table::of_kind(&kind), table, "{kind}");
        }
    }
}
