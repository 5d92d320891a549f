//! A client of an object store: whole objects, and where the store offers it objects in parts of
//! which each can be sent again.
//!
//! # What it must not know
//! Which store it is, and how often a request is tried.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{MultipartId, ObjectStore, PutMultipartOptions, PutPayload, PutResult, Result};

/// What a store can do. Clones share the client.
#[derive(Clone)]
pub struct StoreClient {
    pub objects: Arc<dyn ObjectStore>,
    /// Uploads by the number of the part; `None` where a part cannot be sent twice, as to a disk.
    pub parts: Option<Arc<dyn MultipartStore>>,
}

impl StoreClient {
    /// The folder `prefix` of a store; all of it when `prefix` is empty.
    pub(crate) fn under(prefix: &str, store: impl ObjectStore + MultipartStore) -> Self {
        let store = Arc::new(store);
        if prefix.is_empty() {
            return Self {
                objects: Arc::clone(&store) as _,
                parts: Some(store),
            };
        }
        let objects = PrefixStore::new(Arc::clone(&store) as Arc<dyn ObjectStore>, prefix);
        Self {
            objects: Arc::new(objects),
            parts: Some(Arc::new(PartsUnder {
                prefix: Path::from(prefix),
                store,
            })),
        }
    }

    /// The memory of this process.
    pub fn memory() -> Self {
        Self::under("", InMemory::new())
    }
}

/// A store of which only whole objects are known.
impl From<Arc<dyn ObjectStore>> for StoreClient {
    fn from(objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            objects,
            parts: None,
        }
    }
}

impl fmt::Debug for StoreClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreClient").field(&self.objects).finish()
    }
}

/// What [`PrefixStore`] does for whole objects.
struct PartsUnder<S> {
    prefix: Path,
    store: Arc<S>,
}

impl<S> PartsUnder<S> {
    fn full(&self, key: &Path) -> Path {
        self.prefix.parts().chain(key.parts()).collect()
    }
}

#[async_trait]
impl<S: MultipartStore> MultipartStore for PartsUnder<S> {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.store.create_multipart(&self.full(path)).await
    }

    async fn create_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<MultipartId> {
        let path = self.full(path);
        self.store.create_multipart_opts(&path, opts).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let path = self.full(path);
        self.store.put_part(&path, id, part_idx, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let path = self.full(path);
        self.store.complete_multipart(&path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.store.abort_multipart(&self.full(path), id).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn parts_lie_where_whole_objects_are_looked_for() {
        for prefix in ["", "a/b"] {
            let client = StoreClient::under(prefix, InMemory::new());
            let parts = client.parts.unwrap();
            let key = Path::from("c/d");
            let id = parts.create_multipart(&key).await.unwrap();
            let part = parts.put_part(&key, &id, 0, "x".into()).await.unwrap();
            parts
                .complete_multipart(&key, &id, vec![part])
                .await
                .unwrap();
            let read = client.objects.get(&key).await.unwrap();
            assert_eq!(read.bytes().await.unwrap(), "x");
        }
    }
}
