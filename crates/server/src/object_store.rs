//! The object store that the configuration names, behind its guard.

use std::sync::Arc;

use anyhow::Context;
use object_store::ObjectStore;
use prometheus_client::registry::Registry;
use scoria_storage::{GuardedStore, RequestMetrics, RequestPolicy, StoreUrl};

use crate::config::Config;

/// A store that nothing has been sent to yet.
#[derive(Debug, Clone)]
pub(crate) struct NamedStore {
    pub(crate) url: StoreUrl,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) requests: RequestMetrics,
}

/// The store of `storage.url`, its requests counted in `registry`.
///
/// # Errors
/// A URL that is none, settings that make no client, a directory that cannot be used.
pub(crate) fn open(config: &Config, registry: &mut Registry) -> anyhow::Result<NamedStore> {
    let url = config.store_url().context("storage.data_dir")?;
    open_url(config, &url, registry).context("storage.url")
}

/// As [`open`], for tools: a directory that is not there is an error and is not made.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_existing(
    config: &Config,
    registry: &mut Registry,
) -> anyhow::Result<NamedStore> {
    let text = config.store_url().context("storage.data_dir")?;
    match text.parse::<StoreUrl>().context("storage.url")? {
        StoreUrl::File(path) if !path.is_dir() => anyhow::bail!(
            "there is no object store at {}; name it with --store-url or --data-dir",
            path.display()
        ),
        StoreUrl::Memory => {
            anyhow::bail!("memory: is the store of one process, which no other can read")
        }
        _ => open_url(config, &text, registry),
    }
}

/// The store at `url`, reached as section `store` says.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_url(
    config: &Config,
    url: &str,
    registry: &mut Registry,
) -> anyhow::Result<NamedStore> {
    let url: StoreUrl = url.parse()?;
    let (client, remote) = (config.store.client()?, config.store.policy()?);
    let policy = match url.is_remote() {
        true => remote,
        false => RequestPolicy::local(),
    };
    let metrics = RequestMetrics::new(registry, url.bucket_name());
    let store = url.open(&client)?;
    Ok(NamedStore {
        url,
        store: Arc::new(GuardedStore::new(store, policy, metrics.clone())),
        requests: metrics,
    })
}
