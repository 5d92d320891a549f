//! One chunk of a recording: its header, its metadata, and its events one after the other.
//!
//! ```text
//! header 68 bytes │ event │ event │ checkpoint │ event │ … │ metadata │ …
//! ```
//!
//! Every event says how long it is, checkpoints (constants) and the metadata included, so that a
//! walk over the chunk finds all of them in whatever order the writer left them.
//!
//! # Invariants
//! - A chunk is read alone: classes, constants and their keys mean nothing in the next one.
//! - Events lie one behind the other inside the chunk, and a walk over them ends.
//!
//! # What it must not know
//! Which events mean something.

use super::cursor::Cursor;
use super::error::JfrError;
use super::metadata::Metadata;

const SIGNATURE: &[u8] = b"FLR\0";
const HEADER_BYTES: usize = 68;
const COMPRESSED_INTEGERS: u8 = 1;
/// Event types that every chunk has.
pub(crate) const METADATA: u64 = 0;
pub(crate) const CHECKPOINT: u64 = 1;

/// A chunk whose header was read.
#[derive(Debug)]
pub(crate) struct Chunk<'a, 'w> {
    body: Cursor<'a, 'w>,
    metadata: usize,
    /// One past its last byte in the recording.
    pub(crate) end: usize,
    ticks_per_second: u64,
}

/// An event without what is in it.
#[derive(Debug)]
pub(crate) struct Event<'a, 'w> {
    pub(crate) kind: u64,
    /// Where it starts in the recording.
    pub(crate) at: usize,
    /// Behind its size and type.
    pub(crate) fields: Cursor<'a, 'w>,
}

impl<'a, 'w> Chunk<'a, 'w> {
    /// The chunk that starts where `cursor` stands.
    pub(crate) fn read(cursor: &Cursor<'a, 'w>) -> Result<Self, JfrError> {
        let at = cursor.at();
        let mut header = cursor.clone();
        if header.n_left() < SIGNATURE.len() || header.take(SIGNATURE.len())? != SIGNATURE {
            return Err(JfrError::Signature { at });
        }
        let (major, minor) = (header.u16()?, header.u16()?);
        if major != 2 {
            return Err(JfrError::Version { at, major, minor });
        }
        let left = cursor.n_left();
        let size = header.u64()?;
        let _constants_at = header.u64()?;
        let metadata_at = header.u64()?;
        let _start_and_duration_ns = (header.u64()?, header.u64()?);
        let _start_ticks = header.u64()?;
        let ticks_per_second = header.u64()?;
        let features = header.take(4)?;
        let whole = usize::try_from(size).ok();
        let whole = whole.filter(|size| (HEADER_BYTES..=left).contains(size));
        let whole = whole.ok_or(JfrError::ChunkSize { at, size, left })?;
        let damaged = |problem| JfrError::Damaged { at, problem };
        if features[3] & COMPRESSED_INTEGERS == 0 {
            return Err(damaged(
                "its integers are not compressed, which no JVM does",
            ));
        }
        if ticks_per_second == 0 {
            return Err(damaged("its clock has no ticks"));
        }
        let metadata = usize::try_from(metadata_at).ok();
        let metadata = metadata.filter(|place| (HEADER_BYTES..whole).contains(place));
        let outside = || damaged("its metadata lies outside of the chunk");
        Ok(Self {
            body: cursor.over(at + HEADER_BYTES, at + whole),
            metadata: at + metadata.ok_or_else(outside)?,
            end: at + whole,
            ticks_per_second,
        })
    }

    /// A cursor at a place of the chunk that was found before.
    pub(crate) fn at(&self, place: usize) -> Cursor<'a, 'w> {
        self.body.over(place, self.end)
    }

    /// How long some ticks of the recording's clock are.
    pub(crate) fn nanoseconds(&self, ticks: i64) -> i64 {
        let ns = i128::from(ticks) * 1_000_000_000 / i128::from(self.ticks_per_second);
        i64::try_from(ns).unwrap_or(i64::MAX)
    }

    pub(crate) fn metadata(&self) -> Result<Metadata<'a>, JfrError> {
        let mut event = Self::event(self.at(self.metadata))?;
        if event.kind != METADATA {
            return Err(JfrError::Damaged {
                at: event.at,
                problem: "there is another event where the metadata should be",
            });
        }
        Metadata::read(&mut event.fields)
    }

    /// Hands every event to `each`, in the order in which they stand.
    pub(crate) fn each(
        &self,
        mut each: impl FnMut(Event<'a, 'w>) -> Result<(), JfrError>,
    ) -> Result<(), JfrError> {
        let mut left = self.body.clone();
        while left.n_left() > 0 {
            let event = Self::event(left.clone())?;
            left = left.over(event.fields.end(), self.end);
            each(event)?;
        }
        Ok(())
    }

    fn event(mut cursor: Cursor<'a, 'w>) -> Result<Event<'a, 'w>, JfrError> {
        let at = cursor.at();
        let damaged = |problem| JfrError::Damaged { at, problem };
        let left = cursor.n_left();
        let size = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        if size > left {
            return Err(damaged("an event is longer than what is left of its chunk"));
        }
        let kind = cursor.varint()?;
        let header_bytes = cursor.at() - at;
        if size < header_bytes {
            return Err(damaged("an event is shorter than its own size and type"));
        }
        Ok(Event {
            kind,
            at,
            fields: cursor.over(cursor.at(), at + size),
        })
    }
}
