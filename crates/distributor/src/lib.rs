//! The role that takes profiles in: it decodes each one once, holds it against the tenant's limits,
//! and hands it to the ingester whose part of the ring it falls in.
//!
//! ```text
//! Push ─────────────────────┐
//! /ingest ──► ingest ───────┴──► Distributor::push
//!                                      │  prepare: decompress ─► charge ─► decode, check, normalise
//!                                      │  ring:    (tenant, service), series ─► ingester
//!                                      ▼
//!                     one call an ingester, all parts of the request ──► outcomes
//! ```
//!
//! [`decoded`] is where every format but pprof joins in. [`ingest`] reads what the old HTTP API leaves to be guessed and ends in the same
//! [`Distributor::push`].
//!
//! # Invariants
//! - Each profile of a request stands for itself: a bad one never takes the good ones with it.
//! - What is answered as stored is durable. What is refused, dropped or cut is counted by reason.
//! - A resend of the same upload carries the same key, so that it is stored once.
//! - Every byte that is decompressed was taken from the budget first.
//! - Nothing is kept between requests but buffers, token buckets and counts: any number of
//!   distributors can stand side by side.
//!
//! # What it must not know
//! How profiles are stored and queried, and by which protocol they came: listeners turn requests
//! into [`IncomingProfile`]s and [`RefusalKind`]s into the status codes of their protocol.

mod admit;
pub mod decoded;
pub mod incoming;
pub mod ingest;
mod joining;
mod key;
mod known;
pub mod metrics;
pub mod otlp;
pub mod outcome;
mod parcel;
pub mod policy;
mod prepare;
mod push;
mod quota;
mod rate;
pub mod rejections;
mod senders;
pub mod tenants;
mod workers;

pub use decoded::{DecodedProfile, DecodedUpload};
pub use incoming::{
    DraftPayload, IncomingProfile, IngestOrigin, Origin, Payload, SentAs, UploadDigest,
};
pub use ingest::{IngestError, IngestRequest};
pub use metrics::Metrics;
pub use outcome::{Outcome, PushError, PushSummary, Refusal, RefusalKind};
pub use policy::TenantPolicy;
pub use push::{Components, Distributor, Settings};
pub use rejections::RejectionSettings;
pub use tenants::TenantLimits;
