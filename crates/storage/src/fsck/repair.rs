//! What can be done about damaged blocks: their objects are copied to quarantine and they are taken
//! out of the catalogue, so that queries and merges go on without them.
//!
//! # Invariants
//! - A block's objects are in quarantine before the block is no longer live.
//! - A block that is no longer live when its turn comes is left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use scoria_block::BlockMeta;
use scoria_model::BlockId;

use crate::catalogue::{Catalogue, CommitError, Op, Precondition, Txn};
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;

/// A block that was taken out.
#[derive(Debug, Clone, PartialEq)]
pub struct Repaired {
    pub meta: Arc<BlockMeta>,
    /// Where its objects are kept.
    pub folder: String,
    /// How many of them were there.
    pub objects: u64,
}

/// Why a repair stopped. What it reports as done is done.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("taking block {block} out of the catalogue: {source}")]
    Commit { block: BlockId, source: CommitError },
}

/// Takes the damaged blocks out, one after the other, and tells of each.
///
/// # Errors
/// The store fails, or a commit: a conflict says that a merge was faster, and another check shows
/// what is left.
pub async fn repair(
    store: &Arc<dyn ObjectStore>,
    catalogue: &Catalogue,
    damaged: BTreeSet<BlockId>,
    mut done: impl FnMut(&Repaired),
) -> Result<(), RepairError> {
    let nonce = uuid::Uuid::new_v4().as_u128();
    for block in damaged {
        let state = catalogue.state();
        let Some(meta) = state.block(block) else {
            continue;
        };
        let slices = state.live_slices(meta);
        let objects = set_aside(store, nonce, block).await?;
        let txn = Txn::new()
            .require(Precondition::SlicesLive {
                block,
                slices: slices.clone(),
            })
            .then(Op::RemoveSlices { block, slices });
        let commit = catalogue.commit(txn).await;
        commit.map_err(|source| RepairError::Commit { block, source })?;
        let folder = Path::from(format!("{}/{block}", keys::BLOCKS));
        done(&Repaired {
            meta: Arc::clone(meta),
            folder: keys::quarantined(nonce, &folder).to_string(),
            objects,
        });
    }
    Ok(())
}

/// Copies the objects of a block to quarantine; how many there were.
async fn set_aside(
    store: &Arc<dyn ObjectStore>,
    nonce: u128,
    block: BlockId,
) -> Result<u64, StoreError> {
    let folder = Path::from(format!("{}/{block}", keys::BLOCKS));
    let listed = store.list(Some(&folder)).map_ok(|object| object.location);
    let listed: Vec<Path> = listed
        .try_collect()
        .await
        .map_err(|source| StoreError::new("list", &folder, source))?;
    let mut objects = 0;
    for key in listed {
        let read = async { store.get(&key).await?.bytes().await };
        let bytes = match read.await {
            Ok(bytes) => bytes,
            Err(source) => {
                let error = StoreError::new("read", &key, source);
                match error.kind {
                    StoreErrorKind::NotFound => continue,
                    _ => return Err(error),
                }
            }
        };
        let aside = keys::quarantined(nonce, &key);
        store
            .put(&aside, bytes.into())
            .await
            .map_err(|source| StoreError::new("write", &aside, source))?;
        objects += 1;
    }
    Ok(objects)
}
