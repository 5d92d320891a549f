//! What garbage collection asks of the store: which blocks lie there, and that they go.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use scoria_model::BlockId;

use super::{BlockStore, Purpose};
use crate::catalogue::Tombstone;
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;

impl BlockStore {
    /// The same blocks without a cache, for whoever reads things once.
    #[must_use]
    pub fn uncached(&self) -> Self {
        Self {
            cache: moka::sync::Cache::builder().max_capacity(0).build(),
            ..self.clone()
        }
    }

    /// Puts the object of a deletion, which a rebuilt catalogue reads.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn put_tombstone(&self, tombstone: &Tombstone) -> Result<(), StoreError> {
        let key = keys::tombstone(tombstone.id);
        let mut bytes = Vec::new();
        tombstone.encode(&mut bytes);
        let length = bytes.len() as u64;
        let put = self.store.put(&key, bytes.into()).await;
        let result = put.map_err(|source| StoreError::new("write", &key, source));
        let counted = result.as_ref().map(|_| length).map_err(|error| error.kind);
        self.metrics.request(Purpose::Collect, "write", counted);
        result.map(drop)
    }

    /// Every block of which an object lies in the store.
    ///
    /// # Errors
    /// The store could not be listed.
    pub async fn list_blocks(&self) -> Result<BTreeSet<BlockId>, StoreError> {
        let folder = Path::from(keys::BLOCKS);
        let found: Vec<BlockId> = self.list_objects(&folder, keys::block_of).await?;
        Ok(found.into_iter().collect())
    }

    /// Deletes every object of a block, its manifest last. An object that is gone already is fine.
    ///
    /// # Errors
    /// The object that could not be deleted; the others may be gone.
    pub async fn delete_block(&self, block: BlockId) -> Result<(), StoreError> {
        let folder = Path::from(format!("{}/{block}", keys::BLOCKS));
        let mut objects: Vec<Path> = self.list_objects(&folder, |key| Some(key.clone())).await?;
        let manifest = keys::manifest(block);
        objects.sort_by_key(|key| *key == manifest);
        for key in objects {
            let deleted = self.store.delete(&key).await;
            let result = deleted.map_err(|source| StoreError::new("delete", &key, source));
            let counted = result.as_ref().map(|()| 0).map_err(|error| error.kind);
            self.metrics.request(Purpose::Collect, "delete", counted);
            match result {
                Err(error) if error.kind != StoreErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn list_objects<T>(
        &self,
        folder: &Path,
        of: impl Fn(&Path) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let listed = self.store.list(Some(folder));
        let found: Result<Vec<Option<T>>, _> = listed
            .map_ok(|object| of(&object.location))
            .try_collect()
            .await;
        let result = found.map_err(|source| StoreError::new("list", folder, source));
        let counted = result.as_ref().map(|_| 0).map_err(|error| error.kind);
        self.metrics.request(Purpose::Collect, "list", counted);
        Ok(result?.into_iter().flatten().collect())
    }
}
