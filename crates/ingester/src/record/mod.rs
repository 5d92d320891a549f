//! Log records: what is written for a push before it is acknowledged.
//!
//! One record holds all parts of one push of one tenant, so that they are stored together or not at
//! all. It does not repeat what earlier records of the same *generation* said: symbols, series and
//! profile types get numbers when they first come, and a profile that hardly differs from the one
//! before it is written as the difference. [`RecordWriter`] and [`RecordReader`] go through the
//! same states, and both hand out the same [`HeadAppend`]s, so that heads are fed alike whether the
//! push has just come or is read back from a log.

mod append;
mod error;

pub use append::{AppendedProfile, EncodedRecord, HeadAppend, Push, Replayed, SharedDictionary};
pub use error::RecordError;
