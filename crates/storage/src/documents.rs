//! Small documents of a tenant, such as its settings: kept in numbered versions, each written once.
//!
//! ```text
//! read ──► change ──► create version n+1 ──► delete versions that are long out of date
//!   ▲                       │ taken by another writer
//!   └───────────────────────┘
//! ```
//! The newest version is the document. A writer reads it and creates the next one, which only one
//! writer can do: all that is asked of the store is what the catalogue asks of it.
//!
//! # Invariants
//! - No change is lost: what a writer replaces is what it has read.
//! - A create whose reply was lost is recognised by its nonce and applied once.
//! - A version is deleted only when the one after the newest of its time is [`KEPT`] younger: a
//!   writer that is still about to create its number would have to sleep that long.
//! - Documents and the number of their versions are bounded.
//!
//! # What it must not know
//! What a document says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};
use scoria_model::TenantId;

use crate::block_store::Purpose;
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;
use crate::metrics::Metrics;

/// Largest document.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Most versions of one document at a time.
const VERSIONS_MAX: usize = 512;
/// How much younger than a version the newest must be before the version may go.
const KEPT: Duration = Duration::from_secs(3600);
/// Times that a change is tried while others change the same document.
const TRIES: u32 = 32;
/// First word of every document.
const MAGIC: &str = "scoria-document-1";

/// The documents that a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    Settings,
    RecordingRules,
}

impl DocumentKind {
    /// The folder below the tenant's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::RecordingRules => "recording-rules",
        }
    }
}

/// Why a document could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{key} is damaged: {why}")]
    Damaged { key: Path, why: &'static str },
    #[error("{key} would be {actual} bytes long; the limit is {DOCUMENT_BYTES_MAX}")]
    TooLarge { key: Path, actual: usize },
    #[error("{folder} was changed more than {VERSIONS_MAX} times within an hour; wait a while")]
    TooOften { folder: Path },
    #[error("{folder} was changed by others {TRIES} times during this change; try again")]
    Contended { folder: Path },
}

/// What a change makes of a document.
#[derive(Debug)]
pub enum Change<T> {
    /// The document becomes these bytes.
    Write(Vec<u8>, T),
    /// It stays as it is.
    Keep(T),
}

/// Every tenant's documents in one object store.
#[derive(Debug, Clone)]
pub struct Documents {
    store: Arc<dyn ObjectStore>,
    metrics: Metrics,
}

/// A document as it was read.
struct Newest {
    /// 0 when there is none.
    version: u64,
    body: Option<Bytes>,
    versions: Vec<(u64, ObjectMeta)>,
}

impl Documents {
    pub fn new(store: Arc<dyn ObjectStore>, metrics: Metrics) -> Self {
        Self { store, metrics }
    }

    /// The document, if there is one.
    ///
    /// # Errors
    /// It could not be read, or is damaged.
    pub async fn read(
        &self,
        tenant: &TenantId,
        kind: DocumentKind,
    ) -> Result<Option<Bytes>, DocumentError> {
        Ok(self.newest(&keys::document(tenant, kind)).await?.body)
    }

    /// Changes the document. `change` may be called several times, each time with what is there.
    ///
    /// # Errors
    /// The change's own, or the store's; then the document is as it was, unless the store could
    /// not tell.
    pub async fn update<T, E: From<DocumentError>>(
        &self,
        tenant: &TenantId,
        kind: DocumentKind,
        mut change: impl FnMut(Option<&[u8]>) -> Result<Change<T>, E>,
    ) -> Result<T, E> {
        let folder = keys::document(tenant, kind);
        for _ in 0..TRIES {
            let newest = self.newest(&folder).await?;
            let (body, answer) = match change(newest.body.as_deref())? {
                Change::Keep(answer) => return Ok(answer),
                Change::Write(body, answer) => (body, answer),
            };
            if newest.versions.len() >= VERSIONS_MAX {
                self.sweep(&newest.versions).await;
                return Err(DocumentError::TooOften { folder }.into());
            }
            if self.create(&folder, newest.version + 1, &body).await? {
                self.sweep(&newest.versions).await;
                return Ok(answer);
            }
        }
        Err(DocumentError::Contended { folder }.into())
    }

