//! The vocabulary of Scoria: what every other crate means by its words.
//!
//! Tenants, labels and series, profile types, times and time ranges, the ids of streams and
//! blocks, limits and the reasons for refusing, and [`part::Part`], the columnar form in which a
//! decoded profile travels from a distributor to an ingester.
//!
//! # Invariants
//! - Everything here is a value. Nothing does IO, reads a clock, draws a random number or logs.
//! - A [`TenantId`] is always safe as one segment of an object-store path.
//! - [`Labels`] are sorted by name and each name stands once.
//! - A parsed [`part::PartView`] has no index that points outside its tables.
//!
//! # What it must not know
//! Any format that a client sends, any table that is stored, and who calls it.

pub mod budget;
pub mod clock;
pub mod ids;
pub mod labels;
pub mod limits;
pub mod packed;
pub mod part;
pub mod profile_type;
pub mod reason;
pub mod regexp;
pub mod shard;
pub mod tenant;
pub mod time;
pub mod varint;

pub use budget::{ByteBudget, Permit};
pub use clock::Clock;
pub use ids::{
    BlockId, CatalogueVersion, Epoch, Incarnation, NodeId, ProfileId, RetryKey, Seq, StreamId,
};
pub use labels::{Label, Labels, LabelsBuilder};
pub use limits::Limits;
pub use packed::{Packed, PackedSlice, Rows};
pub use profile_type::ProfileType;
pub use reason::DiscardReason;
pub use shard::ShardSet;
pub use tenant::TenantId;
pub use time::{TimeRange, Timestamp};
