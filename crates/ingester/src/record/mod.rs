//! Log records: what is written for a push before it is acknowledged.
//!
//! One record holds all writes of one push of one tenant, so that they are stored together or not at
//! all. It does not repeat what earlier records of the same *generation* said: symbols, series and
//! profile types get numbers when they first come, and a profile that hardly differs from the one
//! before it is written as the difference. [`RecordWriter`] and [`RecordReader`] go through the
//! same states, and both hand out the same [`HeadAppend`]s, so that heads are fed alike whether the
//! push has just come or is read back from a log.
//!
//! ```text
//! record  = version, kind, body
//! body    = push | retry keys
//! push    = arrival, tenant, write count, retry key x writes, section count, section...
//! tenant  = number and one | 0, name
//! section = dataset, symbols, series count, series..., type count, type..., profile count, profile...
//! dataset = number and one | 0, service name
//! symbols = a dictionary delta, as the symbols crate has it
//! series  = label count, (0 as before | 1 value | 2 name, value) x labels
//! type    = name, sample type, sample unit, period type, period unit
//! profile = flags, [series], type, [part], [time], [duration], [period], samples
//! samples = count, full | difference | gcd                as the samples module has it
//! retry keys = count, (arrival, key)...
//! ```
//! Version, kind and flags are bytes, retry keys sixteen bytes, texts a length and bytes, all other
//! numbers varints, zigzag where they may be negative. What stands in brackets is there when its
//! flag is set; otherwise series, part and time are those of the profile before in the section (at
//! first 0, 0 and the arrival), the duration that of the dataset's profile before, the period that
//! of the profile before of that type. Parts, times and durations are given as the distance to
//! those, arrivals of retry keys to the one before. A profile that is only a gcd repeats the one
//! before it in the section, sample by sample: a CPU profile counts hits and time alike.
//!
//! # Invariants
//! - A record refers only to records before it in its generation. A generation that is cut short
//!   anywhere between two records reads back as what the heads then held.
//! - The `n`th tenant, dataset, series or type that is new gets the number `n`; nothing is new twice.
//! - A profile whose flags keep it is the base to which the next one of its series and type may be
//!   told as a difference; one whose flags do not, takes the base away.
//! - Reading takes memory in proportion to the record, and to [`DIFFERENCE_BYTES_MAX`] for what it
//!   tells by reference to other profiles.
//!
//! # What it must not know
//! Files and batches, sequence numbers, and what is acknowledged when.

mod append;
mod collect;
mod error;
mod generation;
mod places;
mod read;
pub mod samples;
mod write;

pub use append::{AppendedProfile, EncodedRecord, HeadAppend, Push, Replayed, SharedDictionary};
pub use error::RecordError;
pub use read::RecordReader;
pub use write::{RecordWriter, Taken};

/// The version of records that this build writes and reads.
pub const VERSION: u8 = 1;

/// The most bytes of samples in full that the differences and repetitions of one record may stand
/// for: a few bytes repeat a whole profile, and damage must not make that unbounded.
pub const DIFFERENCE_BYTES_MAX: usize = 64 << 20;

mod kind {
    pub(super) const PUSH: u8 = 1;
    pub(super) const RETRY_KEYS: u8 = 2;
}

mod profile_flags {
    pub(super) const SERIES: u8 = 1;
    pub(super) const PART: u8 = 2;
    pub(super) const TIME: u8 = 4;
    pub(super) const DURATION: u8 = 8;
    pub(super) const PERIOD: u8 = 16;
    pub(super) const DIFFERENCE: u8 = 32;
    pub(super) const KEEP: u8 = 64;
    pub(super) const REPEATS: u8 = 128;
}

mod label_code {
    pub(super) const SAME: u64 = 0;
    pub(super) const VALUE: u64 = 1;
    pub(super) const NAME_AND_VALUE: u64 = 2;
}

#[cfg(test)]
pub(crate) mod tests;
