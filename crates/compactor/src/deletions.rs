//! Deleting on demand: what a deletion would take, the commit that makes it count, and how far it
//! has come.
//!
//! # Invariants
//! - A deletion counts with its commit: from then on nobody sees what it takes. Its object lies in
//!   the store before, so that no rebuilt catalogue forgets it.
//! - A selector that cannot be applied is refused here and nowhere later.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use scoria_model::{CatalogueVersion, Clock, TenantId, Timestamp};
use scoria_query::deletion::Deletion;
use scoria_query::selector::SelectorError;
use scoria_storage::catalogue::CatalogueError;
use scoria_storage::catalogue::tombstone::SELECTOR_BYTES_MAX;
use scoria_storage::{
    BlockStore, Catalogue, CatalogueState, CommitError, Op, StoreError, Tombstone, TombstoneId, Txn,
};

use crate::pieces::dataset_bytes;

/// What to delete.
#[derive(Debug, Clone)]
pub struct DeleteRequest {
    pub tenant: TenantId,
    /// As in queries; `{}` takes everything of the tenant.
    pub selector: String,
    /// Exclusive.
    pub before: Timestamp,
}

/// What a deletion touches in blocks. Profiles that are in no block yet are hidden as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Blocks that hold some of it, and are written again or go.
    pub blocks: u64,
    /// Objects of these blocks.
    pub objects: u64,
    /// Stored bytes of the datasets that hold some of it: what goes is at most that.
    pub bytes: u64,
}

/// What a client is told of a deletion.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub tombstone: Arc<Tombstone>,
    /// The version since which it counts.
    pub since: CatalogueVersion,
    /// What still holds profiles of it on the store, hidden.
    pub pending: Extent,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error("the selector cannot be read: {0}")]
    Selector(#[from] SelectorError),
    #[error("the selector has {actual} bytes; the limit is {SELECTOR_BYTES_MAX}")]
    SelectorLength { actual: usize },
    #[error(transparent)]
    Catalogue(Box<CatalogueError>),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(Box<CommitError>),
}

impl From<CatalogueError> for DeleteError {
    fn from(error: CatalogueError) -> Self {
        Self::Catalogue(Box::new(error))
    }
}

impl From<CommitError> for DeleteError {
    fn from(error: CommitError) -> Self {
        Self::Commit(Box::new(error))
    }
}

/// Takes deletions. Clones share everything.
#[derive(Debug, Clone)]
pub struct Deletions {
    catalogue: Catalogue,
    blocks: BlockStore,
    clock: Arc<dyn Clock>,
}

impl Deletions {
    pub fn new(catalogue: Catalogue, blocks: BlockStore, clock: Arc<dyn Clock>) -> Self {
        Self {
            catalogue,
            blocks,
            clock,
        }
    }

    /// What the deletion would touch now.
    ///
    /// # Errors
    /// The selector or the catalogue cannot be read.
    pub async fn dry_run(&self, request: &DeleteRequest) -> Result<Extent, DeleteError> {
        let deletion = check(request)?;
        let state = self.catalogue.refresh().await?;
        Ok(extent(&state, &request.tenant, &deletion, &|_| true))
    }

    /// Deletes.
    ///
    /// # Errors
    /// Nothing was deleted, except that after [`CommitError::Unknown`] it may have been.
    pub async fn delete(&self, request: &DeleteRequest) -> Result<Receipt, DeleteError> {
        let deletion = check(request)?;
        let now = self.clock.now();
        let tombstone = Arc::new(Tombstone {
            id: new_id(now),
            tenant: request.tenant.clone(),
            selector: Arc::from(request.selector.as_str()),
            before: request.before,
            created: now,
        });
        self.blocks.put_tombstone(&tombstone).await?;
        let txn = Txn::new().then(Op::Delete(Arc::clone(&tombstone)));
        let since = self.catalogue.commit(txn).await?;
        let state = self.catalogue.state();
        Ok(Receipt {
            tombstone,
            since,
            pending: extent(&state, &request.tenant, &deletion, &|_| true),
        })
    }

    /// The deletions of a tenant that are in force, with what is still to be done for each.
    ///
    /// # Errors
    /// The catalogue or a selector in it cannot be read.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<Receipt>, DeleteError> {
        let state = self.catalogue.refresh().await?;
        let of_tenant = state.deletions().filter(|d| d.tombstone.tenant == *tenant);
        of_tenant
            .map(|kept| {
                let tombstone = &kept.tombstone;
                let deletion = Deletion::new(&tombstone.selector, tombstone.before)?;
                let waits = |block: &scoria_block::BlockMeta| {
                    let mut pending = state.deletions_in(block, tenant);
                    pending.any(|d| d.tombstone.id == tombstone.id)
                };
                Ok(Receipt {
                    tombstone: Arc::clone(tombstone),
                    since: kept.since,
                    pending: extent(&state, tenant, &deletion, &waits),
                })
            })
            .collect()
    }
}

fn check(request: &DeleteRequest) -> Result<Deletion, DeleteError> {
    let actual = request.selector.len();
    if actual > SELECTOR_BYTES_MAX {
        return Err(DeleteError::SelectorLength { actual });
    }
    Ok(Deletion::new(&request.selector, request.before)?)
}

fn extent(
    state: &CatalogueState,
    tenant: &TenantId,
    deletion: &Deletion,
    counts: &dyn Fn(&scoria_block::BlockMeta) -> bool,
) -> Extent {
    let mut extent = Extent::default();
    for meta in state.blocks().filter(|meta| counts(meta)) {
        let touched = state.live_datasets(meta).filter(|(_, d)| {
            d.tenant == *tenant && deletion.may_hide(&d.service, &d.kinds, d.min_time)
        });
        let bytes: Vec<u64> = touched.map(|(_, d)| dataset_bytes(meta, d)).collect();
        if !bytes.is_empty() {
            extent.blocks += 1;
            // The manifest is one, too.
            extent.objects += meta.tables.len() as u64 + 1;
            extent.bytes += bytes.iter().sum::<u64>();
        }
    }
    extent
}

/// A ULID: milliseconds, then 80 random bits.
fn new_id(now: Timestamp) -> TombstoneId {
    let millis = now.millis().max(0) as u128 & ((1 << 48) - 1);
    let random = || u128::from(RandomState::new().hash_one(0u8));
    let low = (random() << 64 | random()) & ((1 << 80) - 1);
    TombstoneId(millis << 80 | low)
}
