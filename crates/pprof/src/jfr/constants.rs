//! The constant pools of a chunk: where each constant stands, found by its class and key.
//!
//! Constants are not decoded before somebody asks for them: of a recording's symbols many belong
//! to stacktraces that no event of interest has.
//!
//! # Invariants
//! - A pool holds each key once; of several constants with the same key the last one counts.
//! - A pool takes sixteen bytes for each constant, twice that while it grows.
//!
//! # What it must not know
//! Methods, frames and what they are called.

use super::allowance::Allowance;
use super::chunk::{CHECKPOINT, Chunk};
use super::cursor::Cursor;
use super::error::JfrError;
use super::layout::Layout;
use super::metadata::Metadata;

/// The classes whose constants are kept; those of all others are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    Stacktraces,
    Methods,
    Classes,
    Symbols,
    Texts,
    ThreadStates,
}

impl Pool {
    pub(crate) const ALL: [Self; 6] = [
        Self::Stacktraces,
        Self::Methods,
        Self::Classes,
        Self::Symbols,
        Self::Texts,
        Self::ThreadStates,
    ];

    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Stacktraces => "jdk.types.StackTrace",
            Self::Methods => "jdk.types.Method",
            Self::Classes => "java.lang.Class",
            Self::Symbols => "jdk.types.Symbol",
            Self::Texts => "java.lang.String",
            Self::ThreadStates => "jdk.types.ThreadState",
        }
    }

    /// The fields of a constant that are read.
    pub(crate) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Stacktraces => &["frames"],
            Self::Methods => &["name", "type"],
            Self::Classes | Self::ThreadStates => &["name"],
            Self::Symbols | Self::Texts => &["string"],
        }
    }
}

/// Steps of all layouts of a chunk together; the JDK's have about a thousand.
const LAYOUT_STEPS_MAX: usize = 1 << 18;

/// One constant.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    at: u32,
}

/// Keys and places, sorted by key once it is complete.
#[derive(Debug, Default)]
struct Entries {
    entries: Vec<Entry>,
}

impl Entries {
    fn push(&mut self, entry: Entry, allowance: &Allowance) -> Result<(), JfrError> {
        let (len, capacity) = (self.entries.len(), self.entries.capacity());
        if len == capacity {
            // Before it grows: a sender can repeat a key as often as it likes.
            self.settle();
            allowance.step(len as u64, entry.at as usize)?;
            if self.entries.len() > capacity / 2 {
                allowance.push(&mut self.entries, entry)?;
                return Ok(());
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Sorts, and keeps the last constant of each key.
    fn settle(&mut self) {
        self.entries
            .sort_unstable_by_key(|entry| (entry.key, std::cmp::Reverse(entry.at)));
        self.entries.dedup_by_key(|entry| entry.key);
    }
}

/// The constants of one chunk.
#[derive(Debug)]
pub(crate) struct Constants {
    pools: [Entries; Pool::ALL.len()],
}

impl Constants {
    /// Collects the constants of all checkpoints of a chunk.
    pub(crate) fn read(chunk: &Chunk<'_, '_>, metadata: &Metadata<'_>) -> Result<Self, JfrError> {
        let mut reader = Reader {
            metadata,
            layouts: (0..metadata.n_classes()).map(|_| None).collect(),
            n_steps: 0,
            constants: Self {
                pools: Default::default(),
            },
        };
        chunk.each(|mut event| {
            if event.kind == CHECKPOINT {
                reader.checkpoint(&mut event.fields)?;
            }
            Ok(())
        })?;
        let mut constants = reader.constants;
        for pool in &mut constants.pools {
            pool.settle();
        }
        Ok(constants)
    }

    /// How many constants a pool has.
    pub(crate) const fn len(&self, pool: Pool) -> usize {
        self.pools[pool as usize].entries.len()
    }

    /// The number of a constant in its pool, and its place in the recording.
    pub(crate) fn find(&self, pool: Pool, key: u64) -> Option<(usize, usize)> {
        let entries = &self.pools[pool as usize].entries;
        let number = entries.binary_search_by_key(&key, |entry| entry.key).ok()?;
        Some((number, entries[number].at as usize))
    }

    /// Bytes of memory that it holds.
    pub(crate) fn held_bytes(&self) -> u64 {
        let entries = self.pools.iter().map(|pool| pool.entries.capacity());
        (entries.sum::<usize>() * size_of::<Entry>()) as u64
    }
}

struct Reader<'m, 'a> {
    metadata: &'m Metadata<'a>,
    /// By place of the class.
    layouts: Vec<Option<(Layout, Option<Pool>)>>,
    n_steps: usize,
    constants: Constants,
}

impl Reader<'_, '_> {
    fn checkpoint(&mut self, cursor: &mut Cursor<'_, '_>) -> Result<(), JfrError> {
        const START_DURATION_AND_DELTA: usize = 3;
        for _ in 0..START_DURATION_AND_DELTA {
            cursor.varint()?;
        }
        let _kinds = cursor.byte()?;
        for _ in 0..cursor.count(2)? {
            let at = cursor.at();
            let id = cursor.varint()?;
            let place = self.metadata.place(id).ok_or(JfrError::Damaged {
                at,
                problem: "there are constants of a class that the metadata does not describe",
            })?;
            self.pool(cursor, place, at)?;
        }
        Ok(())
    }

    fn pool(
        &mut self,
        cursor: &mut Cursor<'_, '_>,
        place: usize,
        at: usize,
    ) -> Result<(), JfrError> {
        let (layout, pool) = match &mut self.layouts[place] {
            Some(known) => known,
            unknown => {
                let layout = Layout::of(self.metadata, place, &[], at)?;
                self.n_steps += layout.n_steps();
                if self.n_steps > LAYOUT_STEPS_MAX {
                    return Err(JfrError::TooMany {
                        at,
                        what: "fields in the classes of its constants",
                        limit: LAYOUT_STEPS_MAX,
                    });
                }
                let name = &self.metadata.class(place).name;
                let mut pools = Pool::ALL.into_iter();
                unknown.insert((layout, pools.find(|pool| pool.class() == name)))
            }
        };
        for _ in 0..cursor.count(1 + layout.bytes_min())? {
            let key = cursor.varint()?;
            // A recording that is longer than this was refused.
            let at = cursor.at() as u32;
            layout.read(cursor, &mut [])?;
            if let Some(pool) = pool {
                let pool = &mut self.constants.pools[*pool as usize];
                pool.push(Entry { key, at }, cursor.allowance())?;
            }
        }
        Ok(())
    }
}
