//! One profile as it came in, before anything is known about it but who sent it.
//!
//! # What it must not know
//! Routes and protocols: what differs between the ways in is said by [`Origin`].

use bytes::Bytes;
use scoria_model::Timestamp;
use scoria_pprof::Draft;
use xxhash_rust::xxh3::Xxh3;

use crate::ingest::form::SampleTypeConfig;

/// One profile with the labels of its series.
#[derive(Debug)]
pub struct IncomingProfile {
    /// Which series of the request it belongs to; named in errors.
    pub series: usize,
    /// In the order given, repeated names included.
    pub labels: Vec<(String, String)>,
    pub payload: Payload,
    /// The client's id for it; empty if it gave none. Makes a resend recognisable if it is a UUID.
    pub id: String,
    pub origin: Origin,
}

/// The profile itself.
#[derive(Debug)]
pub enum Payload {
    /// A pprof, plain or gzip.
    Pprof(Bytes),
    /// What a decoder of another format made.
    Draft(DraftPayload),
}

/// One of the profiles that an upload in another format than pprof came apart into.
#[derive(Debug)]
pub struct DraftPayload {
    /// Boxed: a request can hold many profiles, and most are pprofs. Taken when it is prepared.
    pub draft: Option<Box<Draft>>,
    /// Of the upload: what it says and how it says it, so that a resend has the same one.
    pub digest: UploadDigest,
    /// Which profile of the upload it is; decoding is deterministic, so a resend counts alike.
    pub nth: u32,
    /// Its share of the bytes that were sent, for the metrics.
    pub wire_bytes: u64,
    pub sent_as: SentAs,
}

/// What an upload came as, as far as its size is counted by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SentAs {
    /// Counted by the names of its profiles.
    #[default]
    Text,
    Jfr,
    Otlp,
}

/// A hash by which a resent upload is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadDigest(pub [u8; 16]);

impl UploadDigest {
    /// Of everything that makes the upload what it is: its body, and whatever beside the tenant
    /// and the labels decides how it is read. Never anything that a resend has anew.
    pub fn of(pieces: &[&[u8]]) -> Self {
        let mut hash = Xxh3::new();
        for piece in pieces {
            hash.update(&(piece.len() as u64).to_le_bytes());
            hash.update(piece);
        }
        Self(hash.digest128().to_be_bytes())
    }
}

impl Payload {
    /// Bytes as they were sent.
    pub(crate) const fn wire_bytes(&self) -> u64 {
        match self {
            Self::Pprof(raw) => raw.len() as u64,
            Self::Draft(part) => part.wire_bytes,
        }
    }

    /// Gives the profile's memory back; what is left of it is empty.
    pub(crate) fn release(&mut self) {
        match self {
            Self::Pprof(raw) => *raw = Bytes::new(),
            Self::Draft(part) => part.draft = None,
        }
    }

    /// How large the profile is, decompressed.
    pub(crate) fn expected_bytes(&self) -> u64 {
        match self {
            Self::Pprof(raw) => crate::prepare::expected_bytes(raw, u64::MAX),
            Self::Draft(part) => part.draft.as_ref().map_or(0, |draft| draft.size()),
        }
    }
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
