//! The object store, the catalogue in it, its blocks and its documents: what the roles share.

use std::sync::Arc;

use anyhow::Context;
use scoria_model::Clock;
use scoria_storage::{
    BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, Documents, Metrics, StoreUrl,
    probe_conditional_create,
};

use super::Parts;

#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) catalogue: Catalogue,
    pub(super) blocks: BlockStore,
    pub(super) documents: Documents,
}

/// Opens the store, makes sure that it can hold a catalogue, and reads the catalogue.
pub(super) async fn open(parts: &mut Parts<'_>, clock: &Arc<dyn Clock>) -> anyhow::Result<Storage> {
    let config = &parts.config.storage;
    let text = parts.config.store_url().context("storage.data_dir")?;
    let url: StoreUrl = text.parse().context("storage.url")?;
    let store = url.open().context("opening the object store")?;
    probe_conditional_create(&*store).await?;
    let metrics = Metrics::new(parts.registry);
    let options = CatalogueOptions::new(Arc::clone(clock), metrics.clone());
    let catalogue = Catalogue::open(Arc::clone(&store), options)
        .await
        .context("reading the catalogue")?;
    let state = catalogue.state();
    tracing::info!(
        store = %url,
        version = state.version().0,
        blocks = state.blocks().len(),
        "opened the catalogue"
    );
    let documents = Documents::new(Arc::clone(&store), metrics.clone());
    let blocks = BlockStore::new(
        store,
        BlockStoreOptions {
            metrics,
            cache_bytes: parts.memory.cache_bytes(config.cache.0),
            coalesce_gap: url.coalesce_gap(),
        },
    );
    Ok(Storage {
        catalogue,
        blocks,
        documents,
    })
}
