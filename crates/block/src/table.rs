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
    /// Samples of types that count over an interval (CPU time, allocations, waits).
    Samples = 2,
    /// Samples of types that show a moment (memory in use, goroutines).
    Snapshots = 3,
    /// The stack tree in pre-order.
    Stacks = 4,
    Locations = 5,
    Functions = 6,
    Mappings = 7,
    /// Sorted, each once per dataset.
    Strings = 8,
}

/// A table name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no table of a block; the tables are {}", Table::ALL.map(Table::name).join(", "))]
pub struct TableNameError {
    pub name: String,
}

impl Table {
    pub const COUNT: usize = 9;

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
        }
    }

    /// Its place in [`Table::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The sample table of a profile type: [`Table::Snapshots`] for types whose values show a
    /// moment, [`Table::Samples`] for all others. The two differ in how their values compress, and
    /// one Parquet column has one encoding.
    ///
    /// The answer is part of the format: a released version never answers differently.
    pub fn of_kind(kind: &ProfileType) -> Self {
        let sample = kind.sample_type.as_ref();
        let snapshot = sample.starts_with("inuse")
            || sample.starts_with("live")
            || sample.starts_with("goroutine")
            || sample.starts_with("threadcreate")
            || kind.name.starts_with("goroutine")
            || kind.name.starts_with("threadcreate");
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
