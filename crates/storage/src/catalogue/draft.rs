//! The changes of one entry: checked one after the other before any of them is made.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use scoria_block::BlockMeta;
use scoria_model::{BlockId, CatalogueVersion, Epoch, NodeId, Seq, ShardSet, StreamId, TenantId};

use super::slices::{Quarantined, Removed, subtract};
use super::state::{CatalogueState, MEMBERS_MAX, StreamState, Violation};
use super::tombstone::{Deletion, Tombstone, TombstoneId};
use super::txn::Op;

/// The changes of one entry, checked one after the other, before any of them is made.
pub(super) struct Draft<'a> {
    base: &'a CatalogueState,
    /// The version that the entry makes.
    version: CatalogueVersion,
    pub(super) streams: BTreeMap<StreamId, StreamState>,
    pub(super) blocks: BTreeMap<BlockId, Arc<BlockMeta>>,
    advanced: BTreeMap<StreamId, (Seq, Seq)>,
    /// What is removed of blocks that keep a slice.
    pub(super) removed: BTreeMap<BlockId, Arc<Removed>>,
    /// Blocks that have no slice left, or that will never have been.
    pub(super) garbage: BTreeMap<BlockId, CatalogueVersion>,
    pub(super) forgotten: Vec<BlockId>,
    pub(super) deletions: BTreeMap<TombstoneId, Deletion>,
    pub(super) retired: Vec<TombstoneId>,
    /// New quarantine of blocks; `None` where it ends.
    pub(super) quarantined: BTreeMap<BlockId, Option<Quarantined>>,
}

impl<'a> Draft<'a> {
    pub(super) fn of(base: &'a CatalogueState, ops: &[Op]) -> Result<Self, Violation> {
        let mut draft = Self {
            base,
            version: CatalogueVersion(base.version().0 + 1),
            streams: BTreeMap::new(),
            blocks: BTreeMap::new(),
            advanced: BTreeMap::new(),
            removed: BTreeMap::new(),
            garbage: BTreeMap::new(),
            forgotten: Vec::new(),
            deletions: BTreeMap::new(),
            retired: Vec::new(),
            quarantined: BTreeMap::new(),
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
            Op::RemoveSlices { block, slices } => self.remove(*block, slices),
            Op::Condemn(block) => self.condemn(*block),
            Op::Forget(block) => self.forget(*block),
            Op::Delete(tombstone) => self.delete(tombstone),
            Op::Retire(tombstone) => self.retire(*tombstone),
            Op::Quarantine { block, slices, why } => self.quarantine(*block, slices, why),
            Op::Release(block) => self.release(*block),
        }
    }

    fn add_block(&mut self, meta: &Arc<BlockMeta>) -> Result<(), Violation> {
        let block = meta.id;
        if self.base.block(block).is_some() {
            return Err(Violation::BlockTwice { block });
        }
        if self.base.is_garbage(block) || self.garbage.contains_key(&block) {
            return Err(Violation::BlockCondemned { block });
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
        if self.base.stream(&stream).is_some() || self.streams.contains_key(&stream) {
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
            .or_else(|| self.base.stream(stream))
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

    fn remove(&mut self, block: BlockId, slices: &[(TenantId, ShardSet)]) -> Result<(), Violation> {
        let meta = self
            .base
            .block(block)
            .filter(|_| !self.garbage.contains_key(&block))
            .ok_or(Violation::BlockNotLive { block })?;
        let before = self
            .removed
            .get(&block)
            .or_else(|| self.base.removed_of(block));
        let mut gone = before.map_or_else(Removed::new, |removed| (**removed).clone());
        for (tenant, shards) in slices {
            let live = subtract(meta.shards_of(tenant), gone.get(tenant));
            if shards.is_empty() || !live.contains(*shards) {
                return Err(Violation::SliceNotLive {
                    block,
                    tenant: tenant.clone(),
                    shards: *shards,
                    live,
                });
            }
            let of_tenant = gone.entry(tenant.clone()).or_default();
            *of_tenant = of_tenant.union(*shards);
        }
        let left = meta
            .slices()
            .iter()
            .any(|(tenant, shards)| !subtract(*shards, gone.get(tenant)).is_empty());
        if left {
            self.removed.insert(block, Arc::new(gone));
        } else {
            self.removed.remove(&block);
            self.garbage.insert(block, self.version);
        }
        Ok(())
    }

    fn condemn(&mut self, block: BlockId) -> Result<(), Violation> {
        if self.base.block(block).is_some() || self.blocks.contains_key(&block) {
            return Err(Violation::CondemnedLive { block });
        }
        if self.base.is_garbage(block) {
            return Ok(());
        }
        self.garbage.insert(block, self.version);
        Ok(())
    }

    fn forget(&mut self, block: BlockId) -> Result<(), Violation> {
        if !self.base.is_garbage(block) {
            return Err(Violation::NotGarbage { block });
        }
        self.forgotten.push(block);
        Ok(())
    }

    fn delete(&mut self, tombstone: &Arc<Tombstone>) -> Result<(), Violation> {
        let id = tombstone.id;
        if self.base.deletion(id).is_some() || self.deletions.contains_key(&id) {
            return Err(Violation::TombstoneTwice { id });
        }
        let deletion = Deletion {
            tombstone: Arc::clone(tombstone),
            since: self.version,
        };
        self.deletions.insert(id, deletion);
        Ok(())
    }

    fn quarantine(
        &mut self,
        block: BlockId,
        slices: &[(TenantId, ShardSet)],
        why: &Arc<str>,
    ) -> Result<(), Violation> {
        if self.base.block(block).is_none() || self.garbage.contains_key(&block) {
            return Err(Violation::BlockNotLive { block });
        }
        let before = match self.quarantined.get(&block) {
            Some(now) => now.as_ref(),
            None => self.base.quarantined(block),
        };
        let mut all = before.map_or_else(BTreeMap::new, |before| before.slices.clone());
        for (tenant, shards) in slices {
            let live = self.base.live_shards(block, tenant);
            if shards.is_empty() || !live.contains(*shards) {
                return Err(Violation::SliceNotLive {
                    block,
                    tenant: tenant.clone(),
                    shards: *shards,
                    live,
                });
            }
            let of_tenant = all.entry(tenant.clone()).or_default();
            *of_tenant = of_tenant.union(*shards);
        }
        let quarantined = Quarantined {
            slices: all,
            why: Arc::clone(why),
            since: self.version,
        };
        self.quarantined.insert(block, Some(quarantined));
        Ok(())
    }

    fn release(&mut self, block: BlockId) -> Result<(), Violation> {
        if self.base.quarantined(block).is_none() {
            return Err(Violation::NotQuarantined { block });
        }
        self.quarantined.insert(block, None);
        Ok(())
    }

    fn retire(&mut self, id: TombstoneId) -> Result<(), Violation> {
        if self.base.deletion(id).is_none() {
            return Err(Violation::TombstoneUnknown { id });
        }
        self.retired.push(id);
        Ok(())
    }
}
