//! Which queries may run: slots and memory, handed out to tenants in turn.
//!
//! ```text
//! plan ─► larger than the share, or than the tenant's limit? refused at once
//!      └► a slot and the planned bytes are free, and nobody waits? runs
//!      └► waits in its tenant's line, up to a time and a number ─► runs, or is refused
//! ```
//! # Invariants
//! - A query holds its slot while it scans, and its bytes until its answer has been written.
//! - What a query takes beyond its plan counts for its tenant as what was planned does.
//! - What a query gives back is offered to those who wait at once; what others give back to the
//!   same share of memory is noticed a moment later.
//! - A query whose client went away waits for nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, Limits, Permit, TenantId};
use tokio::sync::oneshot;

use crate::error::{ErrorKind, QueryError};
use crate::fair::{FairQueue, Price, Turn};
use crate::metrics::{Metrics, Refusal};

/// How often those who wait look for memory that others gave back.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How many queries run and wait.
#[derive(Debug, Clone)]
pub struct AdmissionSettings {
    /// Queries that scan at the same time; at least 1.
    pub running_max: usize,
    /// Queries that wait, over all tenants; more are refused.
    pub waiting_max: usize,
    /// How long one waits before it is refused.
    pub wait_max: Duration,
}

/// Hands out slots and memory. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<State>);

struct State {
    settings: AdmissionSettings,
    memory: ByteBudget,
    metrics: Metrics,
    lines: Mutex<Lines>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Lines {
    running: usize,
    waiting: FairQueue<Waiting>,
    /// Bytes that queries of a tenant hold.
    held: BTreeMap<TenantId, u64>,
}

/// What a query asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Who pays; of several tenants the first.
    pub(crate) tenant: TenantId,
    pub(crate) price: Price,
    /// Bytes that the tenant's queries may hold together; 0 for any.
    pub(crate) tenant_bytes_max: u64,
}

struct Waiting {
    wanted: Wanted,
    granted: oneshot::Sender<Held>,
}

/// What a query holds while it runs.
#[derive(Debug)]
pub(crate) struct Held {
    permit: Permit,
    charged: Option<Charge>,
    slot: Slot,
    admission: Admission,
}

/// Who pays for how much.
#[derive(Debug)]
struct Charge {
    tenant: TenantId,
    bytes: u64,
    /// Bytes that the tenant's queries may hold together; 0 for any.
    most: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Taken,
    /// Its scan is over, or it never needed one.
    Free,
}

impl Held {
    pub(crate) fn bytes(&self) -> u64 {
        self.permit.bytes()
    }

    /// Takes more memory than was planned; nobody waits for that.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), QueryError> {
        self.charge(bytes)?;
        if let Err(full) = self.permit.grow(bytes) {
            self.take_off(bytes);
            self.admission.0.metrics.refused(Refusal::Memory);
            return Err(full.into());
        }
        Ok(())
    }

    /// Puts more on the tenant's account, as far as its limit allows.
    fn charge(&mut self, bytes: u64) -> Result<(), QueryError> {
        let Some(Charge {
            tenant,
            bytes: own,
            most,
        }) = &mut self.charged
        else {
            return Ok(());
        };
        let mut lines = self.admission.0.lines.lock();
        let held = lines.held.entry(tenant.clone()).or_default();
        if Limits::exceeded(held.saturating_add(bytes), *most) {
            let others = held.saturating_sub(*own);
            self.admission.0.metrics.refused(Refusal::TenantMemory);
            return Err(grown_too_large(*own + bytes, others, *most));
        }
        *held += bytes;
        *own += bytes;
        Ok(())
    }

    fn take_off(&mut self, bytes: u64) {
        let left = self.charged.as_ref().map_or(0, |charge| charge.bytes);
        self.admission
            .0
            .lines
            .lock()
            .pay_back(&mut self.charged, left.saturating_sub(bytes));
    }

    /// The scan is over: the slot is free, and all memory but `bytes`.
    pub(crate) fn scanned(&mut self, bytes: u64) {
        self.permit.shrink_to(bytes);
        self.give_back(bytes);
        self.admission.offer();
    }

    fn give_back(&mut self, left: u64) {
        let mut lines = self.admission.0.lines.lock();
        if self.slot == Slot::Taken {
            self.slot = Slot::Free;
            lines.running -= 1;
        }
        lines.pay_back(&mut self.charged, left);
    }
}

