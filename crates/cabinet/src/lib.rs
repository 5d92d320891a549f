//! The cabinet: what tenants keep beside their profiles.
//!
//! ```text
//! server ──► Settings, RecordingRules ──► documents ─► object store
//! ```
//! - [`settings`]: names and values that Drilldown keeps.
//! - [`recording_rules`]: rules that will make metrics of profiles.
//!
//! # Invariants
//! - Everything is durable when a call returns, and no change is lost to another writer's.
//! - Each tenant's things are bounded in number and size; the error names the bound.
//! - R1: a tenant sees and changes its own things only.
//!
//! # What it must not know
//! Messages, headers, status codes, and the profiles that other roles store.

mod error;
pub mod recording_rules;
pub mod settings;

pub use error::{CabinetError, CabinetErrorKind};
pub use recording_rules::{RecordingRule, RecordingRules, RuleDraft};
pub use settings::{Setting, Settings};

use scoria_storage::Documents;

/// Everything that is kept, for all tenants.
#[derive(Debug, Clone)]
pub struct Cabinet {
    pub settings: Settings,
    pub recording_rules: RecordingRules,
}

impl Cabinet {
    pub fn new(documents: Documents) -> Self {
        Self {
            settings: Settings::new(documents.clone()),
            recording_rules: RecordingRules::new(documents),
        }
    }
}
