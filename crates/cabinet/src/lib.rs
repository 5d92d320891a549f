//! The cabinet: what tenants keep beside their profiles.
//!
//! ```text
//! server ──► Settings, RecordingRules ──► documents ─► object store
//!       └──► AdHocProfiles, DebugInfo ──► files ───────────┘
//! ```
//! - [`settings`]: names and values that Drilldown keeps.
//! - [`recording_rules`]: rules that will make metrics of profiles.
//! - [`adhoc`]: single profiles that somebody uploads to look at them.
//! - [`debug_info`]: executables whose symbols profiles lack.
//!
//! # Invariants
//! - Everything is durable when a call returns, and no change is lost to another writer's.
//! - Each tenant's things are bounded in number and size; the error names the bound.
//! - R1: a tenant sees and changes its own things only.
//!
//! # What it must not know
//! Messages, headers, status codes, and the profiles that other roles store.

pub mod adhoc;
pub mod debug_info;
mod error;
pub mod recording_rules;
pub mod settings;

pub use adhoc::{AdHocEntry, AdHocGraph, AdHocProfiles, AdHocView, Drawing};
pub use debug_info::{BuildId, DebugInfo, Executable, ExecutableUpload};
pub use error::{CabinetError, CabinetErrorKind};
pub use recording_rules::{RecordingRule, RecordingRules, RuleDraft};
pub use settings::{Setting, Settings};

use scoria_model::ByteBudget;
use scoria_storage::{Documents, TenantFiles};

/// What the cabinet is made of.
#[derive(Debug, Clone)]
pub struct Components {
    pub documents: Documents,
    pub files: TenantFiles,
    /// Pays for reading and drawing ad hoc profiles.
    pub memory: ByteBudget,
}

/// How the cabinet works.
#[derive(Debug, Clone, Copy)]
pub struct CabinetSettings {
    /// Largest executable; 0 means no limit.
    pub executable_bytes_max: u64,
}

/// Everything that is kept, for all tenants.
#[derive(Debug, Clone)]
pub struct Cabinet {
    pub settings: Settings,
    pub recording_rules: RecordingRules,
    pub adhoc: AdHocProfiles,
    pub debug_info: DebugInfo,
}

impl Cabinet {
    pub fn new(settings: CabinetSettings, components: Components) -> Self {
        let Components {
            documents,
            files,
            memory,
        } = components;
        Self {
            settings: Settings::new(documents.clone()),
            recording_rules: RecordingRules::new(documents),
            adhoc: AdHocProfiles::new(files.clone(), memory),
            debug_info: DebugInfo::new(files, settings.executable_bytes_max),
        }
    }
}