impl Lines {
    /// Takes off a tenant's account what is more than `left`.
    fn pay_back(&mut self, charged: &mut Option<Charge>, left: u64) {
        let Some(Charge { tenant, bytes, .. }) = charged else {
            return;
        };
        let back = bytes.saturating_sub(left);
        *bytes -= back;
        if let Some(held) = self.held.get_mut(tenant) {
            *held = held.saturating_sub(back);
            if *held == 0 {
                self.held.remove(tenant);
            }
        }
    }
}

/// A query that would have more than its tenant may: on its own it will never fit, beside others
/// it may later.
fn grown_too_large(own: u64, others: u64, most: u64) -> QueryError {
    let kind = if own > most {
        ErrorKind::Invalid
    } else {
        ErrorKind::LimitExceeded
    };
    QueryError::new(
        kind,
        format!(
            "the query needs {own} bytes of memory by now beside {others} of the tenant's other queries, the limit max_query_memory_bytes allows {most}; ask for a shorter range, fewer series or fewer nodes"
        ),
    )
}

/// The memory that an answer is accounted with, given back when this is dropped: keep it until the
/// answer has been written.
#[derive(Debug, Default)]
pub struct Holding(Vec<Held>);

impl From<Held> for Holding {
    fn from(held: Held) -> Self {
        Self(vec![held])
    }
}

impl Holding {
    /// Of several questions that have one answer.
    pub(crate) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Takes more.
    ///
    /// # Errors
    /// There is not so much, or the tenant may not have it.
    pub fn grow(&mut self, bytes: u64) -> Result<(), QueryError> {
        // Without a question nothing is held, and nothing is drawn.
        self.0.first_mut().map_or(Ok(()), |held| held.grow(bytes))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.permit.shrink_to(0);
        self.give_back(0);
        self.admission.offer();
    }
}

impl Admission {
    pub(crate) fn new(settings: AdmissionSettings, memory: ByteBudget, metrics: Metrics) -> Self {
        Self(Arc::new(State {
            settings,
            memory,
            metrics,
            lines: Mutex::default(),
        }))
    }

    /// What a query needs that scans nothing.
    pub(crate) fn nothing(&self) -> Held {
        self.held(None)
    }

    /// Neither slot nor memory, on the account of one who pays for more, if anybody does.
    fn held(&self, charged: Option<Charge>) -> Held {
        Held {
            permit: self.0.memory.nothing(),
            charged,
            slot: Slot::Free,
            admission: self.clone(),
        }
    }

    /// What an answer needs that is there already: no slot, and nothing yet of the memory that its
    /// tenant may have.
    pub(crate) fn without_scan(&self, tenant: TenantId, tenant_bytes_max: u64) -> Held {
        self.held(Some(Charge {
            tenant,
            bytes: 0,
            most: tenant_bytes_max,
        }))
    }

