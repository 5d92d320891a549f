//! The configuration: one struct per section, each in its own file, and the layers that fill it.
//!
//! A key is `section.key`. Its value comes from the highest layer that names it:
//!
//! ```text
//! command line flag > --set section.key=value > SCORIA_SECTION__KEY > file > default
//! ```
//!
//! # Invariants
//! - Every key has a default; [`Config::default`] is the whole list of keys.
//! - A key or section that does not exist is an error that names the nearest one, in every layer.
//! - Nothing outside this module reads the environment for a setting, and nobody changes a
//!   [`Config`] once it is loaded.

mod auth;
mod compactor;
mod debug_info;
mod distance;
mod distributor;
mod ingester;
mod layers;
mod limit_names;
mod limits;
mod log;
mod memory;
mod otlp;
mod policies;
mod querier;
mod runtime_config;
pub mod secret;
mod self_profiling;
mod server;
mod storage;
mod store;
pub mod units;
mod usage;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use auth::AuthConfig;
pub use compactor::CompactorConfig;
pub use debug_info::DebugInfoConfig;
pub use distributor::DistributorConfig;
pub use ingester::IngesterConfig;
pub use layers::{ConfigError, Layers};
pub use limits::{LimitError, LimitsConfig};
pub use log::{LogConfig, LogFormat};
pub use memory::{MemoryConfig, MemoryLimit};
pub use otlp::OtlpConfig;
pub use policies::{
    GroupLimitConfig, GroupSamplingConfig, IngestLimitConfig, NameList, RuleConfig, RulesPosition,
    SamplingConfig, TrickleConfig,
};
pub use querier::QuerierConfig;
pub use runtime_config::RuntimeFileConfig;
pub use self_profiling::SelfProfilingConfig;
pub use server::ServerConfig;
pub use storage::StorageConfig;
pub use store::{StoreAddressing, StoreConfig, StoreConfigError, StoreCredentials};
pub use usage::UsageConfig;

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub server: ServerConfig,
    pub log: LogConfig,
    pub otlp: OtlpConfig,
    pub auth: AuthConfig,
    pub memory: MemoryConfig,
    pub storage: StorageConfig,
    pub store: StoreConfig,
    pub distributor: DistributorConfig,
    pub ingester: IngesterConfig,
    pub querier: QuerierConfig,
    pub compactor: CompactorConfig,
    pub limits: LimitsConfig,
    pub runtime_config: RuntimeFileConfig,
    pub self_profiling: SelfProfilingConfig,
    pub usage: UsageConfig,
    pub debug_info: DebugInfoConfig,
}

impl Config {
    /// What is in force, as YAML, with secrets masked.
    pub fn dump(&self) -> String {
        let mut masked = self.clone();
        masked.storage.url = mask_url(&masked.storage.url);
        serde_saphyr::to_string(&masked).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// What is in force and is not the default, as YAML, with secrets masked.
    pub fn dump_changes(&self) -> String {
        let mut masked = self.clone();
        masked.storage.url = mask_url(&masked.storage.url);
        let values = [&masked, &Self::default()].map(serde_json::to_value);
        let [Ok(Value::Object(mut sections)), Ok(Value::Object(defaults))] = values else {
            return "# the configuration has no text form\n".to_owned();
        };
        for (name, keys) in &mut sections {
            if let Value::Object(keys) = keys {
                keys.retain(|key, value| {
                    let default = defaults.get(name).and_then(|section| section.get(key));
                    default != Some(&*value)
                });
            }
        }
        sections.retain(|_, keys| keys.as_object().is_none_or(|keys| !keys.is_empty()));
        serde_saphyr::to_string(&sections).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// The URL of the object store, with its default filled in.
    ///
    /// # Errors
    /// When the data directory has no absolute form.
    pub fn store_url(&self) -> std::io::Result<String> {
        if !self.storage.url.is_empty() {
            return Ok(self.storage.url.clone());
        }
        let dir = std::path::absolute(self.storage.data_dir.join("store"))?;
        Ok(format!("file://{}", dir.display()))
    }
}

/// A URL without what may open a door: its password, and the values of its query.
fn mask_url(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else {
        return text.to_owned();
    };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".to_owned();
    }
    if url.query().is_some() {
        let names: Vec<String> = url
            .query_pairs()
            .map(|(name, _)| name.into_owned())
            .collect();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(names.into_iter().map(|name| (name, "***")));
    }
    url.into()
}

#[cfg(test)]
mod tests;
