//! What a record means to the heads.

use std::sync::Arc;

use parking_lot::Mutex;
use scoria_block::WriteKey;
use scoria_model::{Labels, ProfileType, RetryKey, TenantId, Timestamp};
use scoria_symbols::Dictionary;

/// The symbols of one dataset of one generation. The writer adds to them before a record is logged,
/// heads take snapshots; what no logged record uses is never referred to by a head.
pub type SharedDictionary = Arc<Mutex<Dictionary>>;

/// One profile of one type, as a head takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendedProfile {
    /// Index into the dataset's series, old and new.
    pub series: u32,
    /// Index into the dataset's profile types, old and new.
    pub kind: u32,
    pub time: Timestamp,
    pub duration_ns: i64,
    pub period: i64,
    /// Sum of the values.
    pub total: i64,
    pub n_samples: u32,
    /// Index into the keys of the push: the write it came with.
    pub part: u32,
    /// Its place within the record, over all datasets: the same for all types and series that one
    /// profile of a write came apart into.
    pub place: u32,
    /// One past its last byte in [`HeadAppend::samples`]; its first is the end of the one before.
    pub samples_end: u32,
}

/// What one record adds to one dataset.
#[derive(Debug, Clone)]
pub struct HeadAppend {
    pub tenant: TenantId,
    pub service: Arc<str>,
    pub dictionary: SharedDictionary,
    /// Series that this record brings; their indexes go on where the dataset's ended.
    pub series: Vec<Labels>,
    /// Profile types that this record brings, numbered likewise.
    pub kinds: Vec<ProfileType>,
    pub profiles: Vec<AppendedProfile>,
    /// The profiles' samples, in full, as [`super::samples`] encodes them.
    pub samples: Vec<u8>,
}

/// A push, as its record tells it.
#[derive(Debug, Clone)]
pub struct Push {
    /// When the push arrived, by the clock of the ingester that took it.
    pub arrival: Timestamp,
    pub tenant: TenantId,
    /// One per write, in the order of the push.
    pub keys: Vec<RetryKey>,
    /// One per dataset that the push touches.
    pub heads: Vec<HeadAppend>,
}

impl Push {
    /// By what a later copy of the profile's write is recognised.
    pub(crate) fn write_of(&self, profile: &AppendedProfile) -> WriteKey {
        let key = self.keys.get(profile.part as usize);
        WriteKey {
            key: key.map_or([0; 16], |key| key.0),
            arrival_ns: self.arrival.0,
        }
    }
}

/// What [`super::RecordWriter::encode`] gives: the bytes to log, and what to do when they are
/// durable.
#[derive(Debug, Clone)]
pub struct EncodedRecord {
    pub bytes: Vec<u8>,
    pub push: Push,
}

/// A record read back.
#[derive(Debug, Clone)]
pub enum Replayed {
    Push(Push),
    /// Arrival and key of writes that earlier generations hold.
    RetryKeys(Vec<(Timestamp, RetryKey)>),
}
