//! The threads on which questions are answered, apart from those that take profiles in and lower in
//! priority: an acknowledgement does not wait for a flame graph that is being written out.
//!
//! They keep off some cores altogether, so that what takes profiles in finds one free at once.
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
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
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

/// What the threads of questions leave to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How far below the calling thread they stand.
    pub(crate) niceness: u8,
    /// Of the process's cores as many as they do not run on, while one is left for them.
    pub(crate) cores_left: usize,
}

/// Where questions are given to the threads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QueryThreads(Handle);

/// Why a question has no answer: its thread is gone, or what ran on it panicked.
#[derive(Debug, thiserror::Error)]
#[error("the answer was given up: {0}")]
pub(crate) struct GivenUp(#[from] tokio::task::JoinError);

impl QueryRuntime {
    /// Threads for `workers` answers at a time, and for what they do that blocks.
    ///
    /// # Errors
    /// The operating system gives no more threads, or does not tell the priority or the cores.
    pub(crate) fn start(workers: usize, standing: Standing) -> std::io::Result<Self> {
        let niceness = i32::from(standing.niceness);
        let priority = getpriority_process(None)?.saturating_add(niceness);
        let cores = but(sched_getaffinity(None)?, standing.cores_left);
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers.max(1))
            .thread_name("scoria-query")
            .enable_all()
            .on_thread_start(move || {
                set_priority(priority.min(LOWEST));
                set_cores(&cores);
            })
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

/// `cores` less the first `left`, and at least one.
fn but(mut cores: CpuSet, left: usize) -> CpuSet {
    let most = (cores.count() as usize).saturating_sub(1);
    let all = cores;
    let given = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core));
    given
        .take(left.min(most))
        .for_each(|core| cores.unset(core));
    cores
}

/// Of the calling thread alone.
fn set_cores(cores: &CpuSet) {
    if let Err(error) = sched_setaffinity(None, cores) {
        tracing::debug!(%error, "a query thread may run on every core");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn standing(niceness: u8, cores_left: usize) -> Standing {
        Standing {
            niceness,
            cores_left,
        }
    }

    #[test]
    fn one_core_is_left_for_questions_at_least() {
        let mut three = CpuSet::new();
        [2, 5, 9].into_iter().for_each(|core| three.set(core));
        let of = |left: usize| {
            let cores = but(three, left);
            let cores = (0..CpuSet::MAX_CPU).filter(|&core| cores.is_set(core));
            cores.collect::<Vec<_>>()
        };
        assert_eq!(of(0), [2, 5, 9]);
        assert_eq!(of(1), [5, 9]);
        assert_eq!(of(7), [9]);
    }

    #[tokio::test]
    async fn answers_keep_off_the_cores_that_are_left() {
        let cores = || sched_getaffinity(None).unwrap();
        let own = cores();
        let runtime = QueryRuntime::start(1, standing(0, 1)).unwrap();
        let answer = async move {
            let blocking = tokio::task::spawn_blocking(cores).await.unwrap();
            [cores(), blocking]
        };
        let answered = runtime.threads().run(answer).await.unwrap();
        assert_eq!(answered, [but(own, 1); 2]);
        assert_eq!(cores(), own, "this thread stays as it was");
    }

    #[tokio::test]
    async fn all_of_an_answer_runs_below_everything_else() {
        let here = || getpriority_process(None).unwrap();
        let own = here();
        let runtime = QueryRuntime::start(1, standing(3, 1)).unwrap();
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
        let runtime = QueryRuntime::start(1, standing(0, 0)).unwrap();
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
