//! The frames and stacktraces of a whole recording, each one once.
//!
//! # Invariants
//! - A name, a frame (name and line) and a stacktrace (frames) has one number, whichever chunk it
//!   comes from.
//!
//! # What it must not know
//! Keys of constants, and what is sampled at a stacktrace.

use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::allowance::Allowance;
use super::error::JfrError;

/// A place in the code: a method and the line in it, 0 if it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Frame {
    pub(crate) name: u32,
    pub(crate) line: u32,
}

/// Everything that stacktraces consist of.
#[derive(Debug)]
pub(crate) struct Frames {
    hash: FixedState,
    text: Vec<u8>,
    name_ends: Vec<u32>,
    names: HashTable<u32>,
    frames: Vec<Frame>,
    by_frame: HashTable<u32>,
    stack_frames: Vec<u32>,
    stack_ends: Vec<u32>,
    stacks: HashTable<u32>,
}

impl Frames {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hash: FixedState::with_seed(seed),
            text: Vec::new(),
            name_ends: Vec::new(),
            names: HashTable::new(),
            frames: Vec::new(),
            by_frame: HashTable::new(),
            stack_frames: Vec::new(),
            stack_ends: Vec::new(),
            stacks: HashTable::new(),
        }
    }

    pub(crate) const fn n_names(&self) -> usize {
        self.name_ends.len()
    }

    pub(crate) const fn n_frames(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn name(&self, name: u32) -> &[u8] {
        &self.text[run(&self.name_ends, name)]
    }

    pub(crate) fn frame(&self, frame: u32) -> Frame {
        self.frames[frame as usize]
    }

    /// The frames of a stacktrace, leaf first.
    pub(crate) fn stack(&self, stack: u32) -> &[u32] {
        &self.stack_frames[run(&self.stack_ends, stack)]
    }

    pub(crate) fn add_name(&mut self, name: &str, allowance: &Allowance) -> Result<u32, JfrError> {
        let (text, ends, hash) = (&self.text, &self.name_ends, &self.hash);
        let key = hash.hash_one(name.as_bytes());
        let same = |&known: &u32| &text[run(ends, known)] == name.as_bytes();
        if let Some(&known) = self.names.find(key, same) {
            return Ok(known);
        }
        let number = ends.len() as u32;
        allowance.hold_entry()?;
        allowance.reserve(&mut self.text, name.len())?;
        self.text.extend_from_slice(name.as_bytes());
        allowance.push(&mut self.name_ends, self.text.len() as u32)?;
        let (text, ends, hash) = (&self.text, &self.name_ends, &self.hash);
        self.names
            .insert_unique(key, number, |&known| hash.hash_one(&text[run(ends, known)]));
        Ok(number)
    }

    pub(crate) fn add_frame(
        &mut self,
        frame: Frame,
        allowance: &Allowance,
    ) -> Result<u32, JfrError> {
        let (frames, hash) = (&self.frames, &self.hash);
        let key = hash.hash_one(frame);
        let same = |&known: &u32| frames[known as usize] == frame;
        if let Some(&known) = self.by_frame.find(key, same) {
            return Ok(known);
        }
        let number = frames.len() as u32;
        allowance.hold_entry()?;
        allowance.push(&mut self.frames, frame)?;
        let (frames, hash) = (&self.frames, &self.hash);
        self.by_frame
            .insert_unique(key, number, |&known| hash.hash_one(frames[known as usize]));
        Ok(number)
    }

    pub(crate) fn add_stack(
        &mut self,
        stack: &[u32],
        allowance: &Allowance,
    ) -> Result<u32, JfrError> {
        let (frames, ends, hash) = (&self.stack_frames, &self.stack_ends, &self.hash);
        let key = hash.hash_one(stack);
        let same = |&known: &u32| &frames[run(ends, known)] == stack;
        if let Some(&known) = self.stacks.find(key, same) {
            return Ok(known);
        }
        let number = ends.len() as u32;
        allowance.hold_entry()?;
        allowance.reserve(&mut self.stack_frames, stack.len())?;
        self.stack_frames.extend_from_slice(stack);
        allowance.push(&mut self.stack_ends, self.stack_frames.len() as u32)?;
        let (frames, ends, hash) = (&self.stack_frames, &self.stack_ends, &self.hash);
        self.stacks.insert_unique(key, number, |&known| {
            hash.hash_one(&frames[run(ends, known)])
        });
        Ok(number)
    }
}

/// The run of entry `at`, which starts where the one before ends.
fn run(ends: &[u32], at: u32) -> Range<usize> {
    let at = at as usize;
    let start = at.checked_sub(1).map_or(0, |before| ends[before]);
    start as usize..ends[at] as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once() {
        let allowance = Allowance::of_test(0);
        let mut frames = Frames::new(1);
        let mut add = |name: &str, line| {
            let name = frames.add_name(name, &allowance).unwrap();
            frames.add_frame(Frame { name, line }, &allowance).unwrap()
        };
        let all = [add("a", 1), add("b", 1), add("a", 2), add("a", 1)];
        assert_eq!(all, [0, 1, 2, 0]);
        assert_eq!((frames.n_names(), frames.n_frames()), (2, 3));
        let mut stack = |stack: &[u32]| frames.add_stack(stack, &allowance).unwrap();
        let stacks = [stack(&[0, 1]), stack(&[]), stack(&[1, 0]), stack(&[0, 1])];
        assert_eq!(stacks, [0, 1, 2, 0]);
        assert_eq!(frames.stack(2), [1, 0]);
        assert_eq!(frames.name(frames.frame(1).name), b"b");
        assert!(allowance.held() > 0);
    }
}
