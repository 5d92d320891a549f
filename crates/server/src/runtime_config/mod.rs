//! Limits by tenant out of a file that is read again while the server runs.
//!
//! ```text
//! every period: read ─► same bytes? nothing ─► parse ─┬─► all tenants' limits replaced at once
//!                                                     └─► broken: the last good ones stay, and the
//!                                                         metric, the status and the log say so
//! ```
//!
//! # Invariants
//! - A file is taken over as a whole or not at all.
//! - A server does not start on a broken file; one that runs is never stopped by it.
//! - The same broken bytes are logged once.

mod file;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use scoria_distributor::{TenantLimits, TenantPolicy};
use scoria_model::TenantId;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use crate::config::{LimitsConfig, RuntimeFileConfig};
use file::{FileError, Overrides};

/// Largest runtime file; some thousands of tenants.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a runtime file is not in force.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeConfigError {
    #[error("runtime file {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("runtime file {}: {actual} bytes or more; the limit is {FILE_BYTES_MAX}", path.display())]
    TooLarge { path: PathBuf, actual: u64 },
    #[error("runtime file {}: {reason}", path.display())]
    Broken { path: PathBuf, reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HashLabels {
    xxh3: String,
}

#[derive(Debug, Default)]
struct Metrics {
    successful: Gauge,
    loaded_at: Gauge<f64, AtomicU64>,
    hash: Family<HashLabels, Gauge>,
}

/// What the file said last.
#[derive(Debug, Default)]
struct State {
    overrides: Overrides,
    /// Of the bytes that were read last, good or broken.
    seen: Option<u64>,
    /// Of the bytes in force.
    loaded: Option<u64>,
    loaded_at: Option<SystemTime>,
    error: Option<String>,
}

#[derive(Debug)]
struct Shared {
    config: RuntimeFileConfig,
    defaults: LimitsConfig,
    limits: TenantLimits,
    state: Mutex<State>,
    metrics: Metrics,
}

/// The limits of all tenants as the runtime file gives them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RuntimeConfig(Arc<Shared>);

/// Which part of the limits is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    All,
    /// Those that differ from section `limits`.
    Differences,
}

