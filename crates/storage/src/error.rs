//! What can go wrong with the object store, by what a caller can do about it.

use std::fmt;

use object_store::path::Path;

use crate::remote::Refusal;

/// What a failed request means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// The object does not exist.
    NotFound,
    /// A conditional write met an object that is already there (409, 412). Whether it was put
    /// there by an earlier attempt of the same write only reading it can tell.
    Exists,
    /// The store refuses us: credentials or rights. Nothing was written.
    Denied,
    /// The store cannot do this at all. Nothing was written.
    Unsupported,
    /// The store says that the request is wrong, which the settings cause: region, endpoint or
    /// addressing. Nothing was written.
    Refused,
    /// It did not answer, or answered that it is in trouble. Worth another try; a write may or may
    /// not have landed.
    Unavailable,
}

impl StoreErrorKind {
    /// How an error of the store is to be taken.
    pub fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => Self::NotFound,
            E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => {
                Self::Exists
            }
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied,
            E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::InvalidPath { .. }
            | E::UnknownConfigurationKey { .. } => Self::Unsupported,
            E::Generic { source, .. } => match refusal(source.as_ref()) {
                Some(Refusal { status: 501, .. }) => Self::Unsupported,
                Some(_) => Self::Refused,
                None => Self::Unavailable,
            },
            _ => Self::Unavailable,
        }
    }

    /// The word for metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The refusal that is somewhere in the causes of an error.
fn refusal<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refusal> {
    let mut next = Some(error);
    // Causes have no cycles, but nothing says so.
    for _ in 0..16 {
        let error = next?;
        if let Some(refusal) = error.downcast_ref() {
            return Some(refusal);
        }
        next = error.source();
    }
    None
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request to the object store that failed, with the key it was about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {key} in the object store ({kind}): {source}")]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// The object's key, or the folder that was listed.
    pub key: Path,
    /// What was tried: `read`, `write`, `list`, `delete`.
    pub verb: &'static str,
    pub source: object_store::Error,
}

impl StoreError {
    pub(crate) fn new(verb: &'static str, key: &Path, source: object_store::Error) -> Self {
        Self {
            kind: StoreErrorKind::of(&source),
            key: key.clone(),
            verb,
            source,
        }
    }

    /// Whether the store is at fault and a later try may succeed: what a role answers with 503.
    pub fn is_unavailable(&self) -> bool {
        self.kind == StoreErrorKind::Unavailable
    }
}
