//! The URL that names an object store, and the check that it can do what the catalogue needs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use crate::error::{StoreError, StoreErrorKind};
use crate::keys;
use crate::remote::{self, Bucket, ClientSettings, Service};
use crate::store_client::StoreClient;

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory of this machine; created if it is missing. Writes are on disk when they return.
    File(PathBuf),
    /// The memory of this process, for tests and trials.
    Memory,
    /// A bucket behind a network.
    Remote(Bucket),
}

/// Why an object store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the store URL {url:?} is not supported; supported are s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///absolute/path, file:relative/path and memory:"
    )]
    Url { url: String },
    #[error("cannot make a client for {url}: {source}; see the settings of section store")]
    Client {
        url: String,
        source: object_store::Error,
    },
    #[error("cannot use the directory {path} as an object store: {source}")]
    Directory {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "the object store lets an object be written a second time that was to be created only (If-None-Match: *), tried with {key}; two processes could then overwrite each other's commits, so the catalogue cannot be kept there. Use a store with conditional writes, or switch them on where a gateway in between drops them"
    )]
    NoConditionalCreate { key: Path },
    #[error("the object store could not be tried out: {source}{}", remedy(source.kind))]
    Probe {
        #[from]
        source: StoreError,
    },
}

impl OpenError {
    /// Whether a later try may succeed with the same settings.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Probe { source } if source.is_unavailable())
    }
}

/// What to do about a probe that failed for good.
const fn remedy(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::NotFound => "; create the bucket first, and check its name and region",
        StoreErrorKind::Denied => {
            "; check store.credentials and the rights to get, put, list and delete in the bucket"
        }
        StoreErrorKind::Refused => "; check store.endpoint, store.region and store.addressing",
        StoreErrorKind::Exists | StoreErrorKind::Unsupported | StoreErrorKind::Unavailable => "",
    }
}

impl FromStr for StoreUrl {
    type Err = OpenError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let refuse = || OpenError::Url {
            url: url.to_owned(),
        };
        if url == "memory:" || url == "memory://" {
            return Ok(Self::Memory);
        }
        for service in [Service::S3, Service::Google, Service::Azure] {
            let scheme = service.scheme();
            if let Some(rest) = url
                .strip_prefix(scheme)
                .and_then(|rest| rest.strip_prefix("://"))
            {
                return bucket(service, rest).map(Self::Remote).ok_or_else(refuse);
            }
        }
        let rest = url.strip_prefix("file:").ok_or_else(refuse)?;
        // A host would be taken for a folder; the only one that means this machine is none.
        let path = match rest.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => return Err(refuse()),
            None => rest,
        };
        if path.is_empty() || path.contains('\0') {
            return Err(refuse());
        }
        Ok(Self::File(PathBuf::from(path)))
    }
}

/// `name/prefix` of a bucket's URL.
fn bucket(service: Service, rest: &str) -> Option<Bucket> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || !name.chars().all(named) {
        return None;
    }
    let prefix = Path::parse(prefix.trim_matches('/')).ok()?;
    // A query or a fragment would silently become part of keys.
    if prefix.as_ref().contains(['?', '#']) {
        return None;
    }
    Some(Bucket {
        service,
        name: name.to_owned(),
        prefix: prefix.into(),
    })
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) if path.is_absolute() => write!(f, "file://{}", path.display()),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Remote(bucket) => bucket.fmt(f),
        }
    }
}

impl StoreUrl {
    /// Bytes between two ranges that are read along when that saves a request.
    pub const fn coalesce_gap(&self) -> u64 {
        match self {
            Self::File(_) => 4 << 10,
            Self::Memory => 0,
            // About what comes over the line in the time that a request waits for its first byte.
            Self::Remote(_) => 256 << 10,
        }
    }

    /// How it is called in metrics.
    pub fn bucket_name(&self) -> &str {
        match self {
            Self::File(_) => "file",
            Self::Memory => "memory",
            Self::Remote(bucket) => &bucket.name,
        }
    }

