//! A whole recording: what was sampled where, added up over all of its chunks.
//!
//! ```text
//! bytes ──Chunk──► Metadata ──► Layouts ─┐
//!              └─► Constants ────────────┴─► events ──► stack, tag ──► Rows of a kind
//! ```
//!
//! # Invariants
//! - Events of the same kind, stacktrace, context and span are one row, whichever chunk they are in.
//! - An event whose stacktrace is not in the recording is left out and counted.
//!
//! # What it must not know
//! Labels, rates, times, and how profiles are stored.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use scoria_model::ByteBudget;

use super::allowance::Allowance;
use super::chunk::Chunk;
use super::constants::Constants;
use super::cursor::Cursor;
use super::error::JfrError;
use super::frames::Frames;
use super::kinds::Kind;
use super::rows::Rows;
use super::samples::ChunkReader;
use crate::Dropped;

/// Places in a recording are 32 bits wide.
const BYTES_MAX: usize = u32::MAX as usize;

/// Whose sample it is, as numbers that the snapshot explains; 0 where it is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Tag {
    pub(crate) context: u64,
    pub(crate) span: u64,
    pub(crate) span_name: u64,
}

/// A recording, read whole.
#[derive(Debug)]
pub struct Recording {
    pub(crate) totals: Totals,
    /// Covers the totals.
    pub(crate) allowance: Allowance,
}

/// What all chunks add up to.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) frames: Frames,
    pub(crate) tags: Vec<Tag>,
    pub(crate) rows: [Rows; Kind::ALL.len()],
    pub(crate) event: String,
    /// Whether the setting `event` that was read last says that the wall clock is sampled.
    pub(crate) is_wall: bool,
    pub(crate) dropped: Dropped,
    pub(crate) n_events: u64,
    numbers: HashMap<Tag, u32, FixedState>,
}

impl Recording {
    /// Reads a recording, which is plain: what was gzip is decompressed. `seed` is secret to the
    /// process, so that no sender can provoke hash collisions.
    ///
    /// # Errors
    /// It is damaged, cut, of an unknown version, or takes more than it may.
    pub fn read(bytes: &[u8], seed: u64, memory: &ByteBudget) -> Result<Self, JfrError> {
        if bytes.len() > BYTES_MAX {
            return Err(JfrError::TooLong {
                actual: bytes.len(),
                limit: BYTES_MAX,
            });
        }
        let allowance = Allowance::of_recording(bytes.len(), memory);
        let mut totals = Totals {
            frames: Frames::new(seed),
            tags: Vec::new(),
            rows: Default::default(),
            numbers: HashMap::with_hasher(FixedState::with_seed(seed)),
            event: String::new(),
            is_wall: false,
            dropped: Dropped::default(),
            n_events: 0,
        };
        totals.read(Cursor::new(bytes, &allowance))?;
        Ok(Self { totals, allowance })
    }

    /// What was sampled, as the profiler calls it (`cpu`, `itimer`, `wall`, `alloc`); empty if the
    /// recording does not say.
    pub fn event(&self) -> &str {
        &self.totals.event
    }

    /// What was left out, by reason.
    pub const fn dropped(&self) -> &Dropped {
        &self.totals.dropped
    }

    /// Steps that reading took, profiles included that were made since; a few for each byte.
    pub const fn steps(&self) -> u64 {
        self.allowance.steps()
    }

    /// Events that are samples, those that were left out included.
    pub const fn n_events(&self) -> u64 {
        self.totals.n_events
    }
}

impl Totals {
    fn read(&mut self, recording: Cursor<'_, '_>) -> Result<(), JfrError> {
        let end = recording.end();
        let mut left = recording;
        loop {
            let chunk = Chunk::read(&left)?;
            left = left.over(chunk.end, end);
            let metadata = chunk.metadata()?;
            let constants = Constants::read(&chunk, &metadata)?;
            let mut reader = ChunkReader::new(self, &chunk, &metadata, &constants)?;
            reader.settings()?;
            reader.samples()?;
            let of_chunk = reader.held_bytes() + constants.held_bytes() + metadata.held_bytes();
            left.allowance().release(of_chunk);
            if left.n_left() == 0 {
                break;
            }
        }
        self.rows.iter_mut().try_for_each(Rows::settle)
    }

    /// The number of a tag.
    pub(crate) fn tag(&mut self, tag: Tag, allowance: &Allowance) -> Result<u32, JfrError> {
        if let Some(&known) = self.numbers.get(&tag) {
            return Ok(known);
        }
        // Doubled, at seven eighths.
        const ENTRY_BYTES: u64 = 2 * (size_of::<(Tag, u32)>() as u64 + 5);
        allowance.hold(ENTRY_BYTES)?;
        let number = self.tags.len() as u32;
        self.numbers.insert(tag, number);
        allowance.push(&mut self.tags, tag)?;
        Ok(number)
    }
}
