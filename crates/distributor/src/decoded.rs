//! The way in for uploads that are not pprof: a decoder makes drafts, and they go the way of every
//! other profile.
//!
//! ```text
//! body ──► UploadDigest ─┐
//!   └────► decoder ──────┴─► DecodedUpload ──► Distributor::push_decoded ──► Distributor::push
//! ```
//!
//! How a format is added:
//!
//! 1. Take the [`DraftTerms`](scoria_pprof::DraftTerms) of the tenant from
//!    [`Distributor::draft_terms`], and do the decoding inside of [`Distributor::decode`], which
//!    keeps long work off the runtime.
//! 2. Make a [`DecodedProfile`] for each label set and group of sample types: all labels,
//!    `__name__` and `service_name` among them, and the [`Draft`]. What the upload says of its time
//!    stands in the draft.
//! 3. Hand in all of them at once. Each is charged, checked, limited and refused on its own, like a
//!    profile of a push request; what is accepted is stored in one append.
//!
//! # Invariants
//! - Each profile's key follows from the upload's digest, its place in the upload and its labels:
//!   decoders must be deterministic, so that a resend is recognised whole.
//! - An upload without profiles is counted as an empty one and is no error.
//!
//! # What it must not know
//! The formats.

use scoria_model::{DiscardReason, TenantId};
use scoria_pprof::{Draft, DraftError};

use crate::incoming::{DraftPayload, IncomingProfile, Origin, Payload, SentAs, UploadDigest};
use crate::outcome::{Outcome, PushError, PushSummary, Refusal, RefusalKind};
use crate::push::Distributor;

/// An upload, decoded.
#[derive(Debug)]
pub struct DecodedUpload {
    pub digest: UploadDigest,
    /// Its size as it was sent.
    pub wire_bytes: u64,
    pub sent_as: SentAs,
    /// What is known of who sent it: told where there is no profile to tell of.
    pub sender: Vec<(String, String)>,
    pub profiles: Vec<DecodedProfile>,
}

/// One profile of an upload.
#[derive(Debug)]
pub struct DecodedProfile {
    /// `__name__` among them. Of repeated names the normaliser decides as for a pushed profile.
    pub labels: Vec<(String, String)>,
    pub draft: Draft,
    /// The client's id for it if it gave one; a UUID decides alone what a resend is.
    pub id: String,
}

impl Distributor {
    /// Takes the profiles of one upload, as [`push`](Self::push) does.
    ///
    /// # Errors
    /// At least one profile was refused or could not be stored.
    pub async fn push_decoded(
        &self,
        tenant: &TenantId,
        upload: DecodedUpload,
    ) -> Result<PushSummary, PushError> {
        let n = upload.profiles.len() as u64;
        if n == 0 {
            let empty = (DiscardReason::EmptyProfile, upload.wire_bytes);
            self.put_aside(tenant, empty, &upload.sender);
            return Ok(PushSummary {
                outcomes: vec![Outcome::Empty],
            });
        }
        let (share, rest) = (upload.wire_bytes / n, upload.wire_bytes % n);
        let profiles = upload.profiles.into_iter().zip(0_u32..);
        let profiles = profiles.map(|(profile, nth)| IncomingProfile {
            series: nth as usize,
            labels: profile.labels,
            id: profile.id,
            origin: Origin::Push,
            payload: Payload::Draft(DraftPayload {
                draft: Some(Box::new(profile.draft)),
                digest: upload.digest,
                nth,
                wire_bytes: share + if nth == 0 { rest } else { 0 },
                sent_as: upload.sent_as,
            }),
        });
        self.push(tenant, profiles.collect()).await
    }
}

impl From<DraftError> for Refusal {
    fn from(error: DraftError) -> Self {
        let message = error.to_string();
        match error {
            DraftError::Memory(exceeded) => Self {
                is_partial: false,
                kind: RefusalKind::of_memory(&exceeded),
                message,
            },
            DraftError::TooLarge { .. } => Self::invalid(DiscardReason::ProfileSizeLimit, message),
            DraftError::Overflow => Self::invalid(DiscardReason::MalformedProfile, message),
        }
    }
}