    /// Whether requests go over a network.
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Opens the store; nothing is sent to a remote one yet.
    ///
    /// # Errors
    /// [`OpenError::Directory`] when the directory cannot be made or used, [`OpenError::Client`]
    /// when the settings make no client.
    pub fn open(&self, client: &ClientSettings) -> Result<StoreClient, OpenError> {
        match self {
            Self::Memory => Ok(StoreClient::memory()),
            Self::Remote(bucket) => {
                remote::client(bucket, client).map_err(|source| OpenError::Client {
                    url: self.to_string(),
                    source,
                })
            }
            Self::File(path) => {
                let failed =
                    |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Directory {
                        path: path.clone(),
                        source,
                    };
                prepare_directories(path).map_err(|e| failed(e.into()))?;
                let store = LocalFileSystem::new_with_prefix(path)
                    .map_err(|e| failed(e.into()))?
                    .with_fsync(true);
                let store: Arc<dyn ObjectStore> = Arc::new(store);
                Ok(store.into())
            }
        }
    }
}

/// Makes the folders that every store has, and puts them on disk before anything is put into them:
/// the store itself syncs only folders that it has made, and of two writers that need the same
/// folder one does not wait for the other's sync.
fn prepare_directories(root: &std::path::Path) -> std::io::Result<()> {
    for folder in [keys::LOG, keys::SNAPSHOT, keys::BLOCKS] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let root = root.canonicalize()?;
    let folders = [keys::LOG, keys::SNAPSHOT, keys::BLOCKS, "catalogue", ""];
    for folder in folders {
        std::fs::File::open(root.join(folder))?.sync_all()?;
    }
    match root.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens the object store that `url` names, a remote one with what the platform offers.
///
/// # Errors
/// A URL that is not supported, or a directory that cannot be used.
pub fn open_object_store(url: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let url: StoreUrl = url.parse()?;
    Ok(url.open(&ClientSettings::default())?.objects)
}

/// Tries out whether the store refuses to create an object twice, which the catalogue rests on.
/// Some stores and some gateways before them accept the condition and ignore it.
///
/// # Errors
/// [`OpenError::NoConditionalCreate`] when it does not, [`OpenError::Probe`] when it cannot be
/// told.
pub async fn probe_conditional_create(store: &dyn ObjectStore) -> Result<(), OpenError> {
    let key = keys::probe(uuid::Uuid::new_v4().as_u128());
    let verdict = probe_with(store, &key).await;
    // An object that stays behind does no harm: nothing reads these keys.
    if let Err(error) = store.delete(&key).await {
        tracing::debug!(%key, %error, "the probe object stays behind");
    }
    verdict
}

async fn probe_with(store: &dyn ObjectStore, key: &Path) -> Result<(), OpenError> {
    let put = |text: &'static str| store.put_opts(key, text.into(), PutMode::Create.into());
    let refused = |source: object_store::Error| match StoreErrorKind::of(&source) {
        StoreErrorKind::Unsupported => OpenError::NoConditionalCreate { key: key.clone() },
        _ => StoreError::new("write", key, source).into(),
    };
    match put("first").await {
        Ok(_) => {}
        // The key is random: only an earlier attempt of this very write can have made it.
        Err(error) if StoreErrorKind::of(&error) == StoreErrorKind::Exists => {}
        Err(error) => return Err(refused(error)),
    }
    match put("second").await {
        Ok(_) => return Err(OpenError::NoConditionalCreate { key: key.clone() }),
        Err(error) if StoreErrorKind::of(&error) == StoreErrorKind::Exists => {}
        Err(error) => return Err(refused(error)),
    }
    let read = async { store.get(key).await?.bytes().await };
    let bytes = read.await.map_err(|e| StoreError::new("read", key, e))?;
    if bytes.as_ref() == b"first" {
        Ok(())
    } else {
        Err(OpenError::NoConditionalCreate { key: key.clone() })
    }
}

#[cfg(test)]
mod tests;
