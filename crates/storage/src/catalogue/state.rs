//! The catalogue's state as a pure fold over its entries.
//!
//! # Invariants
//! - Entry `n + 1` follows version `n` (C1); an entry is applied wholly or, when it breaks a rule,
//!   not at all (C3).
//! - Block ids are unique. A level-0 block covers exactly ranges that its own entry advances, so
//!   that what the blocks cover is contiguous from 0 to the committed number and disjoint (S1).
//! - Epochs and committed numbers only grow (S2); whoever raises the epoch is the one owner (S5).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use scoria_block::BlockMeta;
use scoria_model::{BlockId, CatalogueVersion, Epoch, NodeId, Seq, StreamId};

use super::entry::Entry;
use super::txn::Op;

/// Most members a stream may have.
pub const MEMBERS_MAX: usize = 64;

/// What the catalogue knows of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    pub epoch: Epoch,
    pub owner: NodeId,
    pub members: Vec<NodeId>,
    /// How many members hold a record before it is acknowledged.
    pub quorum: u32,
    /// The last record that is in blocks.
    pub committed: Seq,
    /// The last record there will ever be, once that is decided.
    pub sealed_at: Option<Seq>,
}

impl StreamState {
    /// Whether every record that the stream will ever have is in blocks: nobody needs to ask its
    /// owner for a tail any more.
    pub fn is_finished(&self) -> bool {
        self.sealed_at == Some(self.committed)
    }
}

/// A rule that an entry breaks. The state is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("C1: entry {found} was offered where {expected} must follow")]
    Gap { expected: u64, found: u64 },
    #[error("block {block} is added a second time")]
    BlockTwice { block: BlockId },
    #[error(
        "S1: block {block} of level 0 covers {stream} ({from}, {to}], which its own commit does not advance"
    )]
    BlockWithoutAdvance {
        block: BlockId,
        stream: StreamId,
        from: u64,
        to: u64,
    },
    #[error("S1: block {block} of level 0 covers no stream")]
    BlockWithoutStream { block: BlockId },
    #[error("S1: block {block} covers {stream} up to {to}, but only {committed} is committed")]
    BlockBeyondCommitted {
        block: BlockId,
        stream: StreamId,
        to: u64,
        committed: u64,
    },
    #[error("S1: {stream} advances from {from}, but {committed} is committed")]
    AdvanceNotContiguous {
        stream: StreamId,
        from: u64,
        committed: u64,
    },
    #[error("S1: {stream} advances twice in one commit")]
    AdvanceTwice { stream: StreamId },
    #[error("S2: {stream} advances from {from} to {to}, which is not forward")]
    AdvanceNotForward {
        stream: StreamId,
        from: u64,
        to: u64,
    },
    #[error("{stream} advances to {to}, beyond its end at {end}")]
    AdvanceBeyondEnd { stream: StreamId, to: u64, end: u64 },
    #[error("S2: {stream} is at epoch {epoch}, the commit is of epoch {found}")]
    Epoch {
        stream: StreamId,
        epoch: u64,
        found: u64,
    },
    #[error("stream {stream} is unknown")]
    StreamUnknown { stream: StreamId },
    #[error("S5: stream {stream} is opened a second time")]
    StreamTwice { stream: StreamId },
    #[error("S5: stream {stream} names {owner} as owner, who is not one of its members")]
    OwnerNotMember { stream: StreamId, owner: String },
    #[error(
        "stream {stream} has {members} members and a quorum of {quorum}; at least one and at most {MEMBERS_MAX} distinct members and a quorum among them are needed"
    )]
    Quorum {
        stream: StreamId,
        members: usize,
        quorum: u32,
    },
    #[error("{stream} ended at {end} and is to end at {found}")]
    EndMoved {
        stream: StreamId,
        end: u64,
        found: u64,
    },
    #[error("S2: {stream} is to end at {end}, but {committed} is committed")]
    EndBeforeCommitted {
        stream: StreamId,
        end: u64,
        committed: u64,
    },
}

/// One version of the catalogue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CatalogueState {
    version: CatalogueVersion,
    blocks: BTreeMap<BlockId, Arc<BlockMeta>>,
    streams: BTreeMap<StreamId, StreamState>,
}

impl CatalogueState {
    /// A state put together from its parts, as a snapshot holds them.
    pub(super) fn from_parts(
        version: CatalogueVersion,
        blocks: BTreeMap<BlockId, Arc<BlockMeta>>,
        streams: BTreeMap<StreamId, StreamState>,
    ) -> Self {
        Self {
            version,
            blocks,
            streams,
        }
    }

