//! The URL that names an object store, and the check that it can do what the catalogue needs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use crate::error::{StoreError, StoreErrorKind};
use crate::keys;

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory of this machine; created if it is missing. Writes are on disk when they return.
    File(PathBuf),
    /// The memory of this process, for tests and trials.
    Memory,
}

/// Why an object store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the store URL {url:?} is not supported; supported are file:///absolute/path, file:relative/path and memory:"
    )]
    Url { url: String },
    #[error("cannot use the directory {path} as an object store: {source}")]
    Directory {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "the object store does not refuse to write an object a second time when asked to create it; the catalogue cannot be kept there. Use a store with conditional writes"
    )]
    NoConditionalCreate,
    #[error("the object store could not be tried out: {0}")]
    Probe(#[from] StoreError),
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

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) if path.is_absolute() => write!(f, "file://{}", path.display()),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl StoreUrl {
    /// Bytes between two ranges that are read along when that saves a request.
    pub const fn coalesce_gap(&self) -> u64 {
        match self {
            Self::File(_) => 4 << 10,
            Self::Memory => 0,
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// [`OpenError::Directory`] when the directory cannot be made or used.
    pub fn open(&self) -> Result<Arc<dyn ObjectStore>, OpenError> {
        match self {
            Self::Memory => Ok(Arc::new(InMemory::new())),
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
                Ok(Arc::new(store))
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

/// Opens the object store that `url` names.
///
/// # Errors
/// A URL that is not supported, or a directory that cannot be used.
pub fn open_object_store(url: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    url.parse::<StoreUrl>()?.open()
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
        StoreErrorKind::Unsupported => OpenError::NoConditionalCreate,
        _ => StoreError::new("write", key, source).into(),
    };
    match put("first").await {
        Ok(_) => {}
        // The key is random: only an earlier attempt of this very write can have made it.
        Err(error) if StoreErrorKind::of(&error) == StoreErrorKind::Exists => {}
        Err(error) => return Err(refused(error)),
    }
    match put("second").await {
        Ok(_) => return Err(OpenError::NoConditionalCreate),
        Err(error) if StoreErrorKind::of(&error) == StoreErrorKind::Exists => {}
        Err(error) => return Err(refused(error)),
    }
    let read = async { store.get(key).await?.bytes().await };
    let bytes = read.await.map_err(|e| StoreError::new("read", key, e))?;
    if bytes.as_ref() == b"first" {
        Ok(())
    } else {
        Err(OpenError::NoConditionalCreate)
    }
}

#[cfg(test)]
mod tests;
