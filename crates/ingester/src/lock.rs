//! One process per log directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Held while the process uses the directory; the system lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("cannot use the data directory {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "the data directory {} is in use by another process; stop that one or choose another directory",
        path.display()
    )]
    InUse { path: PathBuf },
}

impl DirectoryLock {
    /// Creates the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// [`LockError`]
    pub(crate) fn take(directory: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::InUse {
                path: directory.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
