//! The ingester of this process, and the connection by which the other roles reach it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use scoria_ingester::{Components, Ingester, Metrics, RunningIngester, Settings, Shutdown};
use scoria_model::{Clock, NodeId};
use scoria_proto::{Connection, ingester as rpc, memory};

use super::Parts;
use super::storage::{Storage, Waiting};

/// An ingester that is reached over its connection only.
#[derive(Debug)]
pub(super) struct IngesterRole {
    /// Shared with the readiness check; empty once stopped.
    running: Arc<Mutex<Option<RunningIngester>>>,
    door: memory::Door,
    drain_timeout: Duration,
}

pub(super) fn components(
    parts: &mut Parts<'_>,
    storage: &Storage,
    clock: &Arc<dyn Clock>,
) -> Components {
    Components {
        catalogue: storage.catalogue.clone(),
        blocks: storage.blocks.clone(),
        clock: Arc::clone(clock),
        heads: parts.memory.heads.clone(),
        flush: parts.memory.flush.clone(),
        queries: parts.memory.queries.clone(),
        metrics: Metrics::new(parts.registry),
    }
}

pub(super) async fn start(
    parts: &Parts<'_>,
    components: Components,
    node: NodeId,
    waiting: &mut Waiting,
) -> anyhow::Result<(IngesterRole, Connection)> {
    let settings = settings(parts, node);
    let directory = settings.directory.clone();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("making the log directory {}", directory.display()))?;
    let running = loop {
        match Ingester::start(settings.clone(), components.clone()).await {
            Ok(running) => break running,
            Err(error) if error.is_unavailable() => waiting.pause(&error.to_string()).await,
            Err(error) => {
                let context = format!("starting the ingester on {}", directory.display());
                return Err(anyhow::Error::new(error).context(context));
            }
        }
    };
    waiting.over();

    let (local, door) = memory::serve(rpc::server(running.service()));

    let running = Arc::new(Mutex::new(Some(running)));
    let watched = Arc::clone(&running);
    parts.readiness.add(
        "ingester",
        Box::new(move || {
            let running = watched.lock().unwrap_or_else(PoisonError::into_inner);
            let problems = running.as_ref()?.status().problems;
            (!problems.is_empty()).then(|| problems.join("; "))
        }),
    );
    let watched = Arc::clone(&running);
    parts.readiness.add_note(
        "ingester",
        Box::new(move || {
            let running = watched.lock().unwrap_or_else(PoisonError::into_inner);
            let warnings = running.as_ref()?.status().warnings;
            (!warnings.is_empty()).then(|| warnings.join("; "))
        }),
    );
    let role = IngesterRole {
        running,
        door,
        drain_timeout: parts.config.server.drain_timeout.0,
    };
    Ok((role, local.into()))
}

fn settings(parts: &Parts<'_>, node: NodeId) -> Settings {
    let config = &parts.config.ingester;
    let directory = parts.config.storage.data_dir.join("ingester");
    let mut settings = Settings::new(node, directory, parts.memory.heads.limit());
    settings.query_threads = Arc::clone(&parts.query_threads);
    settings.stream.cut_age = config.cut_age.0;
    settings.stream.cut_log_bytes = config.cut_log_size.0;
    // Heads keep next to nothing of it while no queries come, and small machines have little.
    settings.function_tree_bytes =
        (config.function_tree_cache.0).min(parts.memory.heads.limit() / 8);
    // What waits for the log has been taken out of the bodies' share already.
    let queue = parts.memory.bodies.limit() / 2;
    settings.stream.queue_bytes_max = settings.stream.queue_bytes_max.min(queue);
    settings
}

impl IngesterRole {
    /// Flushes what there is if that is quick, and leaves the rest to the log.
    pub(super) async fn stop(self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(running) = running {
            match running.shutdown(self.drain_timeout).await {
                Shutdown::Flushed => tracing::info!("all profiles are in blocks"),
                Shutdown::LeftInLog => {
                    tracing::warn!(
                        "some profiles are in the log only; the next start goes on with it"
                    );
                }
            }
        }
        self.door.close().await;
    }
}
