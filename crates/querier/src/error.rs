//! Why a question was not answered.

use scoria_block::BlockError;
use scoria_model::budget::BudgetExceeded;
use scoria_query::exec::ExecError;
use scoria_query::request::RequestError;
use scoria_storage::block_store::BlockReadError;
use scoria_storage::catalogue::CatalogueError;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Ask differently.
    Invalid,
    /// What is named is not there, or not any more.
    NotFound,
    /// Ask for less, or later: memory or an allowance is used up.
    LimitExceeded,
    /// Ask again later: something that is needed does not answer.
    Unavailable,
    /// Stored bytes are damaged; somebody has to look at them.
    DataCorrupt,
    /// A fault of this program.
    Internal,
}

impl ErrorKind {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::LimitExceeded => "limit_exceeded",
            Self::Unavailable => "unavailable",
            Self::DataCorrupt => "data_corrupt",
            Self::Internal => "internal",
        }
    }
}

/// An error of a query; its text names what failed and is meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    kind: ErrorKind,
    message: String,
}

impl QueryError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error, told to be about `what`.
    pub(crate) fn about(self, what: impl std::fmt::Display) -> Self {
        Self {
            kind: self.kind,
            message: format!("{what}: {}", self.message),
        }
    }
}

impl From<RequestError> for QueryError {
    fn from(error: RequestError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }
}

impl From<BudgetExceeded> for QueryError {
    fn from(error: BudgetExceeded) -> Self {
        Self::new(
            ErrorKind::LimitExceeded,
            format!("{error}; ask for a shorter range or fewer series, or try again later"),
        )
    }
}

impl From<BlockReadError> for QueryError {
    fn from(error: BlockReadError) -> Self {
        let kind = if error.is_unavailable() {
            ErrorKind::Unavailable
        } else {
            ErrorKind::DataCorrupt
        };
        Self::new(kind, error.to_string())
    }
}

impl From<BlockError> for QueryError {
    fn from(error: BlockError) -> Self {
        Self::new(ErrorKind::DataCorrupt, error.to_string())
    }
}

impl From<CatalogueError> for QueryError {
    fn from(error: CatalogueError) -> Self {
        let kind = if error.is_unavailable() {
            ErrorKind::Unavailable
        } else {
            ErrorKind::DataCorrupt
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ExecError> for QueryError {
    fn from(error: ExecError) -> Self {
        Self::new(ErrorKind::DataCorrupt, error.to_string())
    }
}
