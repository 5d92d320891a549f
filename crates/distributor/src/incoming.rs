//! One profile as it came in, before anything is known about it but who sent it.
//!
//! # What it must not know
//! Routes and protocols: what differs between the ways in is said by [`Origin`].

use bytes::Bytes;
use scoria_model::Timestamp;

use crate::ingest::form::SampleTypeConfig;

/// One pprof with the labels of its series.
#[derive(Debug, Clone)]
pub struct IncomingProfile {
    /// Which series of the request it belongs to; named in errors.
    pub series: usize,
    /// In the order given, repeated names included.
    pub labels: Vec<(String, String)>,
    /// The pprof, plain or gzip.
    pub raw: Bytes,
    /// The client's id for it; empty if it gave none. Makes a resend recognisable if it is a UUID.
    pub id: String,
    pub origin: Origin,
}

/// By which way a profile came in, as far as its treatment depends on it.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The labels say everything, `__name__` included.
    Push,
    /// The old HTTP API: the name is chosen by what is in the profile.
    Ingest(IngestOrigin),
}

/// What a request of the old HTTP API says beside the labels.
#[derive(Debug, Clone)]
pub struct IngestOrigin {
    /// Which profiler made it, as the client calls it; switches repairs of known mistakes.
    pub spy_name: String,
    /// Start of the interval: stands in for a profile time that is missing or impossible.
    pub from: Timestamp,
    /// The times as the client wrote them; they tell a resend from a new profile that happens to
    /// hold the same bytes.
    pub times_given: String,
    /// Display names of the sample types, if the client sent any.
    pub sample_types: Option<SampleTypeConfig>,
}
