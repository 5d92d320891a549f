//! What an ingester is told (settings) and what it is given (components).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use scoria_model::{ByteBudget, Clock, NodeId};
use scoria_storage::{BlockStore, Catalogue};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::stream::StreamSettings;

/// Plain values.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this process in the cluster; stands in file names.
    pub node: NodeId,
    /// Where the log lies: one process at a time.
    pub directory: PathBuf,
    /// What rules the stream; its `jitter_seed` is chosen at the start.
    pub stream: StreamSettings,
    /// The open generation is cut when its heads take this many bytes. Well below the budget of
    /// all heads, since a generation stays in memory until it is flushed and a while longer.
    pub heads_cut_bytes: u64,
    /// How often ages are looked at.
    pub tick: Duration,
    /// How long the start waits for the catalogue to take the new stream.
    pub open_stream_timeout: Duration,
    /// Threads that queries may keep busy; those of other roles in the process may share them. One
    /// core less than there are leaves room for the log.
    pub query_threads: Arc<Semaphore>,
    /// Bytes of function trees that heads keep between queries.
    pub function_tree_bytes: u64,
}

impl Settings {
    /// Settings for a node whose log lies in `directory`, with the defaults of a machine that may
    /// give `heads_bytes` to heads.
    pub fn new(node: NodeId, directory: PathBuf, heads_bytes: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            node,
            directory,
            stream: StreamSettings::default(),
            heads_cut_bytes: heads_bytes / 3,
            tick: Duration::from_millis(250),
            open_stream_timeout: Duration::from_secs(60),
            query_threads: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))),
            function_tree_bytes: 64 << 20,
        }
    }
}

/// What the ingester works with; all of it belongs to the caller.
#[derive(Debug, Clone)]
pub struct Components {
    pub catalogue: Catalogue,
    pub blocks: BlockStore,
    pub clock: Arc<dyn Clock>,
    /// Memory of all heads, and of requests on their way into them.
    pub heads: ByteBudget,
    /// Memory of building and uploading blocks.
    pub flush: ByteBudget,
    /// Memory of the answers of queries.
    pub queries: ByteBudget,
    pub metrics: Metrics,
}
