//! Section `ingester`: when what is in memory becomes a block.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{ByteSize, Span};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngesterConfig {
    /// Name of this process among the ingesters that share an object store; letters, digits and
    /// dashes.
    pub node: String,
    /// Oldest that a profile in memory grows before all are written to a block.
    pub cut_age: Span,
    /// Log size at which all profiles in memory are written to a block; it bounds how long a start
    /// after a crash takes.
    pub cut_log_size: ByteSize,
    /// Memory for what queries worked out of the symbols of profiles in memory, for the next ones;
    /// at most an eighth of the heads' share is taken.
    pub function_tree_cache: ByteSize,
}

impl Default for IngesterConfig {
    fn default() -> Self {
        Self {
            node: "local".to_owned(),
            cut_age: Span(Duration::from_secs(15 * 60)),
            cut_log_size: ByteSize(256 << 20),
            function_tree_cache: ByteSize(64 << 20),
        }
    }
}
