//! Why a record was refused.

use scoria_model::tenant::TenantIdError;
use scoria_model::varint::VarintError;
use scoria_symbols::SymbolsError;

use super::samples::SamplesError;

/// Names what the record breaks. Which log and which record is for the caller to add.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record has version {found}; this build reads version {known}")]
    Version { found: u8, known: u8 },
    #[error("the record is of kind {found}, which this build does not know")]
    Kind { found: u8 },
    #[error("the record's {field}: {source}")]
    Varint {
        field: &'static str,
        source: VarintError,
    },
    #[error("the record's {field} is not UTF-8")]
    Utf8 { field: &'static str },
    #[error("the record's tenant: {0}")]
    Tenant(#[from] TenantIdError),
    #[error("the symbols of the record: {0}")]
    Symbols(#[from] SymbolsError),
    #[error("the record's {field} is {value}; it must be below {size}")]
    Index {
        field: &'static str,
        value: u64,
        size: usize,
    },
    #[error("the record's {field} {name} is new but known already")]
    Repeated { field: &'static str, name: String },
    #[error("profile {place} of the record is a difference to a profile that is not there")]
    NoBase { place: u32 },
    #[error("profile {place} of the record: {source}")]
    Samples { place: u32, source: SamplesError },
    #[error("the record's dataset {dataset} belongs to another tenant")]
    OtherTenant { dataset: u32 },
    #[error("a label of the record has the code {code}, with nothing to repeat or unknown")]
    Label { code: u64 },
    #[error("the record goes on for {left} bytes after its end")]
    Trailing { left: usize },
}
