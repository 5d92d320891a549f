//! The threads on which questions are answered, apart from those that take profiles in and lower in
//! priority: an acknowledgement does not wait for a flame graph that is being written out.
//!
//! Reading, adding up, drawing, encoding and compressing all happen here. How many of these threads
//! add up at a time is bounded elsewhere.
//!
//! # Invariants
//! - A question that nobody waits for any more is given up.
//! - The threads live until the roles have stopped: connections to the store that a question has
//!   opened are used by others, too.

use std::future::Future;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// The lowest priority there is, as `nice` counts it.
const LOWEST: i32 = 19;

/// The threads, which end with this.
#[derive(Debug)]
pub(crate) struct QueryRuntime {
    threads: QueryThreads,
    /// Always there until it is dropped.
    runtime: Option<Runtime>,
}

/// Where questions are given to the threads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QueryThreads(Handle);

/// Why a question has no answer: its thread is gone, or what ran on it panicked.
#[derive(Debug, thiserror::Error)]
#[error("the answer was given up: {0}")]
pub(crate) struct GivenUp(#[from] tokio::task::JoinError);

impl QueryRuntime {
    /// Threads for `workers` answers at a time, and for what they do that blocks, `niceness` below
    /// the calling thread.
    ///
    /// # Errors
    /// The operating system gives no more threads, or does not tell the priority.
    pub(crate) fn start(workers: usize, niceness: u8) -> std::io::Result<Self> {
        let priority = getpriority_process(None)?.saturating_add(i32::from(niceness));
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers.max(1))
            .thread_name("scoria-query")
            .enable_all()
            .on_thread_start(move || set_priority(priority.min(LOWEST)))
            .build()?;
        Ok(Self {
            threads: QueryThreads(runtime.handle().clone()),
            runtime: Some(runtime),
        })
    }

    pub(crate) fn threads(&self) -> QueryThreads {
        self.threads.clone()
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        // Without waiting: a runtime may not be waited for on another one's threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl QueryThreads {
    /// Runs a question's whole answer, and gives it up when the caller does.
    ///
    /// # Errors
    /// See [`GivenUp`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        answer: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, GivenUp> {
        Ok(AbortOnDropHandle::new(self.0.spawn(answer)).await?)
    }
}

/// Of the calling thread alone, as Linux has it. A thread begins with the priority of the one that
/// started it, which may be one of these.
fn set_priority(priority: i32) {
    if let Err(error) = setpriority_process(None, priority) {
        tracing::debug!(%error, priority, "the priority of a query thread stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_of_an_answer_runs_below_everything_else() {
        let here = || getpriority_process(None).unwrap();
        let own = here();
        let runtime = QueryRuntime::start(1, 3).unwrap();
        let answer = async move {
            // What decodes and adds up is given to threads that may block.
            let blocking = tokio::task::spawn_blocking(here).await.unwrap();
            [here(), blocking]
        };
        let answered = runtime.threads().run(answer).await.unwrap();
        assert_eq!(answered, [(own + 3).min(LOWEST); 2]);
        assert_eq!(here(), own, "this thread stays as it was");
    }

    #[tokio::test]
    async fn who_goes_away_ends_the_answer() {
        let runtime = QueryRuntime::start(1, 0).unwrap();
        let threads = runtime.threads();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (held, ended) = tokio::sync::oneshot::channel::<()>();
        let mut answer = Box::pin(threads.run(async move {
            let _held = held;
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
        }));
        tokio::select! {
            _ = &mut answer => panic!("it never ends"),
            begun = has_begun => begun.unwrap(),
        }
        drop(answer);
        assert!(ended.await.is_err(), "what it held is let go");
    }
}
