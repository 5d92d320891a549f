//! What reading one recording may take: steps of work in proportion to its size, and memory.
//!
//! # Invariants
//! - The steps end. Nothing in a recording should make a reader take more than a few for each of
//!   its bytes; this is what holds if something does.
//! - Memory is taken from the budget before it is filled.
//!
//! # What it must not know
//! What the work and the memory are for.

use std::cell::{Cell, RefCell};

use scoria_model::{ByteBudget, Permit};

use super::error::JfrError;

/// Steps that any recording may take, whatever its size.
const STEPS_BASE: u64 = 1 << 22;
/// Steps for each byte of a recording; real ones take two or three.
const STEPS_PER_BYTE: u64 = 64;
/// Memory is taken from the budget at least so much at a time.
const HELD_STEP_BYTES: u64 = 64 * 1024;
/// Of a hash table, for each entry: an index and a control byte, doubled at seven eighths.
const TABLE_BYTES: u64 = 12;

/// What is left for a recording, and what it holds.
#[derive(Debug)]
pub(crate) struct Allowance {
    steps_max: u64,
    steps_left: Cell<u64>,
    held: Cell<u64>,
    permit: RefCell<Permit>,
}

impl Allowance {
    pub(crate) fn of_recording(bytes: usize, memory: &ByteBudget) -> Self {
        let steps_max = STEPS_BASE + STEPS_PER_BYTE * bytes as u64;
        Self {
            steps_max,
            steps_left: Cell::new(steps_max),
            held: Cell::new(0),
            permit: RefCell::new(memory.nothing()),
        }
    }

    /// Takes `steps` at the place `at`.
    #[inline]
    pub(crate) fn step(&self, steps: u64, at: usize) -> Result<(), JfrError> {
        match self.steps_left.get().checked_sub(steps) {
            Some(left) => {
                self.steps_left.set(left);
                Ok(())
            }
            None => Err(JfrError::Work { at }),
        }
    }

    /// Pays for `bytes` that are about to be filled.
    pub(crate) fn hold(&self, bytes: u64) -> Result<(), JfrError> {
        let held = self.held.get() + bytes;
        self.held.set(held);
        let mut permit = self.permit.borrow_mut();
        let missing = held.saturating_sub(permit.bytes());
        if missing > 0 {
            permit.grow(missing.max(HELD_STEP_BYTES))?;
        }
        Ok(())
    }

    /// Gives back what was held for something that is gone.
    pub(crate) fn release(&self, bytes: u64) {
        let held = self.held.get().saturating_sub(bytes);
        self.held.set(held);
        self.permit.borrow_mut().shrink_to(held);
    }

    /// Bytes that are held now.
    #[cfg(test)]
    pub(crate) const fn held(&self) -> u64 {
        self.held.get()
    }

    /// Pays for another entry of a hash table of indexes.
    pub(crate) fn hold_entry(&self) -> Result<(), JfrError> {
        self.hold(TABLE_BYTES)
    }

    /// Appends to a vector, whose growth it pays for.
    #[inline]
    pub(crate) fn push<T>(&self, to: &mut Vec<T>, value: T) -> Result<(), JfrError> {
        if to.len() == to.capacity() {
            self.reserve(to, 1)?;
        }
        to.push(value);
        Ok(())
    }

    /// Makes room for `n` more in a vector that grows by half when it is full.
    pub(crate) fn reserve<T>(&self, to: &mut Vec<T>, n: usize) -> Result<(), JfrError> {
        const FIRST: usize = 16;
        if to.capacity() - to.len() < n {
            let new = (to.capacity() / 2).max(n).max(FIRST);
            self.hold((new * size_of::<T>()) as u64)?;
            to.reserve_exact(to.capacity() - to.len() + new);
        }
        Ok(())
    }

    /// Steps taken so far.
    pub(crate) const fn steps(&self) -> u64 {
        self.steps_max - self.steps_left.get()
    }

    #[cfg(test)]
    pub(crate) fn of_test(bytes: usize) -> Self {
        Self::of_recording(bytes, &ByteBudget::new("test", 1 << 40))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_end() {
        let allowance = Allowance::of_test(2);
        let steps = STEPS_BASE + 2 * STEPS_PER_BYTE;
        assert_eq!(allowance.step(steps, 0), Ok(()));
        assert_eq!(allowance.step(1, 7), Err(JfrError::Work { at: 7 }));
    }

    #[test]
    fn memory_is_paid_for_and_given_back() {
        let budget = ByteBudget::new("test", 1 << 20);
        let allowance = Allowance::of_recording(0, &budget);
        let mut numbers = Vec::new();
        let full = (0..).find_map(|at: u64| allowance.push(&mut numbers, at).err());
        assert!(matches!(full, Some(JfrError::Memory(_))));
        assert!(numbers.capacity() * 8 <= 1 << 20);
        assert!(budget.used() >= numbers.capacity() as u64 * 8);
        allowance.release(allowance.held());
        assert_eq!(budget.used(), 0);
    }
}
