//! What a commit asks for: operations, and what must be true for them to be done.
//!
//! Preconditions are checked against the version that the commit follows, and again against every
//! version that another committer put in between.

use std::fmt;
use std::sync::Arc;

use scoria_block::BlockMeta;
use scoria_model::{BlockId, CatalogueVersion, Epoch, NodeId, Seq, ShardSet, StreamId, TenantId};

use super::state::CatalogueState;
use super::tombstone::{Tombstone, TombstoneId};

/// Longest reason of a quarantine, in bytes.
pub const WHY_BYTES_MAX: usize = 1 << 10;

/// One change of the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A block becomes live. A block of level 0 covers exactly the ranges that the same commit
    /// advances; several blocks of one commit may cover the same range (one per hour window).
    AddBlock(Arc<BlockMeta>),
    /// A stream starts, with nothing committed.
    OpenStream {
        stream: StreamId,
        epoch: Epoch,
        owner: NodeId,
        members: Vec<NodeId>,
        /// How many members hold a record before it is acknowledged.
        quorum: u32,
    },
    /// The records after `from` up to and including `to` are in blocks, or hold no profiles.
    Advance {
        stream: StreamId,
        epoch: Epoch,
        from: Seq,
        to: Seq,
    },
    /// A new owner takes the stream over; every lower epoch is fenced.
    SealStream {
        stream: StreamId,
        epoch: Epoch,
        owner: NodeId,
    },
    /// The stream has no record beyond `at` and never will. It is finished once that is committed.
    CloseStream {
        stream: StreamId,
        epoch: Epoch,
        at: Seq,
    },
    /// Slices of a live block are no longer live; with the last one the block becomes garbage.
    RemoveSlices {
        block: BlockId,
        slices: Vec<(TenantId, ShardSet)>,
    },
    /// A block that lies in the store and was never added never will be: its objects may go.
    Condemn(BlockId),
    /// The objects of a garbage block are gone.
    Forget(BlockId),
    /// Profiles are deleted on demand.
    Delete(Arc<Tombstone>),
    /// No live block holds profiles of a deletion any more, and none will come.
    Retire(TombstoneId),
    /// Slices of a live block that cannot be merged: every compactor leaves them where they are.
    Quarantine {
        block: BlockId,
        slices: Vec<(TenantId, ShardSet)>,
        /// For people; at most [`WHY_BYTES_MAX`] bytes.
        why: Arc<str>,
    },
    /// The block's slices may be merged again.
    Release(BlockId),
}

/// What must be true of the version that a commit follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// No stream of this id was ever opened.
    StreamAbsent(StreamId),
    /// The stream is at exactly this epoch and committed number.
    StreamAt {
        stream: StreamId,
        epoch: Epoch,
        committed: Seq,
    },
    /// The stream is owned by this node.
    StreamOwner { stream: StreamId, owner: NodeId },
    /// The block is live.
    BlockLive(BlockId),
    /// The block is not live.
    BlockAbsent(BlockId),
    /// These slices of the block are live.
    SlicesLive {
        block: BlockId,
        slices: Vec<(TenantId, ShardSet)>,
    },
    /// Nothing of the tenant was deleted after this version.
    NoDeletionSince {
        tenant: TenantId,
        version: CatalogueVersion,
    },
    /// The block's objects have not been given up.
    NotGarbage(BlockId),
}

/// A precondition that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{precondition} does not hold: {found}")]
pub struct Unmet {
    pub precondition: Precondition,
    /// What is true instead.
    pub found: String,
}

