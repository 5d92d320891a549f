//! A bounded number of bytes, handed out as permits before the work that needs them.

use std::fmt;
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
    room: Option<Box<dyn Room>>,
}

/// What is left of the process's real memory, which shares are only a plan of.
pub trait Room: fmt::Debug + Send + Sync {
    /// Whether `bytes` more would fit.
    ///
    /// # Errors
    /// How full it is.
    fn take(&self, bytes: u64) -> Result<(), BudgetExceeded>;
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

impl BudgetExceeded {
    /// Whether it is more than the whole share, so that waiting is no use.
    pub const fn never_fits(&self) -> bool {
        self.wanted > self.limit
    }

    /// What helps.
    pub const fn remedy(&self) -> &'static str {
        match self.never_fits() {
            true => "send less at a time, or give the server more memory",
            false => "retry in a second, or give the server more memory",
        }
    }
}

impl ByteBudget {
    pub fn new(name: &'static str, limit: u64) -> Self {
        Self::with_room(name, limit, None)
    }

    /// A share that gives out nothing, whatever it has left itself, while there is no `room`.
    pub fn in_room(name: &'static str, limit: u64, room: impl Room + 'static) -> Self {
        Self::with_room(name, limit, Some(Box::new(room)))
    }

    fn with_room(name: &'static str, limit: u64, room: Option<Box<dyn Room>>) -> Self {
        Self(Arc::new(State {
            name,
            limit,
            used: AtomicU64::new(0),
            room,
        }))
    }

    /// Takes `bytes`, or says how full the share or the process is.
    ///
    /// # Errors
    /// [`BudgetExceeded`]; nothing is taken then.
    pub fn try_acquire(&self, bytes: u64) -> Result<Permit, BudgetExceeded> {
        let permit = self.take(bytes)?;
        if let (Some(room), 1..) = (&self.0.room, bytes) {
            room.take(bytes)?;
        }
        Ok(permit)
    }

    fn take(&self, bytes: u64) -> Result<Permit, BudgetExceeded> {
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

    /// A permit for nothing, to be made larger.
    pub fn nothing(&self) -> Permit {
        Permit {
            budget: self.clone(),
            bytes: 0,
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
    /// All that its share has.
    pub fn limit(&self) -> u64 {
        self.budget.limit()
    }

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

    /// Makes it `bytes`, above the share's limit if need be: of memory that is in use already, so
    /// that nobody else gets what is not there.
    pub fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            self.budget.0.used.fetch_add(more, Ordering::AcqRel);
            self.bytes = bytes;
        } else {
            self.shrink_to(bytes);
        }
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

    #[test]
    fn what_is_in_use_is_accounted_above_the_limit() {
        let budget = ByteBudget::new("test", 10);
        let mut heads = budget.try_acquire(0).unwrap();
        heads.set(12);
        assert_eq!(budget.try_acquire(1).unwrap_err().used, 12);
        heads.set(4);
        assert!(budget.try_acquire(6).is_ok());
    }

    #[derive(Debug)]
    struct Full;

    impl Room for Full {
        fn take(&self, wanted: u64) -> Result<(), BudgetExceeded> {
            Err(BudgetExceeded {
                name: "process",
                wanted,
                used: 9,
                limit: 9,
            })
        }
    }

    #[test]
    fn a_share_of_a_full_process_gives_out_nothing() {
        let budget = ByteBudget::in_room("test", 10, Full);
        let mut nothing = budget.try_acquire(0).unwrap();
        assert_eq!(nothing.grow(1).unwrap_err().name, "process");
        assert_eq!((nothing.bytes(), budget.used()), (0, 0));
    }
}