    async fn newest(&self, folder: &Path) -> Result<Newest, DocumentError> {
        // A version that is gone by the time it is read has newer ones beside it.
        for _ in 0..TRIES {
            let versions = self.list(folder).await?;
            let Some(&(version, _)) = versions.last() else {
                return Ok(Newest {
                    version: 0,
                    body: None,
                    versions,
                });
            };
            let key = keys::document_version(folder, version);
            match self.get(&key).await {
                Ok(bytes) => {
                    let (_, body) = decode(&key, &bytes)?;
                    return Ok(Newest {
                        version,
                        body: Some(body),
                        versions,
                    });
                }
                Err(DocumentError::Store(error)) if error.kind == StoreErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(DocumentError::Contended {
            folder: folder.clone(),
        })
    }

    /// The versions in their order.
    async fn list(&self, folder: &Path) -> Result<Vec<(u64, ObjectMeta)>, StoreError> {
        let listed: Result<Vec<ObjectMeta>, _> = self.store.list(Some(folder)).try_collect().await;
        let listed = listed.map_err(|source| StoreError::new("list", folder, source));
        self.count("list", &listed.as_ref().map(|_| 0));
        let mut versions: Vec<(u64, ObjectMeta)> = listed?
            .into_iter()
            .filter_map(|meta| Some((keys::version_of(&meta.location)?.0, meta)))
            .collect();
        versions.sort_unstable_by_key(|(version, _)| *version);
        Ok(versions)
    }

    async fn get(&self, key: &Path) -> Result<Bytes, DocumentError> {
        let read = async {
            let found = self.store.get(key).await?;
            match usize::try_from(found.meta.size) {
                Ok(size) if size <= 2 * DOCUMENT_BYTES_MAX => found.bytes().await.map(Some),
                _ => Ok(None),
            }
        };
        let result = read
            .await
            .map_err(|source| StoreError::new("read", key, source));
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len) as u64;
        self.count("read", &result.as_ref().map(length));
        result?.ok_or_else(|| DocumentError::Damaged {
            key: key.clone(),
            why: "it is longer than a document can be",
        })
    }

    /// Creates a version; whether it is ours.
    async fn create(
        &self,
        folder: &Path,
        version: u64,
        body: &[u8],
    ) -> Result<bool, DocumentError> {
        let key = keys::document_version(folder, version);
        if body.len() > DOCUMENT_BYTES_MAX {
            let actual = body.len();
            return Err(DocumentError::TooLarge { key, actual });
        }
        let nonce = uuid::Uuid::new_v4().as_u128();
        let bytes = Bytes::from(encode(nonce, body));
        let length = bytes.len() as u64;
        let put = self
            .store
            .put_opts(&key, bytes.into(), PutMode::Create.into())
            .await;
        let put = put.map_err(|source| StoreError::new("write", &key, source));
        self.count("write", &put.as_ref().map(|_| length));
        let Err(error) = put else {
            return Ok(true);
        };
        // Both may be the echo of our own write: an earlier attempt inside the client that landed,
        // or a reply that got lost.
        if !matches!(
            error.kind,
            StoreErrorKind::Exists | StoreErrorKind::Unavailable
        ) {
            return Err(error.into());
        }
        match self.get(&key).await {
            Ok(found) => Ok(decode(&key, &found)?.0 == nonce),
            Err(DocumentError::Store(missing)) if missing.kind == StoreErrorKind::NotFound => {
                if error.kind == StoreErrorKind::Exists {
                    // Taken by a writer so long ago that it was swept since.
                    return Ok(false);
                }
                Err(error.into())
            }
            Err(_) => Err(error.into()),
        }
    }

    /// Deletes what is long out of date. A version that stays behind does no harm.
    async fn sweep(&self, versions: &[(u64, ObjectMeta)]) {
        let Some((_, newest)) = versions.last() else {
            return;
        };
        for (_, meta) in versions {
            let age = newest.last_modified - meta.last_modified;
            if age.to_std().is_ok_and(|age| age > KEPT) {
                let deleted = self.store.delete(&meta.location).await;
                let deleted =
                    deleted.map_err(|source| StoreError::new("delete", &meta.location, source));
                self.count("delete", &deleted.as_ref().map(|()| 0));
                if let Err(error) = deleted {
                    tracing::debug!(%error, "an old document stays behind");
                }
            }
        }
    }

    fn count(&self, operation: &'static str, result: &Result<u64, &StoreError>) {
        let counted = result.map_err(|error| error.kind);
        self.metrics.request(Purpose::Tenant, operation, counted);
    }
}

/// A line that says what follows, then the body.
fn encode(nonce: u128, body: &[u8]) -> Vec<u8> {
    let sum = xxhash_rust::xxh3::xxh3_64(body);
    let mut bytes = format!("{MAGIC} {nonce:032x} {sum:016x}\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The nonce and the body.
fn decode(key: &Path, bytes: &Bytes) -> Result<(u128, Bytes), DocumentError> {
    let damaged = |why| DocumentError::Damaged {
        key: key.clone(),
        why,
    };
    let head = || {
        let end = bytes.iter().take(128).position(|&b| b == b'\n')?;
        let line = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let mut words = line.split(' ');
        let known = words.next()? == MAGIC;
        let nonce = u128::from_str_radix(words.next()?, 16).ok()?;
        let sum = u64::from_str_radix(words.next()?, 16).ok()?;
        known.then_some((nonce, sum, end + 1))
    };
    let (nonce, sum, start) =
        head().ok_or_else(|| damaged("its first line is not a document's"))?;
    let body = bytes.slice(start..);
    if xxhash_rust::xxh3::xxh3_64(&body) != sum {
        return Err(damaged("its checksum does not match"));
    }
    Ok((nonce, body))
}

#[cfg(test)]
mod tests;
