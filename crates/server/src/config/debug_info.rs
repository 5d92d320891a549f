//! Section `debug_info`: executables that agents upload because profiles of theirs lack symbols.

use serde::{Deserialize, Serialize};

use super::units::ByteSize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DebugInfoConfig {
    /// Largest executable. It goes to the object store as it arrives and takes 16 MiB of memory at
    /// most, whatever its size. 0 means no limit.
    pub max_upload_size: ByteSize,
}

impl Default for DebugInfoConfig {
    fn default() -> Self {
        Self {
            max_upload_size: ByteSize(1 << 30),
        }
    }
}
