//! Uploads in parts whose requests go wrong as the plan of a [`FaultyStore`] says.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, MultipartId, PutMultipartOptions, PutPayload, PutResult, Result};

use super::fault_plan::Fault;
use super::faulty_store::{FaultyStore, no_answer, server_error};

/// Wraps the parts of the store that `of` wraps.
pub(super) struct FaultyParts {
    pub(super) inner: Arc<dyn MultipartStore>,
    pub(super) of: FaultyStore,
}

impl FaultyParts {
    /// Does a request, or not, and tells of it, or not. None of them carries a condition.
    async fn spoiled<T>(
        &self,
        (verb, key): (&str, &Path),
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.of.note(verb, key);
        let fault = self.of.plan(|plan| plan.on_write());
        match fault {
            Fault::ServerError => return Err(server_error()),
            Fault::Timeout | Fault::Late(_) => return Err(no_answer().await),
            Fault::Slow(wait) => tokio::time::sleep(wait).await,
            Fault::None
            | Fault::Conflict
            | Fault::Precondition
            | Fault::LostReply
            | Fault::SentTwice => {}
        }
        let done = request.await?;
        match fault {
            Fault::LostReply => Err(no_answer().await),
            _ => Ok(done),
        }
    }
}

#[async_trait]
impl MultipartStore for FaultyParts {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let request = self.inner.create_multipart(path);
        self.spoiled(("begin", path), request).await
    }

    async fn create_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<MultipartId> {
        let request = self.inner.create_multipart_opts(path, opts);
        self.spoiled(("begin", path), request).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let request = self.inner.put_part(path, id, part_idx, data);
        self.spoiled(("part", path), request).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let request = async {
            // Remote stores answer 404 for an upload that they do not know; memory has no kind for it.
            let complete = self.inner.complete_multipart(path, id, parts).await;
            complete.map_err(|unknown| Error::NotFound {
                path: path.to_string(),
                source: unknown.into(),
            })
        };
        self.spoiled(("complete", path), request).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let request = self.inner.abort_multipart(path, id);
        self.spoiled(("abort", path), request).await
    }
}
