//! Section `self_profiling`: the server as its own client.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::Span;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelfProfilingConfig {
    /// Whether the server takes CPU profiles of itself and pushes them to its own listener.
    pub enabled: bool,
    /// Length of one profile.
    pub interval: Span,
    /// Samples per second of CPU time.
    pub frequency_hz: u32,
    /// Label `service_name` of the profiles.
    pub service_name: String,
    /// Tenant of the profiles while multi-tenancy is on.
    pub tenant: String,
}

impl Default for SelfProfilingConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: Span(Duration::from_secs(10)),
            frequency_hz: 100,
            service_name: "scoria".to_owned(),
            tenant: "anonymous".to_owned(),
        }
    }
}