/// Operations that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Txn {
    pub preconditions: Vec<Precondition>,
    pub ops: Vec<Op>,
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a precondition.
    #[must_use]
    pub fn require(mut self, precondition: Precondition) -> Self {
        self.preconditions.push(precondition);
        self
    }

    /// Adds an operation.
    #[must_use]
    pub fn then(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// The commit of a cut: `blocks` cover the records of `stream` after `from` up to `to`.
    pub fn flush(
        stream: &StreamId,
        epoch: Epoch,
        (from, to): (Seq, Seq),
        blocks: impl IntoIterator<Item = Arc<BlockMeta>>,
    ) -> Self {
        let mut txn = Self::new().require(Precondition::StreamAt {
            stream: stream.clone(),
            epoch,
            committed: from,
        });
        txn.ops.extend(blocks.into_iter().map(Op::AddBlock));
        txn.then(Op::Advance {
            stream: stream.clone(),
            epoch,
            from,
            to,
        })
    }

    /// The commit of a merge on the version that it was planned from: `outputs` take the place of
    /// slices of other blocks, and nothing of these tenants was deleted in between. No outputs are
    /// fine: then everything in the slices was deleted.
    pub fn replace(
        inputs: impl IntoIterator<Item = (BlockId, Vec<(TenantId, ShardSet)>)>,
        outputs: impl IntoIterator<Item = Arc<BlockMeta>>,
        planned_on: CatalogueVersion,
    ) -> Self {
        let mut txn = Self::new();
        let mut tenants = std::collections::BTreeSet::new();
        for (block, slices) in inputs {
            tenants.extend(slices.iter().map(|(tenant, _)| tenant.clone()));
            txn.preconditions.push(Precondition::SlicesLive {
                block,
                slices: slices.clone(),
            });
            txn.ops.push(Op::RemoveSlices { block, slices });
        }
        let undeleted = tenants
            .into_iter()
            .map(|tenant| Precondition::NoDeletionSince {
                tenant,
                version: planned_on,
            });
        txn.preconditions.extend(undeleted);
        for meta in outputs {
            txn.preconditions.push(Precondition::NotGarbage(meta.id));
            txn.preconditions.push(Precondition::BlockAbsent(meta.id));
            txn.ops.push(Op::AddBlock(meta));
        }
        txn
    }

    /// The commit that slices cannot be merged. A reason that is too long is cut off.
    pub fn quarantine(block: BlockId, slices: Vec<(TenantId, ShardSet)>, why: &str) -> Self {
        let mut end = why.len().min(WHY_BYTES_MAX);
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        Self::new()
            .require(Precondition::SlicesLive {
                block,
                slices: slices.clone(),
            })
            .then(Op::Quarantine {
                block,
                slices,
                why: Arc::from(&why[..end]),
            })
    }

    /// The blocks that this makes live.
    pub fn blocks(&self) -> impl Iterator<Item = &Arc<BlockMeta>> {
        self.ops.iter().filter_map(|op| match op {
            Op::AddBlock(meta) => Some(meta),
            _ => None,
        })
    }

    /// The first precondition that `state` does not meet.
    ///
    /// # Errors
    /// [`Unmet`], which says what is true instead.
    pub fn check(&self, state: &CatalogueState) -> Result<(), Unmet> {
        self.preconditions
            .iter()
            .try_for_each(|precondition| precondition.check(state))
    }
}

impl Precondition {
    fn check(&self, state: &CatalogueState) -> Result<(), Unmet> {
        let unmet = |found: String| Unmet {
            precondition: self.clone(),
            found,
        };
        match self {
            Self::StreamAbsent(stream) => match state.stream(stream) {
                None => Ok(()),
                Some(_) => Err(unmet("the stream was opened before".into())),
            },
            Self::StreamAt {
                stream,
                epoch,
                committed,
            } => match state.stream(stream) {
                Some(now) if now.epoch == *epoch && now.committed == *committed => Ok(()),
                Some(now) => Err(unmet(format!(
                    "it is at epoch {}, committed {}",
                    now.epoch.0, now.committed.0
                ))),
                None => Err(unmet("there is no such stream".into())),
            },
            Self::StreamOwner { stream, owner } => match state.stream(stream) {
                Some(now) if now.owner == *owner => Ok(()),
                Some(now) => Err(unmet(format!("its owner is {}", now.owner.0))),
                None => Err(unmet("there is no such stream".into())),
            },
            Self::BlockLive(block) => match state.block(*block) {
                Some(_) => Ok(()),
                None => Err(unmet("it is not live".into())),
            },
            Self::BlockAbsent(block) => match state.block(*block) {
                None => Ok(()),
                Some(_) => Err(unmet("it is live".into())),
            },
            Self::SlicesLive { block, slices } => {
                let gone = slices
                    .iter()
                    .find(|(tenant, shards)| !state.live_shards(*block, tenant).contains(*shards));
                gone.map_or(Ok(()), |(tenant, _)| {
                    let live = state.live_shards(*block, tenant);
                    Err(unmet(format!("of {tenant} the shards {live} are live")))
                })
            }
            Self::NoDeletionSince { tenant, version } => {
                let newest = state.newest_deletion(tenant);
                match newest > *version {
                    true => Err(unmet(format!("version {} deletes some", newest.0))),
                    false => Ok(()),
                }
            }
            Self::NotGarbage(block) => match state.is_garbage(*block) {
                true => Err(unmet("it was condemned".into())),
                false => Ok(()),
            },
        }
    }
}

impl fmt::Display for Precondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StreamAbsent(stream) => write!(f, "\"stream {stream} is new\""),
            Self::StreamAt {
                stream,
                epoch,
                committed,
            } => write!(
                f,
                "\"stream {stream} is at epoch {}, committed {}\"",
                epoch.0, committed.0
            ),
            Self::StreamOwner { stream, owner } => {
                write!(f, "\"stream {stream} is owned by {}\"", owner.0)
            }
            Self::BlockLive(block) => write!(f, "\"block {block} is live\""),
            Self::BlockAbsent(block) => write!(f, "\"block {block} is not live\""),
            Self::SlicesLive { block, slices } => {
                let texts: Vec<String> = slices
                    .iter()
                    .map(|(tenant, shards)| format!("{tenant} {shards}"))
                    .collect();
                write!(f, "\"in block {block} are live {}\"", texts.join("; "))
            }
            Self::NoDeletionSince { tenant, version } => {
                write!(
                    f,
                    "\"nothing of {tenant} was deleted after version {}\"",
                    version.0
                )
            }
            Self::NotGarbage(block) => write!(f, "\"block {block} is not condemned\""),
        }
    }
}
