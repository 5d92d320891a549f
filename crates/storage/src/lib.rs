//! What Scoria keeps in the object store and how it gets at it: the paths, the catalogue of live
//! blocks and streams, and the tables of blocks by byte range.
//!
//! # Invariants
//! - The catalogue's state is the fold of its log and of nothing else (C1); an entry that would
//!   break an invariant is refused as corrupt and named, never applied in part (C3).
//! - A commit whose reply was lost is recognised by its nonce and applied once (C4). An outcome
//!   that cannot be known is reported as unknown.
//! - A block is put manifest last, and on disk before [`BlockStore::put_block`] returns.
//! - Every request to the store is counted by purpose, and every error names the object's key.
//!
//! # What it must not know
//! What profiles are, what a table's bytes mean (that is the `block` crate's), and which role asks.

pub mod block_store;
pub mod catalogue;
pub mod copy;
pub mod documents;
pub mod error;
pub mod fsck;
pub mod guarded;
pub mod keys;
pub mod metrics;
pub mod rebuild;
pub mod remote;
pub mod store_client;
pub mod store_url;
pub mod tenant_files;
#[cfg(feature = "testing")]
pub mod testing;
pub mod usage;

pub use block_store::{BlockStore, BlockStoreOptions, FetchStats, Purpose};
pub use catalogue::{
    Catalogue, CatalogueOptions, CatalogueState, CommitError, Deletion, Op, Precondition,
    Tombstone, TombstoneId, Txn,
};
pub use documents::{Change, DocumentError, DocumentKind, Documents};
pub use error::{StoreError, StoreErrorKind};
pub use guarded::{GuardedStore, HedgePolicy, RequestMetrics, RequestPolicy};
pub use metrics::Metrics;
pub use remote::{Addressing, Bucket, ClientSettings, Credentials, Secret};
pub use store_client::StoreClient;
pub use store_url::{OpenError, StoreUrl, open_object_store, probe_conditional_create};
pub use tenant_files::{FileEntry, FileUpload, TenantFiles};
