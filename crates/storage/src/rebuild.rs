//! The catalogue made anew from the bucket alone: from the manifests of the blocks.
//!
//! ```text
//! blocks/*/manifest.json ─► cover: merges stand for what they took of their inputs, and of cuts
//!                           of a stream that overlap one counts ─► ops ─► a new log
//! catalogue/tombstone/* ──► every deletion, last
//! ```
//!
//! # Invariants
//! - What is chosen covers each record of a stream at most once (D2), and everything that a
//!   readable manifest covers at least once (D1).
//! - Streams stay open at the last record that a block has: what is only in an ingester's log is
//!   still flushed by it.
//! - The old catalogue is copied to quarantine before anything of it is deleted.
//!
//! # What it must not know
//! What lies in the tables.

mod cover;
mod merges;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use scoria_block::BlockMeta;
use scoria_model::{BlockId, CatalogueVersion, Seq, StreamId};

use crate::block_store::{BlockReadError, BlockStore, BlockStoreOptions};
use crate::catalogue::{Catalogue, CatalogueError, CatalogueOptions, CommitError, Tombstone, Txn};
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;
use crate::metrics::Metrics;

/// Manifests read at the same time.
const READ_AHEAD: usize = 16;

/// A block that is not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub key: String,
    pub why: String,
}

/// What a new catalogue would hold.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In the order of their ids.
    pub blocks: Vec<Arc<BlockMeta>>,
    /// Each stream with the last of its records that is in blocks.
    pub streams: Vec<(StreamId, Seq)>,
    pub left_out: Vec<LeftOut>,
    txns: Vec<Txn>,
}

/// Why a catalogue could not be made anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error("writing the new catalogue: {0}; run the rebuild again")]
    Commit(#[from] CommitError),
}

/// Reads every manifest and chooses what covers everything once. Writes nothing.
///
/// # Errors
/// The store cannot be listed or read. A damaged manifest is left out and named.
pub async fn plan(store: &Arc<dyn ObjectStore>) -> Result<Plan, RebuildError> {
    let options = BlockStoreOptions {
        metrics: Metrics::unregistered(),
        cache_bytes: 0,
        coalesce_gap: 0,
    };
    let blocks = BlockStore::new(Arc::clone(store), options);
    let ids = block_ids(store).await?;
    let mut left_out = Vec::new();
    let mut metas = Vec::new();
    let reads = ids.into_iter().map(|id| {
        let blocks = blocks.clone();
        async move { (id, blocks.read_manifest(id).await) }
    });
    let mut reads = futures::stream::iter(reads).buffered(READ_AHEAD);
    while let Some((id, read)) = reads.next().await {
        match read {
            Ok(meta) => metas.push(Arc::new(meta)),
            Err(BlockReadError::Store(error)) if error.kind == StoreErrorKind::NotFound => {
                left_out.push(LeftOut {
                    key: format!("{}/{id}", keys::BLOCKS),
                    why: "it has no manifest: its writing was cut off".to_owned(),
                });
            }
            Err(BlockReadError::Store(error)) => return Err(error.into()),
            Err(error) => left_out.push(LeftOut {
                key: keys::manifest(id).to_string(),
                why: error.to_string(),
            }),
        }
    }
    let tombstones = tombstones(store, &mut left_out).await?;
    let covered = cover::choose(metas, tombstones);
    left_out.extend(covered.left_out);
    Ok(Plan {
        blocks: covered.blocks,
        streams: covered.streams,
        left_out,
        txns: covered.txns,
    })
}

/// Every deletion in the bucket. They are honoured again even where they were retired.
async fn tombstones(
    store: &Arc<dyn ObjectStore>,
    left_out: &mut Vec<LeftOut>,
) -> Result<Vec<Tombstone>, StoreError> {
    let folder = Path::from(keys::TOMBSTONE);
    let listed = store.list(Some(&folder)).map_ok(|object| object.location);
    let mut listed: Vec<Path> = listed
        .try_collect()
        .await
        .map_err(|source| StoreError::new("list", &folder, source))?;
    listed.sort();
    let mut tombstones = Vec::new();
    for key in listed {
        let read = async { store.get(&key).await?.bytes().await };
        let bytes = read
            .await
            .map_err(|source| StoreError::new("read", &key, source))?;
        match Tombstone::decode(&bytes) {
            Ok(tombstone) => tombstones.push(tombstone),
            Err(error) => left_out.push(LeftOut {
                key: key.to_string(),
                why: format!("{error}; what it deleted will be shown again"),
            }),
        }
    }
    Ok(tombstones)
}

/// Moves the old catalogue to quarantine and writes the one of `plan`; its newest version.
///
/// # Errors
/// What failed. Nothing is lost then: the old one lies in quarantine, and running it again goes
/// on.
pub async fn replace(
    store: &Arc<dyn ObjectStore>,
    plan: Plan,
    options: CatalogueOptions,
) -> Result<CatalogueVersion, RebuildError> {
    set_aside(store).await?;
    let catalogue = Catalogue::open(Arc::clone(store), options).await?;
    let mut version = catalogue.state().version();
    for txn in plan.txns {
        version = catalogue.commit(txn).await?;
    }
    Ok(version)
}

/// Copies the log and the snapshots to a quarantine folder of their own, then deletes them, the
/// newest first: what is left if that is cut off is a shorter catalogue without gaps.
async fn set_aside(store: &Arc<dyn ObjectStore>) -> Result<(), StoreError> {
    let nonce = uuid::Uuid::new_v4().as_u128();
    let mut old = Vec::new();
    for folder in [keys::LOG, keys::SNAPSHOT] {
        let folder = Path::from(folder);
        let listed = store.list(Some(&folder)).map_ok(|object| object.location);
        let mut listed: Vec<Path> = listed
            .try_collect()
            .await
            .map_err(|source| StoreError::new("list", &folder, source))?;
        listed.sort();
        old.extend(listed);
    }
    for key in &old {
        let read = async { store.get(key).await?.bytes().await };
        let bytes = read
            .await
            .map_err(|source| StoreError::new("read", key, source))?;
        let aside = keys::quarantined(nonce, key);
        store
            .put_opts(&aside, bytes.into(), PutMode::Overwrite.into())
            .await
            .map_err(|source| StoreError::new("write", &aside, source))?;
    }
    for key in old.iter().rev() {
        store
            .delete(key)
            .await
            .map_err(|source| StoreError::new("delete", key, source))?;
    }
    Ok(())
}

async fn block_ids(store: &Arc<dyn ObjectStore>) -> Result<Vec<BlockId>, StoreError> {
    let folder = Path::from(keys::BLOCKS);
    let mut listed = store.list(Some(&folder));
    let mut ids = std::collections::BTreeSet::new();
    let failed = |source| StoreError::new("list", &folder, source);
    while let Some(object) = listed.try_next().await.map_err(failed)? {
        let name = object.location.parts().nth(1);
        ids.extend(name.and_then(|name| name.as_ref().parse::<BlockId>().ok()));
    }
    Ok(ids.into_iter().collect())
}

#[cfg(test)]
mod tests;