    /// Waits for a slot and for memory.
    pub(crate) async fn wait(&self, wanted: Wanted) -> Result<Held, QueryError> {
        let bytes = wanted.price.bytes;
        if bytes > self.0.memory.limit() {
            self.0.metrics.refused(Refusal::Memory);
            return Err(self.full(bytes).into());
        }
        let most = wanted.tenant_bytes_max;
        if Limits::exceeded(bytes, most) {
            self.0.metrics.refused(Refusal::TenantMemory);
            return Err(QueryError::new(
                ErrorKind::Invalid,
                format!(
                    "the query needs {bytes} bytes of memory, the limit max_query_memory_bytes allows {most}; ask for a shorter range or fewer series"
                ),
            ));
        }
        let mut granted = self.stand_in_line(wanted)?;
        self.offer();
        let until = tokio::time::Instant::now() + self.0.settings.wait_max;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                biased;
                held = &mut granted => {
                    return held.map_err(|_| {
                        QueryError::new(ErrorKind::Unavailable, "the querier is stopping")
                    });
                }
                () = tokio::time::sleep_until(until) => {
                    self.0.metrics.refused(Refusal::Waited);
                    return Err(self.waited(bytes));
                }
                _ = look.tick() => self.offer(),
            }
        }
    }

    fn stand_in_line(&self, wanted: Wanted) -> Result<oneshot::Receiver<Held>, QueryError> {
        let mut lines = self.0.lines.lock();
        let most = self.0.settings.waiting_max;
        if lines.waiting.len() >= most {
            lines.waiting.retain(|waiting| !waiting.granted.is_closed());
        }
        if lines.waiting.len() >= most {
            self.0.metrics.refused(Refusal::Line);
            return Err(QueryError::new(
                ErrorKind::LimitExceeded,
                format!("{most} queries wait already (querier.waiting_max); try again in a moment"),
            ));
        }
        let (sender, receiver) = oneshot::channel();
        let (tenant, price) = (wanted.tenant.clone(), wanted.price);
        let waiting = Waiting {
            wanted,
            granted: sender,
        };
        lines.waiting.push(tenant, price, waiting);
        Ok(receiver)
    }

    /// Gives those who are next what is free.
    fn offer(&self) {
        while let Some((held, granted)) = self.take_next() {
            // One that is not wanted any more comes back here by being dropped.
            drop(granted.send(held));
        }
    }

    fn take_next(&self) -> Option<(Held, oneshot::Sender<Held>)> {
        let mut lines = self.0.lines.lock();
        let Lines {
            running,
            waiting,
            held,
        } = &mut *lines;
        let free = *running < self.0.settings.running_max.max(1);
        let mut permit = None;
        let next = waiting.next(|waiting| {
            if waiting.granted.is_closed() {
                return Turn::Forget;
            }
            if !free {
                return Turn::Hold;
            }
            let wanted = &waiting.wanted;
            let has = held.get(&wanted.tenant).copied().unwrap_or_default();
            if Limits::exceeded(has + wanted.price.bytes, wanted.tenant_bytes_max) {
                return Turn::Pass;
            }
            permit = self.0.memory.try_acquire(wanted.price.bytes).ok();
            if permit.is_some() {
                Turn::Take
            } else {
                Turn::Hold
            }
        });
        self.0.metrics.lines(*running, waiting.len());
        let (next, permit) = next.zip(permit)?;
        *running += 1;
        let Wanted {
            tenant,
            price,
            tenant_bytes_max,
        } = next.wanted;
        *held.entry(tenant.clone()).or_default() += price.bytes;
        let taken = Held {
            permit,
            charged: Some(Charge {
                tenant,
                bytes: price.bytes,
                most: tenant_bytes_max,
            }),
            slot: Slot::Taken,
            admission: self.clone(),
        };
        Some((taken, next.granted))
    }

    fn full(&self, wanted: u64) -> BudgetExceeded {
        BudgetExceeded {
            name: self.0.memory.name(),
            wanted,
            used: self.0.memory.used(),
            limit: self.0.memory.limit(),
        }
    }

    /// What stands in the way of that many bytes, if it still does: the share, or the process.
    fn memory_lacking(&self, bytes: u64) -> BudgetExceeded {
        let refused = self.0.memory.try_acquire(bytes).err();
        refused.unwrap_or_else(|| self.full(bytes))
    }

    fn waited(&self, bytes: u64) -> QueryError {
        let seconds = self.0.settings.wait_max.as_secs_f64();
        QueryError::new(
            ErrorKind::LimitExceeded,
            format!(
                "the query waited {seconds} s (querier.wait_max) for one of {} slots and for memory: {}; ask for a shorter range or fewer series, or try again later",
                self.0.settings.running_max,
                self.memory_lacking(bytes)
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn admission(running_max: usize, waiting_max: usize, wait_ms: u64) -> Admission {
        let settings = AdmissionSettings {
            running_max,
            waiting_max,
            wait_max: Duration::from_millis(wait_ms),
        };
        let memory = ByteBudget::new("queries", 100);
        Admission::new(settings, memory, Metrics::new(&mut Registry::default()))
    }

    fn wanted(tenant: &str, bytes: u64) -> Wanted {
        Wanted {
            tenant: TenantId::parse(tenant).unwrap(),
            price: Price { bytes, weight: 1 },
            tenant_bytes_max: 50,
        }
    }

    #[tokio::test]
    async fn a_slot_and_memory_are_taken_and_come_back() {
        let admission = admission(1, 10, 60_000);
        let unlimited = Wanted {
            tenant_bytes_max: 0,
            ..wanted("a", 50)
        };
        let mut first = admission.wait(unlimited).await.unwrap();
        let second = tokio::spawn({
            let admission = admission.clone();
            async move { admission.wait(wanted("b", 50)).await }
        });
        tokio::task::yield_now().await;
        first.grow(10).unwrap();
        // The slot alone is not enough: 60 of 100 bytes are still held.
        first.scanned(60);
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert_eq!(admission.0.memory.used(), 50);
        drop(second);
        assert!(admission.0.lines.lock().held.is_empty());
        assert_eq!(admission.0.memory.used(), 0);
        assert_eq!(admission.0.lines.lock().running, 0);
    }

    #[tokio::test]
    async fn what_is_taken_beyond_the_plan_counts_for_the_tenant() {
        let admission = admission(4, 10, 60_000);
        let of_tenant = || {
            let lines = admission.0.lines.lock();
            lines.held.values().copied().collect::<Vec<_>>()
        };
        let mut first = admission.wait(wanted("a", 10)).await.unwrap();
        first.grow(20).unwrap();
        let mut second = admission.wait(wanted("a", 10)).await.unwrap();
        assert_eq!(of_tenant(), [40]);
        let beside = second.grow(20).unwrap_err();
        assert_eq!(beside.kind(), ErrorKind::LimitExceeded);
        let alone = second.grow(50).unwrap_err();
        assert_eq!(alone.kind(), ErrorKind::Invalid);
        assert!(alone.to_string().contains("max_query_memory_bytes"));
        // Refused for the memory of all, it is taken off the account again.
        let rest = admission.0.memory.try_acquire(60).unwrap();
        let full = second.grow(5).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::LimitExceeded);
        assert!(!full.to_string().contains("max_query_memory_bytes"));
        assert_eq!(of_tenant(), [40]);
        drop((first, second, rest));
        assert!(of_tenant().is_empty());
    }

    #[tokio::test]
    async fn who_leaves_the_line_holds_up_nobody() {
        let admission = admission(1, 1, 60_000);
        let first = admission.wait(wanted("a", 10)).await.unwrap();
        let gone = tokio::spawn({
            let admission = admission.clone();
            async move { admission.wait(wanted("a", 10)).await.map(drop) }
        });
        while admission.0.lines.lock().waiting.len() == 0 {
            tokio::task::yield_now().await;
        }
        let error = admission.wait(wanted("a", 10)).await.unwrap_err();
        assert!(error.to_string().contains("querier.waiting_max"), "{error}");
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        let next = admission.wait(wanted("a", 10));
        let (next, ()) = tokio::join!(next, async { drop(first) });
        assert!(next.is_ok());
    }

    #[tokio::test]
    async fn what_can_never_run_and_what_waited_too_long_is_refused() {
        let admission = admission(1, 10, 1);
        let error = admission.wait(wanted("a", 101)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let error = admission.wait(wanted("a", 51)).await.unwrap_err();
        assert!(
            error.to_string().contains("max_query_memory_bytes"),
            "{error}"
        );
        let held = admission.wait(wanted("a", 10)).await.unwrap();
        let error = admission.wait(wanted("a", 10)).await.unwrap_err();
        assert!(error.to_string().contains("querier.wait_max"), "{error}");
        drop(held);
        assert!(admission.wait(wanted("a", 10)).await.is_ok());
    }

    #[tokio::test]
    async fn a_tenant_with_all_its_memory_out_lets_others_pass() {
        let admission = admission(4, 10, 60_000);
        let first = admission.wait(wanted("a", 40)).await.unwrap();
        let second = admission.wait(wanted("a", 20));
        let other = async {
            let other = admission.wait(wanted("b", 20)).await.unwrap();
            drop((other, first));
        };
        let (second, ()) = tokio::join!(second, other);
        assert_eq!(second.unwrap().bytes(), 20);
    }
}
