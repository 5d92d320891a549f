//! Section `auth`: who a request belongs to.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// Whether requests name their tenant in the header `X-Scope-OrgID`. Off: the header is
    /// ignored and everything belongs to the tenant `anonymous`. On: a request without it is
    /// answered 401.
    pub multitenancy_enabled: bool,
}
