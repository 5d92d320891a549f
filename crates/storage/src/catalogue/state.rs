//! The catalogue's state as a pure fold over its entries.
//!
//! # Invariants
//! - Entry `n + 1` follows version `n` (C1); an entry is applied wholly or, when it breaks a rule,
//!   not at all (C3).
//! - Block ids are unique. A level-0 block covers exactly ranges that its own entry advances, so
//!   that what the blocks cover is contiguous from 0 to the committed number and disjoint (S1).
//! - A block is live as long as one of its slices (tenant, shard) is; a slice is removed once. When
//!   the last one goes the block is garbage in that version, and no block of that id can be added
//!   until it is forgotten, which is after its objects are gone.
//! - Epochs and committed numbers only grow (S2); whoever raises the epoch is the one owner (S5).

use std::collections::BTreeMap;
use std::sync::Arc;

use scoria_block::{BlockMeta, DatasetMeta};
use scoria_model::{BlockId, CatalogueVersion, Epoch, NodeId, Seq, ShardSet, StreamId, TenantId};

use super::draft::Draft;
use super::entry::Entry;
use super::slices::{Quarantined, Removed, subtract};
use super::tombstone::{Deletion, TombstoneId};
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
    #[error("block {block} is added, but it was condemned or removed before")]
    BlockCondemned { block: BlockId },
    #[error("slices of block {block} are removed, but it is not live")]
    BlockNotLive { block: BlockId },
    #[error(
        "the shards {shards} of {tenant} in block {block} are removed, but only {live} are live"
    )]
    SliceNotLive {
        block: BlockId,
        tenant: TenantId,
        shards: ShardSet,
        live: ShardSet,
    },
    #[error("block {block} is condemned, but it is live")]
    CondemnedLive { block: BlockId },
    #[error("block {block} is forgotten, but it is not garbage")]
    NotGarbage { block: BlockId },
    #[error("block {block} is released, but no compactor leaves anything of it")]
    NotQuarantined { block: BlockId },
    #[error("deletion {id} is committed a second time")]
    TombstoneTwice { id: TombstoneId },
    #[error("deletion {id} is unknown")]
    TombstoneUnknown { id: TombstoneId },
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
    parts: Parts,
}

/// What a state holds beside blocks and streams.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Parts {
    /// What is no longer live of live blocks.
    pub(super) removed: BTreeMap<BlockId, Arc<Removed>>,
    /// The version that added each live block of level 1 or more.
    pub(super) merged: BTreeMap<BlockId, CatalogueVersion>,
    /// Blocks whose objects may go, and the version since which.
    pub(super) garbage: BTreeMap<BlockId, CatalogueVersion>,
    pub(super) deletions: BTreeMap<TombstoneId, Deletion>,
    /// What of live blocks cannot be merged.
    pub(super) quarantined: BTreeMap<BlockId, Quarantined>,
}

impl Parts {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty()
            && self.merged.is_empty()
            && self.garbage.is_empty()
            && self.deletions.is_empty()
            && self.quarantined.is_empty()
    }
}

impl CatalogueState {
    /// A state put together from its parts, as a snapshot holds them.
    pub(super) fn from_parts(
        version: CatalogueVersion,
        blocks: BTreeMap<BlockId, Arc<BlockMeta>>,
        streams: BTreeMap<StreamId, StreamState>,
        parts: Parts,
    ) -> Self {
        Self {
            version,
            blocks,
            streams,
            parts,
        }
    }

    pub(super) const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The number of the last entry folded in.
    pub fn version(&self) -> CatalogueVersion {
        self.version
    }

    /// The blocks with a live slice, by id. Not all of their datasets are live: see
    /// [`Self::live_datasets`].
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &Arc<BlockMeta>> {
        self.blocks.values()
    }

    pub fn block(&self, id: BlockId) -> Option<&Arc<BlockMeta>> {
        self.blocks.get(&id)
    }

    /// The shards of a tenant that are live in a block.
    pub fn live_shards(&self, block: BlockId, tenant: &TenantId) -> ShardSet {
        self.block(block).map_or(ShardSet::EMPTY, |meta| {
            let removed = self.parts.removed.get(&block);
            subtract(
                meta.shards_of(tenant),
                removed.and_then(|removed| removed.get(tenant)),
            )
        })
    }

    /// The live slices of a block: each tenant with its live shards, in order.
    pub fn live_slices(&self, meta: &BlockMeta) -> Vec<(TenantId, ShardSet)> {
        let removed = self.parts.removed.get(&meta.id);
        let live = |(tenant, shards): (TenantId, ShardSet)| {
            let gone = removed.and_then(|removed| removed.get(&tenant));
            let left = subtract(shards, gone);
            (!left.is_empty()).then_some((tenant, left))
        };
        meta.slices().into_iter().filter_map(live).collect()
    }