    /// The number of the last entry folded in.
    pub fn version(&self) -> CatalogueVersion {
        self.version
    }

    /// The live blocks by id, which is by time of creation.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &Arc<BlockMeta>> {
        self.blocks.values()
    }

    pub fn block(&self, id: BlockId) -> Option<&Arc<BlockMeta>> {
        self.blocks.get(&id)
    }

    /// Every stream there ever was, by id.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = (&StreamId, &StreamState)> {
        self.streams.iter()
    }

    pub fn stream(&self, id: &StreamId) -> Option<&StreamState> {
        self.streams.get(id)
    }

    /// The streams that may have records that are in no block yet.
    pub fn open_streams(&self) -> impl Iterator<Item = (&StreamId, &StreamState)> {
        self.streams
            .iter()
            .filter(|(_, state)| !state.is_finished())
    }

    /// Folds one entry in.
    ///
    /// # Errors
    /// The rule that the entry breaks; the state is unchanged then.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Violation> {
        let expected = self.version.0 + 1;
        if entry.version.0 != expected {
            return Err(Violation::Gap {
                expected,
                found: entry.version.0,
            });
        }
        let draft = Draft::of(self, &entry.ops)?;
        let Draft {
            streams, blocks, ..
        } = draft;
        self.streams.extend(streams);
        self.blocks.extend(blocks);
        self.version = entry.version;
        Ok(())
    }

    /// Whether `ops` could follow this version.
    ///
    /// # Errors
    /// The rule that they would break.
    pub fn admits(&self, ops: &[Op]) -> Result<(), Violation> {
        Draft::of(self, ops).map(drop)
    }
}

/// The changes of one entry, checked one after the other, before any of them is made.
struct Draft<'a> {
    base: &'a CatalogueState,
    streams: BTreeMap<StreamId, StreamState>,
    blocks: BTreeMap<BlockId, Arc<BlockMeta>>,
    advanced: BTreeMap<StreamId, (Seq, Seq)>,
}

impl<'a> Draft<'a> {
    fn of(base: &'a CatalogueState, ops: &[Op]) -> Result<Self, Violation> {
        let mut draft = Self {
            base,
            streams: BTreeMap::new(),
            blocks: BTreeMap::new(),
            advanced: BTreeMap::new(),
        };
        for op in ops {
            draft.apply(op)?;
        }
        for block in draft.blocks.values() {
            draft.check_cover(block)?;
        }
        Ok(draft)
    }

    fn apply(&mut self, op: &Op) -> Result<(), Violation> {
        match op {
            Op::AddBlock(meta) => self.add_block(meta),
            Op::OpenStream {
                stream,
                epoch,
                owner,
                members,
                quorum,
            } => {
                let state = StreamState {
                    epoch: *epoch,
                    owner: owner.clone(),
                    members: members.clone(),
                    quorum: *quorum,
                    committed: Seq(0),
                    sealed_at: None,
                };
                self.open(stream, state)
            }
            Op::Advance {
                stream,
                epoch,
                from,
                to,
            } => self.advance(stream, *epoch, (*from, *to)),
            Op::SealStream {
                stream,
                epoch,
                owner,
            } => self.seal(stream, *epoch, owner),
            Op::CloseStream { stream, epoch, at } => self.close(stream, *epoch, *at),
        }
    }

    fn add_block(&mut self, meta: &Arc<BlockMeta>) -> Result<(), Violation> {
        let block = meta.id;
        if self.base.blocks.contains_key(&block) {
            return Err(Violation::BlockTwice { block });
        }
        match self.blocks.entry(block) {
            Slot::Occupied(_) => Err(Violation::BlockTwice { block }),
            Slot::Vacant(slot) => {
                slot.insert(Arc::clone(meta));
                Ok(())
            }
        }
    }

