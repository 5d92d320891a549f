//! How many requests may be under way, and how many may begin in a second.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::block_store::Purpose;

/// Permits to send a request.
#[derive(Debug)]
pub(super) struct Budget {
    all: Semaphore,
    /// Queries take one of these first, so that some of `all` are always left for the catalogue
    /// and for flushing.
    queries: Semaphore,
    /// When the next request may begin, if there is a rate; each one moves it on.
    next: Mutex<Option<Instant>>,
    interval: Duration,
}

/// Held while a request is under way.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    _all: SemaphorePermit<'a>,
    _query: Option<SemaphorePermit<'a>>,
}

impl Budget {
    pub(super) fn new(requests_max: usize, per_second: u32) -> Self {
        let all = requests_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            all: Semaphore::new(all),
            queries: Semaphore::new((all - all / 4).max(1)),
            next: Mutex::new(None),
            interval: Duration::from_secs(1)
                .checked_div(per_second)
                .unwrap_or_default(),
        }
    }

    /// Waits for a turn, at most `patience`; `None` when there was none.
    pub(super) async fn take(
        &self,
        purpose: Purpose,
        patience: Option<Duration>,
    ) -> Option<Permit<'_>> {
        let turn = self.turn(purpose);
        match patience {
            None => turn.await,
            Some(patience) => tokio::time::timeout(patience, turn).await.ok().flatten(),
        }
    }

    async fn turn(&self, purpose: Purpose) -> Option<Permit<'_>> {
        let query = match purpose {
            Purpose::Query => Some(self.queries.acquire().await.ok()?),
            _ => None,
        };
        let all = self.all.acquire().await.ok()?;
        if let Some(at) = self.paced() {
            tokio::time::sleep_until(at).await;
        }
        Some(Permit {
            _all: all,
            _query: query,
        })
    }

    /// When this request may begin, if not now. What was not used is saved up for one second.
    fn paced(&self) -> Option<Instant> {
        if self.interval.is_zero() {
            return None;
        }
        let now = Instant::now();
        let mut next = self.next.lock();
        let saved = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let at = next.map_or(saved, |next| next.max(saved));
        *next = Some(at + self.interval);
        (at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn queries_leave_a_quarter_to_others() {
        let budget = Budget::new(4, 0);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(budget.take(Purpose::Query, None).await.unwrap());
        }
        let patience = Some(Duration::from_secs(1));
        assert!(budget.take(Purpose::Query, patience).await.is_none());
        let flush = budget.take(Purpose::Flush, patience).await;
        assert!(flush.is_some());
        assert!(budget.take(Purpose::Flush, patience).await.is_none());
        held.pop();
        assert!(budget.take(Purpose::Query, patience).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_over_time() {
        let budget = Budget::new(100, 10);
        let started = Instant::now();
        for _ in 0..51 {
            drop(budget.take(Purpose::Flush, None).await.unwrap());
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(4), "{took:?}");
        assert!(took <= Duration::from_millis(5100), "{took:?}");
    }
}