    /// Whether a dataset of a live block counts: whether its slice is live.
    pub fn is_live(&self, meta: &BlockMeta, dataset: &DatasetMeta) -> bool {
        let Some(removed) = self.parts.removed.get(&meta.id) else {
            return true;
        };
        removed
            .get(&dataset.tenant)
            .is_none_or(|gone| !gone.overlaps(dataset.shard()))
    }

    /// The live datasets of a block, with their places in it.
    pub fn live_datasets<'a>(
        &'a self,
        meta: &'a BlockMeta,
    ) -> impl Iterator<Item = (usize, &'a DatasetMeta)> {
        let datasets = meta.datasets.iter().enumerate();
        datasets.filter(|(_, dataset)| self.is_live(meta, dataset))
    }

    /// Blocks whose objects nothing in this version refers to, with the version since which.
    pub fn garbage(&self) -> impl ExactSizeIterator<Item = (BlockId, CatalogueVersion)> {
        self.parts.garbage.iter().map(|(id, since)| (*id, *since))
    }

    pub fn is_garbage(&self, block: BlockId) -> bool {
        self.parts.garbage.contains_key(&block)
    }

    /// The blocks of which something cannot be merged.
    pub fn quarantine(&self) -> impl ExactSizeIterator<Item = (BlockId, &Quarantined)> {
        self.parts.quarantined.iter().map(|(id, what)| (*id, what))
    }

    /// What of a block cannot be merged, some of which may have gone since.
    pub fn quarantined(&self, block: BlockId) -> Option<&Quarantined> {
        self.parts.quarantined.get(&block)
    }

    /// Whether no compactor is to merge these shards of a tenant.
    pub fn is_quarantined(&self, block: BlockId, tenant: &TenantId, shards: ShardSet) -> bool {
        let of_block = self.parts.quarantined.get(&block);
        of_block
            .and_then(|of_block| of_block.slices.get(tenant))
            .is_some_and(|left| left.overlaps(shards))
    }

    /// Every deletion in force.
    pub fn deletions(&self) -> impl ExactSizeIterator<Item = &Deletion> {
        self.parts.deletions.values()
    }

    pub fn deletion(&self, id: TombstoneId) -> Option<&Deletion> {
        self.parts.deletions.get(&id)
    }

    /// The deletions of a tenant that a block may still hold profiles of: a merge leaves out what
    /// was deleted before it, so that the same selector finds nothing more in a block that was older
    /// as a whole than the deletion's time.
    pub fn deletions_in<'a>(
        &'a self,
        meta: &'a BlockMeta,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = &'a Deletion> {
        let merged = self.parts.merged.get(&meta.id).copied();
        self.parts.deletions.values().filter(move |deletion| {
            deletion.tombstone.tenant == *tenant
                && merged.is_none_or(|merged| merged < deletion.since)
                && meta.min_time < deletion.tombstone.before
                && !merged.is_some_and(|merged| self.went_before(meta, merged, deletion))
        })
    }

    /// Whether the merge that wrote the block left out all that `deletion` takes of it, by an
    /// earlier deletion of the same selector.
    fn went_before(&self, meta: &BlockMeta, merged: CatalogueVersion, deletion: &Deletion) -> bool {
        self.parts.deletions.values().any(|earlier| {
            earlier.since <= merged
                && meta.max_time < earlier.tombstone.before
                && earlier.tombstone.tenant == deletion.tombstone.tenant
                && earlier.tombstone.selector == deletion.tombstone.selector
        })
    }

    /// The version of the tenant's newest deletion; 0 if there is none.
    pub fn newest_deletion(&self, tenant: &TenantId) -> CatalogueVersion {
        let of_tenant = |d: &&Deletion| d.tombstone.tenant == *tenant;
        let deletions = self.parts.deletions.values().filter(of_tenant);
        deletions.map(|d| d.since).max().unwrap_or_default()
    }

    pub(super) fn removed_of(&self, block: BlockId) -> Option<&Arc<Removed>> {
        self.parts.removed.get(&block)
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
        let Draft {
            streams,
            blocks,
            removed,
            garbage,
            forgotten,
            deletions,
            retired,
            quarantined,
            ..
        } = Draft::of(self, &entry.ops)?;
        self.streams.extend(streams);
        let merged = blocks.values().filter(|meta| meta.level > 0);
        let merged = merged.map(|meta| (meta.id, entry.version));
        self.parts.merged.extend(merged);
        self.blocks.extend(blocks);
        self.parts.removed.extend(removed);
        for (block, now) in quarantined {
            match now {
                Some(now) => self.parts.quarantined.insert(block, now),
                None => self.parts.quarantined.remove(&block),
            };
        }
        for block in garbage.keys() {
            self.parts.quarantined.remove(block);
            self.blocks.remove(block);
            self.parts.removed.remove(block);
            self.parts.merged.remove(block);
        }
        self.parts.garbage.extend(garbage);
        for block in forgotten {
            self.parts.garbage.remove(&block);
        }
        self.parts.deletions.extend(deletions);
        for id in retired {
            self.parts.deletions.remove(&id);
        }
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

#[cfg(test)]
mod slice_tests;
#[cfg(test)]
mod tests;
