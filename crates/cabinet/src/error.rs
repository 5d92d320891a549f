//! Why something could not be kept or found, by what the caller can do about it.

use scoria_storage::{DocumentError, StoreError, StoreErrorKind};

/// What a refusal means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CabinetErrorKind {
    /// What was sent breaks a rule.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// What is there is newer than what the caller knows.
    Outdated,
    /// What must come before has not.
    NotStarted,
    /// It has more bytes than are taken.
    TooLarge,
    /// The tenant has as much of it as it may.
    LimitExceeded,
    /// The store does not answer; worth another try.
    Unavailable,
    /// What was stored cannot be read.
    DataCorrupt,
    /// The store refuses us.
    Internal,
}

/// A refusal in words.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CabinetError {
    pub kind: CabinetErrorKind,
    pub message: String,
}

impl CabinetError {
    pub(crate) fn new(kind: CabinetErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(CabinetErrorKind::Invalid, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(CabinetErrorKind::NotFound, message)
    }

    pub(crate) fn outdated(message: impl Into<String>) -> Self {
        Self::new(CabinetErrorKind::Outdated, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(CabinetErrorKind::LimitExceeded, message)
    }

    /// A document whose frame is whole but whose text is not ours.
    pub(crate) fn unreadable(what: &str, error: &serde_json::Error) -> Self {
        Self::new(
            CabinetErrorKind::DataCorrupt,
            format!("the tenant's {what} cannot be read: {error}"),
        )
    }
}

impl From<StoreError> for CabinetError {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind {
            StoreErrorKind::Unavailable => CabinetErrorKind::Unavailable,
            _ => CabinetErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DocumentError> for CabinetError {
    fn from(error: DocumentError) -> Self {
        let kind = match &error {
            DocumentError::Store(store) if store.kind == StoreErrorKind::Unavailable => {
                CabinetErrorKind::Unavailable
            }
            DocumentError::Store(_) => CabinetErrorKind::Internal,
            DocumentError::Damaged { .. } => CabinetErrorKind::DataCorrupt,
            DocumentError::TooLarge { .. } | DocumentError::TooOften { .. } => {
                CabinetErrorKind::LimitExceeded
            }
            DocumentError::Contended { .. } => CabinetErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}
