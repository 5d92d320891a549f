//! An object that is sent in parts, each with the turn, the time limit and the retries of any
//! other request.
//!
//! # Invariants
//! - A part that is sent again keeps its number, so that the object holds it once.
//! - Putting the parts together is tried again, too. If the store then knows the upload no more, an
//!   earlier attempt has done it, or somebody has thrown the upload away: the object tells which.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, MultipartId, MultipartUpload, ObjectStore, PutMultipartOptions, PutPayload,
    PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

use super::{GuardedStore, Kind};
use crate::error::StoreErrorKind;

/// An upload under way.
pub(super) struct GuardedParts {
    upload: Arc<Upload>,
    /// What the store called each part, by its number.
    sent: Arc<Mutex<Vec<Option<PartId>>>>,
    bytes: u64,
}

/// What requests of one upload have in common.
struct Upload {
    store: GuardedStore,
    parts: Arc<dyn MultipartStore>,
    key: Path,
    id: MultipartId,
    what: Kind,
}

impl GuardedParts {
    /// Begins an upload. One that is begun and has no answer holds nothing, so that another may
    /// begin in its place.
    pub(super) async fn begin(
        store: &GuardedStore,
        parts: Arc<dyn MultipartStore>,
        (key, what): (&Path, Kind),
        options: PutMultipartOptions,
    ) -> Result<Self> {
        let once = || {
            let request = parts.create_multipart_opts(key, options.clone());
            store.attempt(what, 0, request)
        };
        let id = store.retrying(what.operation, once).await?;
        Ok(Self {
            upload: Arc::new(Upload {
                store: store.clone(),
                parts,
                key: key.clone(),
                id,
                what,
            }),
            sent: Arc::default(),
            bytes: 0,
        })
    }
}

impl Upload {
    async fn put(&self, at: usize, data: PutPayload) -> Result<PartId> {
        let bytes = data.content_length() as u64;
        let once = || {
            let request = self.parts.put_part(&self.key, &self.id, at, data.clone());
            self.store.attempt(self.what, bytes, request)
        };
        self.store.retrying(self.what.operation, once).await
    }

    async fn complete(&self, parts: Vec<PartId>, bytes: u64) -> Result<PutResult> {
        let attempts = AtomicU32::new(0);
        let once = || {
            attempts.fetch_add(1, Ordering::Relaxed);
            let request = self
                .parts
                .complete_multipart(&self.key, &self.id, parts.clone());
            // Some stores copy the parts into their place.
            self.store.attempt(self.what, bytes, request)
        };
        let error = match self.store.retrying(self.what.operation, once).await {
            Ok(put) => return Ok(put),
            Err(error) => error,
        };
        let unknown = StoreErrorKind::of(&error) == StoreErrorKind::NotFound;
        match unknown && attempts.into_inner() > 1 {
            true => self.landed(bytes).await?.ok_or(error),
            false => Err(error),
        }
    }

    /// The object, if it is as long as what was sent.
    async fn landed(&self, bytes: u64) -> Result<Option<PutResult>> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let meta = match self.store.get_opts(&self.key, options).await {
            Ok(found) => found.meta,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((meta.size == bytes).then(|| PutResult {
            e_tag: meta.e_tag,
            version: meta.version,
            extensions: Default::default(),
        }))
    }
}

#[async_trait]
impl MultipartUpload for GuardedParts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.bytes += data.content_length() as u64;
        let at = {
            let mut sent = self.sent.lock();
            sent.push(None);
            sent.len() - 1
        };
        let (upload, sent) = (Arc::clone(&self.upload), Arc::clone(&self.sent));
        Box::pin(async move {
            let part = upload.put(at, data).await?;
            if let Some(place) = sent.lock().get_mut(at) {
                *place = Some(part);
            }
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts: Option<Vec<PartId>> = self.sent.lock().iter().cloned().collect();
        let parts = parts.ok_or_else(|| {
            super::generic(format!(
                "a part of {} was not sent, so it cannot be put together",
                self.upload.key
            ))
        })?;
        self.upload.complete(parts, self.bytes).await
    }

    async fn abort(&mut self) -> Result<()> {
        let Upload {
            store,
            parts,
            key,
            id,
            what,
        } = &*self.upload;
        let once = || store.attempt(*what, 0, parts.abort_multipart(key, id));
        store.retrying(what.operation, once).await
    }
}

impl fmt::Debug for GuardedParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedParts")
            .field("key", &self.upload.key)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
