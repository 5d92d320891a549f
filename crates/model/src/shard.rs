//! Shards: into how many pieces the services of a tenant are divided.
//!
//! What one tenant stored in one block lives and ends by shard, so that a merge can take a part of
//! a large tenant and leave the rest to others.
//!
//! # Invariants
//! - The shard of a service is part of the format: a released version never answers differently.

use std::fmt;

/// How many shards a tenant has.
pub const SHARDS: u32 = 16;

/// Some shards of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ShardSet(u16);

impl ShardSet {
    pub const EMPTY: Self = Self(0);
    pub const ALL: Self = Self(u16::MAX);

    /// The shard of a service.
    pub fn of_service(service: &str) -> Self {
        let hash = xxhash_rust::xxh64::xxh64(service.as_bytes(), 0);
        Self(1 << (hash % u64::from(SHARDS)))
    }

    /// The set with these bits, the lowest being shard 0.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u16 {
        self.0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every shard of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the sets have a shard in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Each shard as a set of its own.
    pub fn iter(self) -> impl Iterator<Item = Self> {
        (0..SHARDS)
            .map(|shard| Self(1 << shard))
            .filter(move |shard| self.contains(*shard))
    }
}

impl fmt::Display for ShardSet {
    /// `0-15`, or the numbers with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return write!(f, "0-{}", SHARDS - 1);
        }
        let numbers: Vec<String> = self
            .iter()
            .map(|s| s.0.trailing_zeros().to_string())
            .collect();
        f.write_str(&numbers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_a_service_never_changes() {
        let shards = ["", "api", "checkout", "frontend"].map(ShardSet::of_service);
        assert_eq!(
            shards.map(|shard| shard.to_string()),
            ["9", "15", "13", "4"]
        );
    }

    #[test]
    fn sets() {
        let some = ShardSet::from_bits(0b101);
        assert_eq!(some.to_string(), "0,2");
        assert_eq!(some.iter().count(), 2);
        assert_eq!(ShardSet::ALL.iter().count(), 16);
        assert_eq!(ShardSet::ALL.without(some).union(some), ShardSet::ALL);
        assert!(ShardSet::ALL.contains(some) && !some.contains(ShardSet::ALL));
        assert!(ShardSet::EMPTY.is_empty() && !some.overlaps(ShardSet::from_bits(0b10)));
    }
}
