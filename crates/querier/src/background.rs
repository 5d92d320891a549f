//! Queries that go on while their client comes and asks for the answer.
//!
//! ```text
//! start ─► an id at once ─► running ─► answered | failed ─► forgotten after a while
//! ```
//! # Invariants
//! - A tenant runs at most as many as its limit says; answers that wait to be fetched take at most
//!   a number of bytes together, the oldest ones are forgotten first.
//! - An id says nothing, and only the tenants that asked get an answer for it.
//! - A request that is refused is refused when it is started, not when it is fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use scoria_model::{Clock, Limits, TenantId};
use uuid::Uuid;

use crate::admission::Holding;
use crate::error::{ErrorKind, QueryError};
use crate::merged::Merged;
use crate::querier::Answer;

/// What queries in the background may leave lying.
#[derive(Debug, Clone)]
pub struct BackgroundSettings {
    /// Bytes of answers that nobody has fetched.
    pub answers_bytes: u64,
    /// How long an answer is kept, fetched or not.
    pub keep: Duration,
}

/// Where a query in the background stands.
#[derive(Debug, Clone)]
pub enum Progress<A> {
    Running,
    Answered(A),
    Failed(QueryError),
}

/// As it is kept.
type Kept = Progress<Arc<Answer<Merged>>>;

/// All queries in the background.
pub(crate) struct Background {
    settings: BackgroundSettings,
    clock: Arc<dyn Clock>,
    entries: Mutex<BTreeMap<Uuid, Entry>>,
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

struct Entry {
    tenants: Vec<TenantId>,
    progress: Kept,
    /// When it was started, and later when it ended, by the clock that only goes forward.
    since: Duration,
    bytes: u64,
}

impl Background {
    pub(crate) fn new(settings: BackgroundSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            entries: Mutex::default(),
        }
    }

    /// A new id for a query of these tenants, which counts as running.
    pub(crate) fn start(&self, tenants: &[TenantId], limits: &Limits) -> Result<Uuid, QueryError> {
        let since = self.clock.monotonic();
        let mut entries = self.entries.lock();
        self.forget(&mut entries);
        let running = entries
            .values()
            .filter(|entry| matches!(entry.progress, Progress::Running))
            .filter(|entry| entry.tenants.iter().any(|t| tenants.contains(t)));
        let (running, most) = (running.count() as u64, limits.max_async_query_concurrency);
        if Limits::exceeded(running + 1, most) {
            return Err(QueryError::new(
                ErrorKind::LimitExceeded,
                format!(
                    "{running} queries run in the background, the limit max_async_query_concurrency allows {most}; wait until one of them has ended"
                ),
            ));
        }
        let id = Uuid::new_v4();
        entries.insert(
            id,
            Entry {
                tenants: tenants.to_vec(),
                progress: Progress::Running,
                since,
                bytes: 0,
            },
        );
        Ok(id)
    }

    /// Keeps what a query came to.
    pub(crate) fn ended(&self, id: Uuid, result: Result<Answer<Merged>, QueryError>) {
        let since = self.clock.monotonic();
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&id) else {
            return;
        };
        entry.since = since;
        entry.progress = match result {
            Ok(mut answer) => {
                // What is kept has a bound of its own.
                answer.holding = Holding::default();
                entry.bytes = answer.value.bytes();
                Progress::Answered(Arc::new(answer))
            }
            Err(error) => Progress::Failed(error),
        };
        self.forget(&mut entries);
    }

    /// Where a query of these tenants stands.
    pub(crate) fn poll(&self, tenants: &[TenantId], id: &str) -> Result<Kept, QueryError> {
        let mut entries = self.entries.lock();
        self.forget(&mut entries);
        let found = id.parse().ok().and_then(|id: Uuid| entries.get(&id));
        match found.filter(|entry| entry.tenants == tenants) {
            Some(entry) => Ok(entry.progress.clone()),
            None => Err(QueryError::new(
                ErrorKind::NotFound,
                format!(
                    "there is no query {id:?} in the background; answers are kept for {} s and as long as there is room",
                    self.settings.keep.as_secs()
                ),
            )),
        }
    }

    /// Drops what is too old, and the oldest answers while all are too large together.
    fn forget(&self, entries: &mut BTreeMap<Uuid, Entry>) {
        let now = self.clock.monotonic();
        let ended = |entry: &Entry| !matches!(entry.progress, Progress::Running);
        entries.retain(|_, entry| {
            !ended(entry) || now.saturating_sub(entry.since) <= self.settings.keep
        });
        let mut bytes: u64 = entries.values().map(|entry| entry.bytes).sum();
        while bytes > self.settings.answers_bytes {
            let oldest = entries
                .iter()
                .filter(|(_, entry)| ended(entry))
                .min_by_key(|(_, entry)| entry.since)
                .map(|(id, entry)| (*id, entry.bytes));
            let Some((id, freed)) = oldest else {
                return;
            };
            entries.remove(&id);
            bytes -= freed;
        }
    }
}

#[cfg(test)]
mod tests {
    use scoria_storage::testing::HeldClock;

    use super::*;
    use crate::stats::QueryStats;

    fn background() -> Background {
        let settings = BackgroundSettings {
            answers_bytes: 1000,
            keep: Duration::from_secs(60),
        };
        Background::new(settings, Arc::new(HeldClock::default()))
    }

    fn tenants(name: &str) -> Vec<TenantId> {
        TenantId::parse_several(name).unwrap()
    }

    fn answer(bytes: usize) -> Result<Answer<Merged>, QueryError> {
        Ok(Answer {
            value: Merged::Tree(vec![0; bytes]),
            stats: QueryStats::default(),
            holding: Holding::default(),
        })
    }

    #[test]
    fn a_tenants_own_and_so_many_at_a_time() {
        let background = background();
        let a = tenants("a");
        let limits = Limits {
            max_async_query_concurrency: 2,
            ..Limits::default()
        };
        let first = background.start(&a, &limits).unwrap();
        background.start(&a, &limits).unwrap();
        let error = background.start(&a, &limits).unwrap_err();
        assert!(
            error.to_string().contains("max_async_query_concurrency"),
            "{error}"
        );
        background.start(&tenants("b"), &limits).unwrap();
        let id = first.to_string();
        assert!(matches!(background.poll(&a, &id), Ok(Progress::Running)));
        let kind =
            |tenants: &[TenantId], id: &str| background.poll(tenants, id).unwrap_err().kind();
        assert_eq!(kind(&tenants("b"), &id), ErrorKind::NotFound);
        assert_eq!(kind(&a, "nonsense"), ErrorKind::NotFound);
        background.ended(first, answer(10));
        let Ok(Progress::Answered(answer)) = background.poll(&a, &id) else {
            panic!("not answered");
        };
        assert_eq!(answer.value, Merged::Tree(vec![0; 10]));
        background.start(&a, &limits).unwrap();
    }

    #[test]
    fn answers_take_a_bounded_room() {
        let background = background();
        let a = tenants("a");
        let ids: Vec<Uuid> = (0..4)
            .map(|_| background.start(&a, &Limits::default()).unwrap())
            .collect();
        for id in &ids[..3] {
            background.ended(*id, answer(400));
        }
        let kept = ids
            .iter()
            .filter(|id| background.poll(&a, &id.to_string()).is_ok());
        // Two answers and the one that runs.
        assert_eq!(kept.count(), 3);
        background.ended(ids[3], Err(QueryError::new(ErrorKind::Invalid, "no")));
        let failed = background.poll(&a, &ids[3].to_string());
        assert!(matches!(failed, Ok(Progress::Failed(_))));
    }
}
