//! Section `distributor`: what the role that takes profiles in remembers.

use serde::{Deserialize, Serialize};

use super::units::ByteSize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DistributorConfig {
    /// Memory for what all tenants can read at `/api/v1/tenant/rejections` about profiles that were
    /// not stored, or not whole.
    pub rejections: ByteSize,
    /// The share of one tenant in it.
    pub rejections_of_tenant: ByteSize,
}

impl Default for DistributorConfig {
    fn default() -> Self {
        Self {
            rejections: ByteSize(8 << 20),
            rejections_of_tenant: ByteSize(64 << 10),
        }
    }
}
