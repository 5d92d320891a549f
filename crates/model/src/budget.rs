//! A bounded number of bytes, handed out as permits before the work that needs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A named share of the process's memory.
///
/// Nothing waits here: a caller that gets no permit sheds the work (429 or 503 with Retry-After).
#[derive(Debug, Clone)]
pub struct ByteBudget(Arc<State>);

#[derive(Debug)]
struct State {
    name: &'static str,
    limit: u64,
    used: AtomicU64,
}

/// The bytes of one piece of work; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: ByteBudget,
    bytes: u64,
}

/// The share is used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the memory share {name} is used up: {wanted} bytes wanted, {used} of {limit} in use")]
pub struct BudgetExceeded {
    pub name: &'static str,
    pub wanted: u64,
    pub used: u64,
    pub limit: u64,
}

impl ByteBudget {
    pub fn new(name: &'static str, limit: u64) -> Self {
        Self(Arc::new(State {
            name,
            limit,
            used: AtomicU64::new(0),
        }))
    }

    /// Takes `bytes`, or says how full the share is.
    ///
    /// # Errors
    /// [`BudgetExceeded`]; nothing is taken then.
    pub fn try_acquire(&self, bytes: u64) -> Result<Permit, BudgetExceeded> {
        let taken = self
            .0
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.0.limit)
            });
        match taken {
            Ok(_) => Ok(Permit {
                budget: self.clone(),
                bytes,
            }),
            Err(used) => Err(BudgetExceeded {
                name: self.0.name,
                wanted: bytes,
                used,
                limit: self.0.limit,
            }),
        }
    }

    pub fn name(&self) -> &'static str {
        self.0.name
    }

    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Acquire)
    }

    pub fn limit(&self) -> u64 {
        self.0.limit
    }
}

impl Permit {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more for the same work.
    ///
    /// # Errors
    /// [`BudgetExceeded`]; the permit keeps what it had.
    pub fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        let mut more = self.budget.try_acquire(bytes)?;
        self.bytes += more.bytes;
        more.bytes = 0;
        Ok(())
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        self.budget.0.used.fetch_sub(back, Ordering::AcqRel);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_the_limit_and_all_comes_back() {
        let budget = ByteBudget::new("test", 10);
        let mut first = budget.try_acquire(6).unwrap();
        assert_eq!(budget.try_acquire(5).unwrap_err().used, 6);
        first.grow(4).unwrap();
        assert!(first.grow(1).is_err());
        first.shrink_to(3);
        assert_eq!(budget.used(), 3);
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_acquire(u64::MAX).is_err());
    }
}
