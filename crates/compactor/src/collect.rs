//! Garbage collection: which objects may go, by what one process has seen.
//!
//! ```text
//! removed from the catalogue ───────────────── grace ──► delete ── … ──► forget
//! in the bucket, in no commit ── orphan grace ──► condemn ─┘
//! ```
//! A block that was never added could be added yet: a flush may be slow, a job may wait for its
//! turn. So it is condemned first, by a commit after which nobody can add it any more.
//!
//! # Invariants
//! - **G1** An object is deleted only when the catalogue says that its block is garbage, and only
//!   when this process has seen that for longer than any query runs. Time is monotonic.
//! - **G2** What no version refers to goes in the end, whoever left it behind.
//! - An id is remembered as garbage for [`REMEMBERED`] after its objects went, so that a commit that
//!   was held up for long cannot add a block without objects.
//!
//! # What it must not know
//! IO, and other collectors: deleting twice is harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scoria_model::BlockId;
use scoria_storage::CatalogueState;

/// How long the catalogue remembers a block whose objects are gone.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// How long objects stay.
#[derive(Debug, Clone, Copy)]
pub struct Graces {
    /// Garbage.
    pub garbage: Duration,
    /// Objects that no commit has named.
    pub orphans: Duration,
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// To be condemned by a commit.
    pub condemn: Vec<BlockId>,
    /// To be deleted from the bucket.
    pub delete: Vec<BlockId>,
    /// To be forgotten by a commit.
    pub forget: Vec<BlockId>,
}

/// What this process has seen, and when first.
#[derive(Debug, Default)]
pub struct Collector {
    garbage: BTreeMap<BlockId, Duration>,
    orphans: BTreeMap<BlockId, Duration>,
    deleted: BTreeSet<BlockId>,
}

impl Collector {
    /// Takes in a version of the catalogue.
    pub fn saw_state(&mut self, state: &CatalogueState, now: Duration) {
        let garbage: BTreeSet<BlockId> = state.garbage().map(|(block, _)| block).collect();
        self.garbage.retain(|block, _| garbage.contains(block));
        self.deleted.retain(|block| garbage.contains(block));
        for block in garbage {
            self.garbage.entry(block).or_insert(now);
        }
        let known = |block: &BlockId| state.block(*block).is_some() || state.is_garbage(*block);
        self.orphans.retain(|block, _| !known(block));
    }

    /// Takes in the blocks that lie in the bucket. The listing must have begun before `state` was
    /// read: a block that was committed in between is no orphan.
    pub fn saw_bucket(
        &mut self,
        listed: &BTreeSet<BlockId>,
        state: &CatalogueState,
        now: Duration,
    ) {
        self.orphans.retain(|block, _| listed.contains(block));
        for &block in listed {
            if state.block(block).is_none() && !state.is_garbage(block) {
                self.orphans.entry(block).or_insert(now);
            }
        }
    }

    /// What is due now.
    pub fn due(&self, graces: Graces, now: Duration) -> Due {
        let older = |since: &Duration, grace| now.saturating_sub(*since) >= grace;
        let gone = |block: &BlockId| self.deleted.contains(block);
        let garbage = || self.garbage.iter();
        let orphans = self.orphans.iter();
        Due {
            condemn: orphans
                .filter(|(_, since)| older(since, graces.orphans))
                .map(|(block, _)| *block)
                .collect(),
            delete: garbage()
                .filter(|(block, since)| !gone(block) && older(since, graces.garbage))
                .map(|(block, _)| *block)
                .collect(),
            forget: garbage()
                .filter(|(block, since)| gone(block) && older(since, graces.garbage + REMEMBERED))
                .map(|(block, _)| *block)
                .collect(),
        }
    }

    /// The objects of a block are gone.
    pub fn deleted(&mut self, block: BlockId) {
        self.deleted.insert(block);
    }

    /// Blocks in the bucket that no commit has named.
    pub fn orphans(&self) -> usize {
        self.orphans.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scoria_storage::catalogue::Entry;
    use scoria_storage::testing::{meta_of, stream_id};
    use scoria_storage::{Op, Txn};

    use super::*;

    const GRACES: Graces = Graces {
        garbage: Duration::from_secs(10),
        orphans: Duration::from_secs(100),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn commit(state: &mut CatalogueState, ops: Vec<Op>) {
        let version = scoria_model::CatalogueVersion(state.version().0 + 1);
        let entry = Entry {
            version,
            nonce: 0,
            ops,
        };
        state.apply(&entry).unwrap();
    }

    /// One live block of one slice.
    fn state() -> CatalogueState {
        let stream = stream_id(0);
        let node = scoria_model::NodeId("a".into());
        let epoch = scoria_model::Epoch(1);
        let open = Op::OpenStream {
            stream: stream.clone(),
            epoch,
            owner: node.clone(),
            members: vec![node],
            quorum: 1,
        };
        let mut state = CatalogueState::default();
        commit(&mut state, vec![open]);
        let meta = Arc::new(meta_of(1, &stream, (0, 1), &["t/s"]));
        let range = (scoria_model::Seq(0), scoria_model::Seq(1));
        commit(&mut state, Txn::flush(&stream, epoch, range, [meta]).ops);
        state
    }

    #[test]
    fn garbage_goes_after_its_grace_and_is_remembered_for_a_day() {
        let mut state = state();
        let mut collector = Collector::default();
        collector.saw_state(&state, at(0));
        assert_eq!(collector.due(GRACES, at(1000)), Due::default());
        let slices = state.block(BlockId(1)).unwrap().slices();
        let remove = Op::RemoveSlices {
            block: BlockId(1),
            slices,
        };
        commit(&mut state, vec![remove]);
        // Seen late: the grace starts from there.
        collector.saw_state(&state, at(2000));
        assert_eq!(collector.due(GRACES, at(2009)), Due::default());
        assert_eq!(collector.due(GRACES, at(2010)).delete, [BlockId(1)]);
        collector.deleted(BlockId(1));
        assert_eq!(collector.due(GRACES, at(2011)), Due::default());
        assert_eq!(
            collector.due(GRACES, at(2010 + 24 * 3600)).forget,
            [BlockId(1)]
        );
        commit(&mut state, vec![Op::Forget(BlockId(1))]);
        collector.saw_state(&state, at(100_000));
        assert_eq!(collector.due(GRACES, at(1_000_000)), Due::default());
    }

    #[test]
    fn an_orphan_is_condemned_before_it_goes_and_may_still_be_committed_until_then() {
        let mut state = state();
        let mut collector = Collector::default();
        let listed: BTreeSet<BlockId> = [BlockId(1), BlockId(2), BlockId(3)].into();
        collector.saw_bucket(&listed, &state, at(0));
        assert_eq!(collector.orphans(), 2);
        assert_eq!(collector.due(GRACES, at(99)), Due::default());
        // One of them is committed after all.
        let stream = stream_id(0);
        let meta = Arc::new(meta_of(2, &stream, (1, 2), &["t/s"]));
        let range = (scoria_model::Seq(1), scoria_model::Seq(2));
        let flush = Txn::flush(&stream, scoria_model::Epoch(1), range, [meta]);
        commit(&mut state, flush.ops);
        collector.saw_state(&state, at(99));
        assert_eq!(collector.due(GRACES, at(100)).condemn, [BlockId(3)]);
        commit(&mut state, vec![Op::Condemn(BlockId(3))]);
        collector.saw_state(&state, at(101));
        assert_eq!(collector.due(GRACES, at(105)), Due::default());
        assert_eq!(collector.due(GRACES, at(111)).delete, [BlockId(3)]);
    }
}
