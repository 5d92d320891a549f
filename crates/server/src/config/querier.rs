//! Section `querier`: how many queries run at a time, and what they keep for the next ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{ByteSize, Span};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuerierConfig {
    /// Queries that read at the same time; 0 takes four for each core but one.
    pub running_max: usize,
    /// Queries that wait for their turn, over all tenants; more are refused.
    pub waiting_max: usize,
    /// How long a query waits for its turn before it is refused.
    pub wait_max: Span,
    /// How far the threads of queries stand below the rest of the process, as `nice` counts it; 19
    /// is the most there is.
    pub niceness: u8,
    /// Cores that the threads of queries never run on, so that profiles that come in find one free;
    /// one is always left for queries.
    pub cores_left: usize,
    /// Decoded footers, profile rows and symbols that are kept; at most a twelfth of memory.limit.
    pub decoded_cache: ByteSize,
    /// Answers of single datasets that are kept; at most a twelfth of memory.limit.
    pub result_cache: ByteSize,
}

impl Default for QuerierConfig {
    fn default() -> Self {
        Self {
            running_max: 0,
            waiting_max: 1000,
            wait_max: Span(Duration::from_secs(10)),
            niceness: 5,
            cores_left: 1,
            decoded_cache: ByteSize(128 << 20),
            result_cache: ByteSize(64 << 20),
        }
    }
}
