//! Section `storage`: where profiles lie.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::ByteSize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageConfig {
    /// Directory of what this process keeps on its own disk: the log of profiles that are not in a
    /// block yet, and the object store unless `url` says otherwise.
    pub data_dir: PathBuf,
    /// The object store: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
    /// `file:///path` or `memory:` (gone when the process ends). Empty takes `store` inside the
    /// data directory. Section `store` says how to reach the first three.
    pub url: String,
    /// Memory for pages of blocks that were read lately.
    pub cache: ByteSize,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            url: String::new(),
            cache: ByteSize(128 << 20),
        }
    }
}
