//! An object store whose requests go wrong as a [`FaultPlan`] says.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use super::fault_plan::{Fault, FaultPlan};
use super::faulty_parts::FaultyParts;
use crate::store_client::StoreClient;

/// Wraps another store. Clones share the plan.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<FaultPlan>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn ObjectStore>, plan: FaultPlan) -> Self {
        Self {
            inner,
            plan: Arc::new(Mutex::new(plan)),
            requests: Arc::default(),
        }
    }

    /// The client of this store, with the way that `parts` of the wrapped one have, spoiled too.
    pub fn client(&self, parts: Option<Arc<dyn MultipartStore>>) -> StoreClient {
        let spoil = |inner| {
            let of = self.clone();
            Arc::new(FaultyParts { inner, of }) as Arc<dyn MultipartStore>
        };
        StoreClient {
            objects: Arc::new(self.clone()),
            parts: parts.map(spoil),
        }
    }

    /// Changes the plan.
    pub fn plan<T>(&self, change: impl FnOnce(&mut FaultPlan) -> T) -> T {
        change(&mut self.plan.lock())
    }

    /// The requests so far as `verb key`, in order.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }

    pub(super) fn note(&self, verb: &str, key: &Path) {
        self.requests.lock().push(format!("{verb} {key}"));
    }

    async fn before_read(&self, key: &Path) -> Result<()> {
        self.note("get", key);
        let fault = self.plan.lock().on_read();
        match fault {
            Fault::None => Ok(()),
            Fault::Slow(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Fault::ServerError => Err(server_error()),
            _ => Err(no_answer().await),
        }
    }
}

pub(super) fn server_error() -> Error {
    generic("503 Service Unavailable")
}

fn generic(text: &'static str) -> Error {
    Error::Generic {
        store: "faulty",
        source: text.into(),
    }
}

pub(super) async fn no_answer() -> Error {
    tokio::time::sleep(Duration::from_millis(100)).await;
    generic("the request timed out")
}

fn exists(key: &Path, text: &'static str) -> Error {
    Error::AlreadyExists {
        path: key.to_string(),
        source: text.into(),
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.note("put", location);
        let fault = match self.plan.lock().on_write() {
            // Answers to a condition, which only some writes carry.
            Fault::Conflict | Fault::Precondition | Fault::SentTwice
                if !matches!(opts.mode, PutMode::Create) =>
            {
                Fault::None
            }
            fault => fault,
        };
        match fault {
            Fault::Conflict => return Err(exists(location, "409 ConditionalRequestConflict")),
            Fault::Precondition => {
                return Err(Error::Precondition {
                    path: location.to_string(),
                    source: "412 Precondition Failed".into(),
                });
            }
            Fault::ServerError => return Err(server_error()),
            Fault::Timeout => return Err(no_answer().await),
            Fault::Late(wait) => {
                let (inner, key) = (Arc::clone(&self.inner), location.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    // Whether it lands or finds the place taken, nobody listens any more.
                    inner.put_opts(&key, payload, opts).await.is_ok()
                });
                return Err(no_answer().await);
            }
            Fault::Slow(wait) => tokio::time::sleep(wait).await,
            Fault::None | Fault::LostReply | Fault::SentTwice => {}
        }
        let done = self.inner.put_opts(location, payload, opts).await?;
        match fault {
            Fault::LostReply => Err(no_answer().await),
            Fault::SentTwice => Err(exists(location, "412 by the second attempt")),
            _ => Ok(done),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.before_read(location).await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.before_read(location).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            this.before_read(&prefix.clone().unwrap_or_default())
                .await?;
            Ok::<_, Error>(this.inner.list(prefix.as_ref()))
        };
        futures::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.before_read(&prefix.cloned().unwrap_or_default())
            .await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
