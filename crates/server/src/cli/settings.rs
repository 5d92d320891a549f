//! The flags by which a verb is given settings, and how they become a configuration.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, ConfigError, Layers};

/// Flags that every verb has that works with a store.
#[derive(Debug, Clone, Args)]
pub(super) struct SettingsArgs {
    /// YAML file with settings.
    #[arg(long, env = "SCORIA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of what is kept on this machine's disk.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where blocks are kept: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix,
    /// file:///path or memory:
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// One setting; may be given several times.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    /// What is in force: these flags, `flags` (name, key, value), the environment and the file.
    ///
    /// # Errors
    /// The layer and the key that are wrong.
    pub(super) fn load(
        &self,
        flags: &[(&'static str, &'static str, &Option<String>)],
    ) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
                        origin: path.display().to_string(),
                        reason: error.to_string(),
                    })?;
                Some((path.clone(), text))
            }
            None => None,
        };
        let own = [
            ("--data-dir", "storage.data_dir", &self.data_dir),
            ("--store-url", "storage.url", &self.store_url),
        ];
        let flags = own
            .iter()
            .chain(flags)
            .filter_map(|(flag, key, value)| Some((*flag, *key, (*value).clone()?)))
            .collect();
        // A variable that is not text cannot be one of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Layers {
            file,
            environment,
            sets: self.set.clone(),
            flags,
        }
        .load()
    }
}
