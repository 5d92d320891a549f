//! The two clocks that code at the rim may ask, as one trait so that a simulation can hold them.

use std::fmt::Debug;
use std::time::Duration;

use crate::Timestamp;

/// Where the time comes from. Pure code never sees one: it takes `now` as an argument.
pub trait Clock: Send + Sync + Debug {
    /// Wall-clock time; may jump.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start that never runs backwards.
    fn monotonic(&self) -> Duration;
}