impl RuntimeConfig {
    /// Reads the file, if there is one, for the first time.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub async fn start(
        config: RuntimeFileConfig,
        defaults: LimitsConfig,
        limits: TenantLimits,
        registry: &mut Registry,
    ) -> Result<Self, RuntimeConfigError> {
        let metrics = Metrics::default();
        metrics.register(registry);
        let runtime = Self(Arc::new(Shared {
            config,
            defaults,
            limits,
            state: Mutex::default(),
            metrics,
        }));
        if runtime.path().is_some() {
            runtime.reload().await?;
        }
        Ok(runtime)
    }

    /// Looks at the file from time to time, until told to stop.
    pub async fn watch(self, stop: CancellationToken) {
        if self.path().is_none() {
            return;
        }
        let period = self.0.config.period.0.max(Duration::from_millis(10));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
            if let Err(error) = self.reload().await {
                self.failed(&error);
            }
        }
    }

    fn path(&self) -> Option<&Path> {
        let path = self.0.config.file.as_path();
        (!path.as_os_str().is_empty()).then_some(path)
    }

    /// Takes over what the file says now, if that has changed.
    async fn reload(&self) -> Result<(), RuntimeConfigError> {
        let path = &self.0.config.file;
        let bytes = read(path).await?;
        let hash = xxhash_rust::xxh3::xxh3_64(&bytes);
        let broken = |reason: String| RuntimeConfigError::Broken {
            path: path.clone(),
            reason,
        };
        {
            let mut state = self.0.state.lock();
            if state.seen == Some(hash) {
                return match &state.error {
                    // Readable again, and nothing else has changed.
                    Some(_) if state.loaded == Some(hash) => {
                        state.error = None;
                        self.0.metrics.successful.set(1);
                        Ok(())
                    }
                    _ => Ok(()),
                };
            }
            state.seen = Some(hash);
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| broken(error.to_string()))?;
        let overrides = file::parse(text, &self.0.defaults);
        let overrides = overrides.map_err(|error: FileError| broken(error.to_string()))?;
        let policies = overrides.iter().map(|(tenant, limits)| {
            let policy = limits.to_policy();
            let policy = policy.map_err(|error| broken(format!("overrides.{tenant}.{error}")))?;
            Ok((tenant.clone(), policy))
        });
        let policies = policies.collect::<Result<_, RuntimeConfigError>>()?;
        self.take_over(overrides, policies, hash);
        Ok(())
    }

    fn take_over(
        &self,
        overrides: Overrides,
        policies: HashMap<TenantId, TenantPolicy>,
        hash: u64,
    ) {
        self.0.limits.replace(policies);
        let tenants = overrides.len();
        let now = SystemTime::now();
        let mut state = self.0.state.lock();
        *state = State {
            overrides,
            seen: Some(hash),
            loaded: Some(hash),
            loaded_at: Some(now),
            error: None,
        };
        drop(state);
        self.0.metrics.taken_over(hash, now);
        let path = self.0.config.file.display();
        tracing::info!(file = %path, tenants, "the limits of tenants are in force");
    }

    /// Says it once for each new error.
    fn failed(&self, error: &RuntimeConfigError) {
        let text = error.to_string();
        self.0.metrics.successful.set(0);
        let mut state = self.0.state.lock();
        if state.error.as_ref() == Some(&text) {
            return;
        }
        tracing::error!("{text}; the limits that were in force stay");
        if !matches!(error, RuntimeConfigError::Broken { .. }) {
            // The same bytes as before must be taken for news when they can be read again.
            state.seen = state.loaded;
        }
        state.error = Some(text);
    }

    /// The limits of the tenants that have some of their own, by key.
    pub fn overrides(&self, shown: Shown) -> Value {
        let defaults = self.0.defaults.keys();
        let state = self.0.state.lock();
        let tenants: Map<String, Value> = state
            .overrides
            .iter()
            .map(|(tenant, limits)| {
                let mut keys = limits.keys();
                if shown == Shown::Differences {
                    keys.retain(|key, value| defaults.get(key) != Some(value));
                }
                (tenant.as_str().to_owned(), Value::Object(keys))
            })
            .collect();
        json!({ "overrides": tenants })
    }

    /// What is in force for one tenant.
    pub fn limits(&self, tenant: &TenantId) -> LimitsConfig {
        let state = self.0.state.lock();
        let own = state.overrides.get(tenant).cloned();
        own.unwrap_or_else(|| self.0.defaults.clone())
    }

    /// How the file fares.
    pub fn status(&self) -> Value {
        let state = self.0.state.lock();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|d| d.as_secs()).ok();
        json!({
            "file": self.path().map(|path| path.display().to_string()),
            "last_reload_successful": state.error.is_none(),
            "error": state.error,
            "loaded_at_seconds": state.loaded_at.and_then(seconds),
            "xxh3": state.loaded.map(|hash| format!("{hash:016x}")),
            "tenants": state.overrides.len(),
        })
    }
}

/// The bytes of the file; never more than are allowed.
async fn read(path: &Path) -> Result<Vec<u8>, RuntimeConfigError> {
    let unreadable = |source| RuntimeConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(FILE_BYTES_MAX + 1);
    bounded.read_to_end(&mut bytes).await.map_err(unreadable)?;
    let actual = bytes.len() as u64;
    if actual > FILE_BYTES_MAX {
        return Err(RuntimeConfigError::TooLarge {
            path: path.to_owned(),
            actual,
        });
    }
    Ok(bytes)
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        self.successful.set(1);
        registry.register(
            "pyroscope_runtime_config_last_reload_successful",
            "1 if the runtime file was taken over when it was last looked at, or there is none",
            self.successful.clone(),
        );
        registry.register(
            "pyroscope_runtime_config_last_reload_success_timestamp_seconds",
            "When a changed runtime file was last taken over",
            self.loaded_at.clone(),
        );
        registry.register(
            "pyroscope_runtime_config_hash",
            "Hash of the runtime file that is in force",
            self.hash.clone(),
        );
    }

    fn taken_over(&self, hash: u64, at: SystemTime) {
        self.successful.set(1);
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.loaded_at.set(since.as_secs_f64());
        self.hash.clear();
        let labels = HashLabels {
            xxh3: format!("{hash:016x}"),
        };
        self.hash.get_or_create(&labels).set(1);
    }
}

#[cfg(test)]
mod tests;
