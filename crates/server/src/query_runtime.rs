//! Where questions are answered: threads of their own, at a lower priority than those that take
//! profiles in.
//!
//! An answer is not only computed, it is also written as JSON and compressed, milliseconds at a
//! time, during which a thread of the runtime does nothing else. On threads of their own that
//! holds up other answers and no acknowledgement, and when all cores are busy the kernel lets
//! ingest go first.
//!
//! # Invariants
//! - A question whose client went away is dropped here as well.
//!
//! # What it must not know
//! What is asked.

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// How much nicer its threads are than the rest of the process. Each step is about a quarter, so
/// that of a core that both want these get a quarter.
const NICER: i32 = 5;

/// Threads that answer questions.
#[derive(Debug)]
pub(crate) struct QueryRuntime {
    handle: Handle,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

/// The answer was lost with its task.
#[derive(Debug, thiserror::Error)]
#[error("the query ended early: {0}")]
pub(crate) struct EndedEarly(#[from] tokio::task::JoinError);

impl QueryRuntime {
    /// Starts the threads: one core less than there are.
    ///
    /// # Errors
    /// Threads cannot be had.
    pub(crate) fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores.saturating_sub(1).max(1))
            .thread_name("scoria-query")
            .on_thread_start(be_nicer)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Does work there.
    ///
    /// # Errors
    /// The work panicked, or the process is stopping.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, EndedEarly> {
        Ok(AbortOnDropHandle::new(self.handle.spawn(work)).await?)
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for threads is not allowed where other tasks run.
            runtime.shutdown_background();
        }
    }
}

/// Of the calling thread alone.
fn be_nicer() {
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::warn!(%error, "the priority of a query thread stays as it was");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn work_is_done_on_threads_of_its_own_and_dropped_with_its_caller() {
        let queries = QueryRuntime::start().unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        let on = queries.run(async move { name() }).await.unwrap();
        assert_eq!(on.as_deref(), Some("scoria-query"));
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let mut never = Box::pin(queries.run(async move {
            let _holds = holds;
            std::future::pending::<()>().await;
        }));
        assert!(futures::poll!(&mut never).is_pending());
        drop(never);
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
