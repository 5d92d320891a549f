//! Whole files of a tenant, such as a profile that somebody uploaded to look at it: put, read,
//! listed and deleted by name, small ones at once and large ones as they arrive.
//!
//! # Invariants
//! - A file is there whole or not at all; when it has been put, it is durable.
//! - Of a large file at most [`PART_BYTES`] wait here while as many are on their way.
//! - Reading and listing are bounded by what the caller allows.
//!
//! # What it must not know
//! What is in a file.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};

use crate::block_store::Purpose;
use crate::error::{StoreError, StoreErrorKind};
use crate::metrics::Metrics;

/// Bytes of one part of a large file.
pub const PART_BYTES: usize = 8 << 20;
/// Parts that are on their way while the next one is gathered.
const PARTS_UNDER_WAY: usize = 1;

/// A file as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    pub key: Path,
    pub bytes: u64,
}

/// Every tenant's files in one object store. Keys are made by [`crate::keys`].
#[derive(Debug, Clone)]
pub struct TenantFiles {
    store: Arc<dyn ObjectStore>,
    metrics: Metrics,
}

impl TenantFiles {
    pub fn new(store: Arc<dyn ObjectStore>, metrics: Metrics) -> Self {
        Self { store, metrics }
    }

    /// Puts a file, in place of one that may be there.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&self, key: &Path, body: Bytes) -> Result<(), StoreError> {
        let length = body.len() as u64;
        let put = self.store.put(key, body.into()).await;
        let put = put.map_err(|source| StoreError::new("write", key, source));
        self.count("write", put.as_ref().map(|_| length));
        put.map(drop)
    }

    /// Reads a file of at most `bytes_max`; `None` when there is none, and an empty one in place of
    /// one that is longer.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: &Path, bytes_max: u64) -> Result<Option<Bytes>, StoreError> {
        let read = async {
            let found = self.store.get(key).await?;
            if found.meta.size > bytes_max {
                return Ok(Bytes::new());
            }
            found.bytes().await
        };
        let read = read
            .await
            .map_err(|source| StoreError::new("read", key, source));
        self.count("read", read.as_ref().map(|bytes| bytes.len() as u64));
        match read {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// How large a file is; `None` when there is none.
    ///
    /// # Errors
    /// The store's.
    pub async fn size(&self, key: &Path) -> Result<Option<u64>, StoreError> {
        let head = self.store.head(key).await;
        let head = head.map_err(|source| StoreError::new("read", key, source));
        self.count("head", head.as_ref().map(|_| 0));
        match head {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            other => other.map(|meta| Some(meta.size)),
        }
    }

    /// The files below `folder`, at most `most` of them, in no order.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, folder: &Path, most: usize) -> Result<Vec<FileEntry>, StoreError> {
        let listing = async {
            let mut listed = Vec::new();
            let mut stream = self.store.list(Some(folder));
            while listed.len() < most
                && let Some(meta) = stream.try_next().await?
            {
                listed.push(FileEntry {
                    key: meta.location,
                    bytes: meta.size,
                });
            }
            Ok(listed)
        };
        let listed = listing
            .await
            .map_err(|source| StoreError::new("list", folder, source));
        self.count("list", listed.as_ref().map(|_| 0));
        listed
    }

    /// Deletes a file; one that is not there is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, key: &Path) -> Result<(), StoreError> {
        let deleted = self.store.delete(key).await;
        let deleted = deleted.map_err(|source| StoreError::new("delete", key, source));
        self.count("delete", deleted.as_ref().map(|()| 0));
        match deleted {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Starts a large file, which is there once it is finished.
    ///
    /// # Errors
    /// The store's.
    pub async fn start(&self, key: Path) -> Result<FileUpload, StoreError> {
        let started = self.store.put_multipart(&key).await;
        let started = started.map_err(|source| StoreError::new("write", &key, source));
        if let Err(error) = &started {
            self.count("write", Err(error));
        }
        Ok(FileUpload {
            write: WriteMultipart::new_with_chunk_size(started?, PART_BYTES),
            files: self.clone(),
            key,
            bytes: 0,
        })
    }

    fn count(&self, operation: &'static str, result: Result<u64, &StoreError>) {
        let counted = result.map_err(|error| error.kind);
        self.metrics.request(Purpose::Tenant, operation, counted);
    }
}

/// A large file under way. One that is dropped leaves nothing that can be read.
#[derive(Debug)]
pub struct FileUpload {
    write: WriteMultipart,
    files: TenantFiles,
    key: Path,
    bytes: u64,
}

impl FileUpload {
    /// Appends bytes; returns once there is room for more.
    ///
    /// # Errors
    /// The store's; the upload is of no use then.
    pub async fn append(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.bytes += bytes.len() as u64;
        let room = self.write.wait_for_capacity(PARTS_UNDER_WAY).await;
        room.map_err(|source| StoreError::new("write", &self.key, source))?;
        self.write.put(bytes);
        Ok(())
    }

    /// Bytes appended so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the file readable.
    ///
    /// # Errors
    /// The store's.
    pub async fn finish(self) -> Result<u64, StoreError> {
        let finished = self.write.finish().await;
        let finished = finished.map_err(|source| StoreError::new("write", &self.key, source));
        let counted = finished.as_ref().map(|_| self.bytes);
        self.files.count("write", counted);
        finished.map(|_| self.bytes)
    }

    /// Gives up, and takes back what was sent.
    pub async fn abort(self) {
        if let Err(error) = self.write.abort().await {
            tracing::debug!(key = %self.key, %error, "parts of an upload stay behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::keys;

    fn files() -> (TenantFiles, Path, Path) {
        let files = TenantFiles::new(Arc::new(InMemory::new()), Metrics::unregistered());
        let tenant = scoria_model::TenantId::anonymous();
        let folder = keys::ad_hoc_folder(&tenant);
        (files, folder, keys::ad_hoc(&tenant, "x"))
    }

    #[tokio::test]
    async fn put_get_list_delete() {
        let (files, folder, key) = files();
        assert_eq!(files.get(&key, 10).await.unwrap(), None);
        files.put(&key, Bytes::from_static(b"body")).await.unwrap();
        assert_eq!(files.get(&key, 10).await.unwrap().unwrap(), "body");
        assert_eq!(files.get(&key, 3).await.unwrap().unwrap(), "");
        assert_eq!(files.size(&key).await.unwrap(), Some(4));
        let listed = files.list(&folder, 10).await.unwrap();
        assert_eq!((listed.len(), listed[0].bytes), (1, 4));
        assert!(files.list(&folder, 0).await.unwrap().is_empty());
        files.delete(&key).await.unwrap();
        files.delete(&key).await.unwrap();
        assert_eq!(files.size(&key).await.unwrap(), None);
        assert_eq!(files.get(&key, 10).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_large_file_is_there_when_it_is_finished() {
        let (files, _, key) = files();
        let mut upload = files.start(key.clone()).await.unwrap();
        let part = Bytes::from(vec![7; 1 << 20]);
        for _ in 0..20 {
            upload.append(part.clone()).await.unwrap();
        }
        assert_eq!(files.get(&key, 1).await.unwrap(), None);
        assert_eq!(upload.finish().await.unwrap(), 20 << 20);
        let body = files.get(&key, u64::MAX).await.unwrap().unwrap();
        assert_eq!(body.len(), 20 << 20);

        let mut given_up = files.start(key.clone()).await.unwrap();
        given_up.append(part).await.unwrap();
        given_up.abort().await;
        let body = files.get(&key, u64::MAX).await.unwrap().unwrap();
        assert_eq!(body.len(), 20 << 20, "the finished one stays");
    }
}