    /// What a new block says it covers against what its entry commits.
    fn check_cover(&self, meta: &BlockMeta) -> Result<(), Violation> {
        let block = meta.id;
        if meta.level == 0 && meta.streams.is_empty() {
            return Err(Violation::BlockWithoutStream { block });
        }
        for range in &meta.streams {
            if meta.level == 0 {
                if self.advanced.get(&range.stream) != Some(&(range.from, range.to)) {
                    return Err(Violation::BlockWithoutAdvance {
                        block,
                        stream: range.stream.clone(),
                        from: range.from.0,
                        to: range.to.0,
                    });
                }
            } else {
                let committed = self.look(&range.stream)?.committed;
                if range.to > committed {
                    return Err(Violation::BlockBeyondCommitted {
                        block,
                        stream: range.stream.clone(),
                        to: range.to.0,
                        committed: committed.0,
                    });
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, stream: &StreamId, state: StreamState) -> Result<(), Violation> {
        let stream = stream.clone();
        if self.base.streams.contains_key(&stream) || self.streams.contains_key(&stream) {
            return Err(Violation::StreamTwice { stream });
        }
        let members = state.members.len();
        let distinct = (0..members).all(|at| !state.members[..at].contains(&state.members[at]));
        let quorum_among = 1 <= state.quorum && state.quorum as usize <= members;
        if members > MEMBERS_MAX || !distinct || !quorum_among {
            return Err(Violation::Quorum {
                stream,
                members,
                quorum: state.quorum,
            });
        }
        if !state.members.contains(&state.owner) {
            return Err(Violation::OwnerNotMember {
                stream,
                owner: state.owner.0.to_string(),
            });
        }
        self.streams.insert(stream, state);
        Ok(())
    }

    fn advance(
        &mut self,
        stream: &StreamId,
        epoch: Epoch,
        (from, to): (Seq, Seq),
    ) -> Result<(), Violation> {
        if self.advanced.contains_key(stream) {
            return Err(Violation::AdvanceTwice {
                stream: stream.clone(),
            });
        }
        let state = self.at_epoch(stream, epoch)?;
        if from != state.committed {
            return Err(Violation::AdvanceNotContiguous {
                stream: stream.clone(),
                from: from.0,
                committed: state.committed.0,
            });
        }
        if to <= from {
            return Err(Violation::AdvanceNotForward {
                stream: stream.clone(),
                from: from.0,
                to: to.0,
            });
        }
        if let Some(end) = state.sealed_at.filter(|&end| to > end) {
            return Err(Violation::AdvanceBeyondEnd {
                stream: stream.clone(),
                to: to.0,
                end: end.0,
            });
        }
        state.committed = to;
        self.advanced.insert(stream.clone(), (from, to));
        Ok(())
    }

    fn seal(&mut self, stream: &StreamId, epoch: Epoch, owner: &NodeId) -> Result<(), Violation> {
        let state = self.edit(stream)?;
        if epoch <= state.epoch {
            return Err(Violation::Epoch {
                stream: stream.clone(),
                epoch: state.epoch.0,
                found: epoch.0,
            });
        }
        if !state.members.contains(owner) {
            return Err(Violation::OwnerNotMember {
                stream: stream.clone(),
                owner: owner.0.to_string(),
            });
        }
        state.epoch = epoch;
        state.owner = owner.clone();
        Ok(())
    }

    fn close(&mut self, stream: &StreamId, epoch: Epoch, at: Seq) -> Result<(), Violation> {
        let state = self.at_epoch(stream, epoch)?;
        if let Some(end) = state.sealed_at.filter(|&end| end != at) {
            return Err(Violation::EndMoved {
                stream: stream.clone(),
                end: end.0,
                found: at.0,
            });
        }
        if at < state.committed {
            return Err(Violation::EndBeforeCommitted {
                stream: stream.clone(),
                end: at.0,
                committed: state.committed.0,
            });
        }
        state.sealed_at = Some(at);
        Ok(())
    }

    fn look(&self, stream: &StreamId) -> Result<&StreamState, Violation> {
        self.streams
            .get(stream)
            .or_else(|| self.base.streams.get(stream))
            .ok_or_else(|| Violation::StreamUnknown {
                stream: stream.clone(),
            })
    }

    fn edit(&mut self, stream: &StreamId) -> Result<&mut StreamState, Violation> {
        if !self.streams.contains_key(stream) {
            let state = self.look(stream)?.clone();
            self.streams.insert(stream.clone(), state);
        }
        self.streams
            .get_mut(stream)
            .ok_or_else(|| Violation::StreamUnknown {
                stream: stream.clone(),
            })
    }

    fn at_epoch(&mut self, stream: &StreamId, epoch: Epoch) -> Result<&mut StreamState, Violation> {
        let state = self.edit(stream)?;
        if state.epoch != epoch {
            return Err(Violation::Epoch {
                stream: stream.clone(),
                epoch: state.epoch.0,
                found: epoch.0,
            });
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests;
