//! Section `runtime_config`: the file of limits by tenant, which is read again while the server runs.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::Span;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeFileConfig {
    /// YAML file with `overrides:`, a map of tenants to the limits that differ from section
    /// `limits` for them. Empty means that all tenants have the same limits.
    pub file: PathBuf,
    /// How often the file is looked at. One that has changed is taken over as a whole, or, if it
    /// cannot be read, not at all.
    pub period: Span,
}

impl Default for RuntimeFileConfig {
    fn default() -> Self {
        Self {
            file: PathBuf::new(),
            period: Span(Duration::from_secs(10)),
        }
    }
}
