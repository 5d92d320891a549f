//! Points in time and ranges of it.

use std::fmt;

/// Nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Milliseconds, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns", self.0)
    }
}

/// A query's range in milliseconds, **inclusive at both ends**: a profile at `t` is inside when
/// `start_ms * 10^6 <= t_ns <= end_ms * 10^6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    pub start_ms: i64,
    pub end_ms: i64,
}

impl TimeRange {
    /// Everything.
    pub const ALL: Self = Self {
        start_ms: i64::MIN,
        end_ms: i64::MAX,
    };

    pub const fn start_ns(self) -> i64 {
        self.start_ms.saturating_mul(1_000_000)
    }

    pub const fn end_ns(self) -> i64 {
        self.end_ms.saturating_mul(1_000_000)
    }

    pub const fn contains(self, t: Timestamp) -> bool {
        self.start_ns() <= t.0 && t.0 <= self.end_ns()
    }

    /// Whether any instant of `first..=last` lies inside.
    pub const fn overlaps(self, first: Timestamp, last: Timestamp) -> bool {
        self.start_ns() <= last.0 && first.0 <= self.end_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        let range = TimeRange {
            start_ms: 1,
            end_ms: 2,
        };
        assert!(range.contains(Timestamp(1_000_000)));
        assert!(range.contains(Timestamp(2_000_000)));
        assert!(!range.contains(Timestamp(2_000_001)));
        assert!(TimeRange::ALL.contains(Timestamp(i64::MIN)));
    }

    #[test]
    fn millis_round_down_before_the_epoch_too() {
        assert_eq!(Timestamp(-1).millis(), -1);
        assert_eq!(Timestamp(1_999_999).millis(), 1);
    }
}
