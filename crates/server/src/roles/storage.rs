//! The object store, the catalogue in it, its blocks, its documents and files: what the roles
//! share.
//!
//! # Invariants
//! - A store that refuses us ends the start; one that cannot be reached is waited for, and
//!   `/ready` says so.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use scoria_model::Clock;
use scoria_storage::{
    BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, Documents, Metrics, RequestMetrics,
    TenantFiles, probe_conditional_create,
};

use super::Parts;
use crate::object_store::{self, NamedStore};
use crate::readiness::Readiness;

/// Pauses between tries to reach the store.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) catalogue: Catalogue,
    pub(super) blocks: BlockStore,
    pub(super) documents: Documents,
    pub(super) files: TenantFiles,
    pub(super) requests: RequestMetrics,
}

/// Says in `/ready` what a start waits for, and how long to wait.
#[derive(Debug)]
pub(super) struct Waiting {
    said: Arc<Mutex<Option<String>>>,
    pause: Duration,
}

impl Waiting {
    pub(super) fn new(readiness: &Readiness) -> Self {
        let said = Arc::new(Mutex::new(None));
        let shown = Arc::clone(&said);
        readiness.add("store", Box::new(move || shown.lock().clone()));
        Self {
            said,
            pause: PAUSE_FIRST,
        }
    }

    /// Waits before the next try, longer each time.
    pub(super) async fn pause(&mut self, why: &str) {
        tracing::warn!(pause = ?self.pause, "waiting for the object store: {why}");
        *self.said.lock() = Some(format!("waiting for the object store: {why}"));
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// The store answers.
    pub(super) fn over(&mut self) {
        *self.said.lock() = None;
        self.pause = PAUSE_FIRST;
    }
}

/// Opens the store, makes sure that it can hold a catalogue, and reads the catalogue.
pub(super) async fn open(
    parts: &mut Parts<'_>,
    clock: &Arc<dyn Clock>,
    waiting: &mut Waiting,
) -> anyhow::Result<Storage> {
    let named = object_store::open(parts.config, parts.registry)?;
    let metrics = Metrics::new(parts.registry);
    let catalogue = loop {
        let options = CatalogueOptions::new(Arc::clone(clock), metrics.clone());
        match read(&named, options).await {
            Ok(catalogue) => break catalogue,
            Err(Unopened::Unavailable(why)) => waiting.pause(&why).await,
            Err(Unopened::Refused(error)) => return Err(error),
        }
    };
    waiting.over();
    let state = catalogue.state();
    tracing::info!(
        store = %named.url,
        version = state.version().0,
        blocks = state.blocks().len(),
        "opened the catalogue"
    );
    let documents = Documents::new(Arc::clone(&named.store), metrics.clone());
    let files = TenantFiles::new(Arc::clone(&named.store), metrics.clone());
    let requests = named.requests;
    let blocks = BlockStore::new(
        named.store,
        BlockStoreOptions {
            metrics,
            cache_bytes: parts.memory.cache_bytes(parts.config.storage.cache.0),
            coalesce_gap: named.url.coalesce_gap(),
        },
    );
    Ok(Storage {
        catalogue,
        blocks,
        documents,
        files,
        requests,
    })
}

/// Why the catalogue is not open.
enum Unopened {
    /// Another try may succeed.
    Unavailable(String),
    Refused(anyhow::Error),
}

async fn read(named: &NamedStore, options: CatalogueOptions) -> Result<Catalogue, Unopened> {
    if let Err(error) = probe_conditional_create(&*named.store).await {
        return Err(match error.is_unavailable() {
            true => Unopened::Unavailable(error.to_string()),
            false => Unopened::Refused(anyhow::Error::new(error).context(named.url.to_string())),
        });
    }
    let opened = Catalogue::open(Arc::clone(&named.store), options).await;
    opened.map_err(|error| match error.is_unavailable() {
        true => Unopened::Unavailable(error.to_string()),
        false => Unopened::Refused(
            anyhow::Error::new(error).context(format!("reading the catalogue in {}", named.url)),
        ),
    })
}
