//! Writes protobuf whose messages' lengths are known only at their ends.
//!
//! # Invariants
//! - Memory is taken from the budget before the buffer grows; once there is none, nothing is
//!   written any more.

use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, Permit};

use crate::wire::{BYTES, FIXED64, VARINT};

/// A length of 32 bits as a varint that is as long as the longest one.
const LONG: usize = 5;
/// The most that one number takes with its tag.
const NUMBER_MAX: usize = 20;

#[derive(Debug)]
pub(super) struct Writer {
    out: Vec<u8>,
    permit: Permit,
    full: Option<BudgetExceeded>,
}

impl Writer {
    pub(super) fn new(bytes: usize, memory: &ByteBudget) -> Result<Self, BudgetExceeded> {
        Ok(Self {
            permit: memory.try_acquire(bytes as u64)?,
            out: Vec::with_capacity(bytes),
            full: None,
        })
    }

    /// Whether the memory ran out.
    pub(super) const fn is_full(&self) -> bool {
        self.full.is_some()
    }

    pub(super) fn finish(self) -> Result<(Vec<u8>, Permit), BudgetExceeded> {
        match self.full {
            Some(exceeded) => Err(exceeded),
            None => Ok((self.out, self.permit)),
        }
    }

    pub(super) fn int(&mut self, number: u32, value: u64) {
        if self.has_room(NUMBER_MAX) {
            self.put(tag(number, VARINT));
            self.put(value);
        }
    }

    pub(super) fn fixed(&mut self, number: u32, value: u64) {
        if self.has_room(NUMBER_MAX) {
            self.put(tag(number, FIXED64));
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    pub(super) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        if self.has_room(NUMBER_MAX + bytes.len()) {
            self.put(tag(number, BYTES));
            self.put(bytes.len() as u64);
            self.out.extend_from_slice(bytes);
        }
    }

    /// An element of a packed list.
    pub(super) fn varint(&mut self, value: u64) {
        if self.has_room(NUMBER_MAX) {
            self.put(value);
        }
    }

    /// An element of a packed list of eight bytes each.
    pub(super) fn eight(&mut self, value: u64) {
        if self.has_room(NUMBER_MAX) {
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A field with a length, which is what `write` writes.
    pub(super) fn nested<T>(&mut self, number: u32, write: impl FnOnce(&mut Self) -> T) -> T {
        if !self.has_room(NUMBER_MAX) {
            return write(self);
        }
        self.put(tag(number, BYTES));
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LONG]);
        let result = write(self);
        let length = self.out.len() - start - LONG;
        if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
            // Most messages are short; they are moved up to their length.
            self.out[start] = short;
            self.out.copy_within(start + LONG.., start + 1);
            self.out.truncate(start + 1 + length);
        } else {
            let mut left = length;
            for at in 0..LONG {
                let more = if at + 1 < LONG { 0x80 } else { 0 };
                self.out[start + at] = (left & 0x7f) as u8 | more;
                left >>= 7;
            }
        }
        result
    }

    fn put(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        if self.full.is_some() {
            return false;
        }
        let needed = self.out.len() + bytes;
        if needed <= self.out.capacity() {
            return true;
        }
        let larger = needed.max(self.out.capacity() / 2 * 3);
        let more = (larger - self.out.capacity()) as u64;
        match self.permit.grow(more) {
            Ok(()) => {
                self.out.reserve_exact(larger - self.out.len());
                true
            }
            Err(exceeded) => {
                self.full = Some(exceeded);
                false
            }
        }
    }
}

fn tag(number: u32, wire: u8) -> u64 {
    u64::from(number) << 3 | u64::from(wire)
}
