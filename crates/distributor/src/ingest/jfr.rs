//! JFR recordings at the old HTTP API: the whole body, or the parts `jfr` and `labels` of a form,
//! each plain or gzip.
//!
//! # Invariants
//! - What a recording decompresses to is limited by a limit of its own, and paid for, before it is
//!   read.
//! - The types of the profiles come from the recording, and all of the app's name is the service.
//!
//! # What it must not know
//! How recordings are laid out.

use bytes::Bytes;
use scoria_model::DiscardReason;
use scoria_model::labels::names;
use scoria_pprof::jfr::{Conversion, JfrError, Recording, Snapshot};

use super::content::{self, Content, ContentError};
use super::decode::{APP_NAME, BodyError, Decoded, Job, given_labels};
use super::format::BodyFormat;
use super::multipart;
use crate::decoded::DecodedProfile;
use crate::outcome::Refusal;

const JFR_PART: &str = "jfr";
const LABELS_PART: &str = "labels";
/// What the recording was made of, as the profiler calls it.
const JFR_EVENT: &str = "jfr_event";

/// What a tenant's recordings may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordingLimits {
    /// Decompressed; 0 means no limit.
    pub(super) max_bytes: u64,
    /// Of one profile; 0 means no limit.
    pub(super) max_samples: u64,
}

/// Decodes a recording into its profiles.
pub(super) fn decode(mut job: Job) -> Result<Decoded, BodyError> {
    let (recording, labels) = parts(&mut job)?;
    let job = &job;
    let recording = plain(job, (recording, ["the JFR recording", "exceeds"]))?;
    let labels = plain(job, (labels, ["the labels of the JFR recording", "exceed"]))?;
    let (seed, memory) = (job.terms.seed, &job.terms.memory);
    let snapshot = Snapshot::read(&labels.body, seed, memory)?;
    let bytes = recording;
    let recording = Recording::read(&bytes.body, seed, memory)?;
    // What it adds up to is all that the profiles need.
    drop(bytes);
    let query = &job.query;
    let duration = query.until.0.saturating_sub(query.from.0);
    let conversion = Conversion {
        time_ns: query.from.0,
        duration_ns: duration.max(0),
        sample_rate: query.sample_rate,
        snapshot: &snapshot,
        max_samples: job.recording_limits.max_samples,
    };
    let mut profiles = recording.profiles(conversion, job.terms.clone());
    let mut decoded = Decoded {
        left_out: recording.dropped().clone(),
        ..Decoded::default()
    };
    while let Some(profile) = profiles.next_profile()? {
        decoded.profiles.push(DecodedProfile {
            labels: labels_of(job, profile.name, recording.event()),
            draft: profile.draft,
            id: String::new(),
        });
    }
    Ok(decoded)
}

/// The recording, and the labels beside it, as they were sent.
fn parts(job: &mut Job) -> Result<(Bytes, Bytes), BodyError> {
    let body = std::mem::take(&mut job.body);
    if job.format != BodyFormat::JfrForm {
        return Ok((body, Bytes::new()));
    }
    let parts = multipart::split(&job.content_type, &body)?;
    let content = |name: &str| {
        let mut parts = parts.iter();
        let part = parts.find(|part| part.name == name);
        part.map(|part| part.content.clone())
    };
    let recording = content(JFR_PART).ok_or(BodyError::MissingPart { part: JFR_PART })?;
    Ok((recording, content(LABELS_PART).unwrap_or_default()))
}

/// A part without its gzip; `what` it is, and the verb that goes with it, begin what is said of one
/// that is too large.
fn plain(job: &Job, (content, [what, exceeds]): (Bytes, [&str; 2])) -> Result<Content, BodyError> {
    let limit = job.recording_limits.max_bytes;
    let refuse = |actual: &str| {
        let message = format!(
            "{what} {exceeds} the size limit (max_jfr_size_bytes, actual: {actual} decompressed, limit: {limit}); record for a shorter time or raise the limit"
        );
        BodyError::Refused(Refusal::invalid(DiscardReason::ProfileSizeLimit, message))
    };
    let plain = content::decode(Some("gzip"), content, limit, &job.terms.memory);
    let plain = plain.map_err(|error| match error {
        ContentError::TooLarge { .. } => refuse(&format!("more than {limit}")),
        ContentError::Corrupt { detail } => {
            let detail = format!("{detail} (in {what})");
            ContentError::Corrupt { detail }.into()
        }
        error => error.into(),
    })?;
    let actual = plain.body.len() as u64;
    if limit != 0 && actual > limit {
        return Err(refuse(&actual.to_string()));
    }
    Ok(plain)
}

/// The client's labels first; the app's name is the service unless the client names another.
fn labels_of(job: &Job, name: &str, event: &str) -> Vec<(String, String)> {
    let query = &job.query;
    let (mut labels, is_service_given) = given_labels(query);
    let service = if is_service_given {
        APP_NAME
    } else {
        names::SERVICE_NAME
    };
    // The type of a profile is what the recording says.
    labels.retain(|(known, _)| known != names::NAME);
    for (name, value) in [
        (names::NAME, name),
        (names::DELTA, "false"),
        (names::SPY, &query.spy_name),
        (JFR_EVENT, event),
        (service, &query.name.app),
    ] {
        if !value.is_empty() && labels.iter().all(|(known, _)| known != name) {
            labels.push((name.to_owned(), value.to_owned()));
        }
    }
    labels
}

impl From<JfrError> for BodyError {
    fn from(error: JfrError) -> Self {
        match error {
            JfrError::Memory(error) => scoria_pprof::DraftError::from(error).into(),
            JfrError::Draft(error) => error.into(),
            error => Self::Jfr(error),
        }
    }
}
