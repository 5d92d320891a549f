//! Where decoding runs: blocking threads, a bounded number at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::{ErrorKind, QueryError};

/// Runs work that keeps a core busy.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Semaphore>);

impl Pool {
    pub(crate) fn new(threads: Arc<Semaphore>) -> Self {
        Self(threads)
    }

    /// Waits for a thread and runs `work` on it. Work that has begun is run to its end even if
    /// nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let stopped = || QueryError::new(ErrorKind::Unavailable, "the querier is stopping");
        let permit = Arc::clone(&self.0)
            .acquire_owned()
            .await
            .map_err(|_| stopped())?;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        task.await.map_err(|error| {
            if error.is_panic() {
                QueryError::new(ErrorKind::Internal, format!("decoding failed: {error}"))
            } else {
                stopped()
            }
        })
    }
}
