//! From a body that is not pprof to the profiles in it.
//!
//! Each format has a decoder of its own in `scoria_pprof`; here is what they share of the old HTTP
//! API: under which type and which labels a profile is stored. A recording with types and labels of
//! its own (JFR) has a module of its own beside this one.
//!
//! # Invariants
//! - The same job gives the same profiles in the same order.
//! - What is left out of a body is told in [`Decoded`], for the counters.
//!
//! # What it must not know
//! Threads, budgets other than that of the terms, and statuses.

use bytes::Bytes;
use scoria_model::DiscardReason;
use scoria_model::labels::names;
use scoria_pprof::jfr::JfrError;
use scoria_pprof::speedscope::{Speedscope, SpeedscopeError};
use scoria_pprof::stacks::{StackError, Stacks};
use scoria_pprof::{Draft, DraftError, DraftTerms, Dropped, folded, tree, trie};

use super::content::{self, ContentError};
use super::conversion::{App, UnknownType};
use super::format::{self, BodyFormat, UnsupportedFormat, WronglyDeclared};
use super::jfr::{self, RecordingLimits};
use super::multipart::{self, MultipartError};
use super::query::IngestQuery;
use crate::decoded::DecodedProfile;
use crate::incoming::UploadDigest;
use crate::outcome::{Refusal, RefusalKind};
use crate::rejections;

pub(super) const APP_NAME: &str = "app_name";
const PROFILE_NAME: &str = "profile_name";
/// What reading a speedscope file may take for each byte of it, beside the drafts.
const SPEEDSCOPE_FACTOR: u64 = 2;

/// A body and everything by which it is read.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) query: IngestQuery,
    pub(super) format: BodyFormat,
    /// Names the boundary if the format is a form; empty if there was none.
    pub(super) content_type: String,
    pub(super) body: Bytes,
    pub(super) terms: DraftTerms,
    /// Decompressed bytes; 0 means no limit.
    pub(super) body_limit: u64,
    pub(super) recording_limits: RecordingLimits,
}

impl Job {
    /// Who sent it, as far as the query says: with the service under which it would be stored.
    pub(super) fn sender(&self) -> Vec<(String, String)> {
        let app = &self.query.name.app;
        let service = match self.format {
            BodyFormat::Jfr | BodyFormat::JfrForm => app,
            _ => App::parse(app).map_or(&**app, |app| app.service),
        };
        let (mut labels, is_service_given) = given_labels(&self.query);
        if !is_service_given {
            labels.push((names::SERVICE_NAME.to_owned(), service.to_owned()));
        }
        labels
    }

    /// By which a resend is recognised; the labels of the profiles say the rest.
    pub(super) fn digest(&self) -> UploadDigest {
        let query = &self.query;
        let (format, rate) = (self.format.to_string(), query.sample_rate.to_le_bytes());
        let mut pieces = vec![
            format.as_bytes(),
            query.times_given.as_bytes(),
            &rate,
            query.name.app.as_bytes(),
        ];
        // A form has another boundary each time that it is sent.
        let parts = match self.format {
            BodyFormat::JfrForm => multipart::split(&self.content_type, &self.body).ok(),
            _ => None,
        };
        match &parts {
            None => pieces.push(&self.body),
            Some(parts) => {
                let parts = parts.iter();
                pieces.extend(parts.flat_map(|part| [part.name.as_bytes(), &part.content[..]]));
            }
        }
        UploadDigest::of(&pieces)
    }
}

/// What a body turned out to hold.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) profiles: Vec<DecodedProfile>,
    /// Lines without a count.
    pub(super) skipped_lines: u64,
    /// Samples that have no place in a profile.
    pub(super) left_out: Dropped,
    /// Set if the whole body was put aside, with the reason for it.
    pub(super) dropped: Option<DiscardReason>,
}

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is not {format}: {error}")]
    Stacks {
        format: BodyFormat,
        error: StackError,
    },
    #[error(transparent)]
    Speedscope(#[from] SpeedscopeError),
    #[error(transparent)]
    Type(#[from] UnknownType),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Jfr(JfrError),
    #[error(transparent)]
    Multipart(#[from] MultipartError),
    #[error("the form has no part {part:?}")]
    MissingPart { part: &'static str },
    #[error(transparent)]
    Unsupported(#[from] UnsupportedFormat),
    #[error(transparent)]
    Declared(#[from] WronglyDeclared),
    /// It was read, and what is in it may not be stored.
    #[error("{0}")]
    Refused(Refusal),
}

impl From<DraftError> for BodyError {
    fn from(error: DraftError) -> Self {
        Self::Refused(error.into())
    }
}

impl BodyError {
    fn of_stacks(format: BodyFormat, error: StackError) -> Self {
        match error {
            StackError::Draft(error) => error.into(),
            error => Self::Stacks { format, error },
        }
    }

    /// With the labels of the profile, where what is in it may not be stored.
    pub(super) fn of(self, labels: &[(String, String)]) -> Self {
        let Self::Refused(refusal) = self else {
            return self;
        };
        let labels = rejections::shown(labels);
        let message = format!("{}; in an upload with labels {labels}", refusal.message);
        Self::Refused(Refusal { message, ..refusal })
    }

    /// What the client can do about it.
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::Refused(refusal) => refusal.kind,
            Self::Content(error) => error.kind(),
            Self::Type(_) => RefusalKind::Invalid {
                reason: DiscardReason::InvalidLabels,
            },
            Self::Stacks { .. }
            | Self::Speedscope(_)
            | Self::Jfr(_)
            | Self::Multipart(_)
            | Self::MissingPart { .. }
            | Self::Unsupported(_)
            | Self::Declared(_) => RefusalKind::Invalid {
                reason: DiscardReason::MalformedProfile,
            },
        }
    }
}

/// Decodes a body. An empty one holds no profiles, unless it should be a recording.
pub(super) fn decode(mut job: Job) -> Result<Decoded, BodyError> {
    if matches!(job.format, BodyFormat::Jfr | BodyFormat::JfrForm) {
        return jfr::decode(job);
    }
    if job.body.is_empty() {
        return Ok(Decoded::default());
    }
    // No body of these formats begins like this, and a client that forgot the Content-Encoding
    // has no other use for it.
    let encoding = Some("gzip");
    let content = content::decode(encoding, job.body, job.body_limit, &job.terms.memory)?;
    job.body = content.body;
    let decoded = profiles_of(&job).map_err(|error| match error {
        BodyError::Stacks { .. } => match format::pprof_in_place_of(job.format, &job.body) {
            Some(wrongly_declared) => wrongly_declared.into(),
            None => error,
        },
        error => error,
    });
    drop(content.permit);
    decoded
}

fn profiles_of(job: &Job) -> Result<Decoded, BodyError> {
    match job.format {
        BodyFormat::Groups | BodyFormat::Lines | BodyFormat::Trie | BodyFormat::Tree => stacks(job),
        BodyFormat::Speedscope => speedscope(job),
        BodyFormat::Pprof | BodyFormat::PprofForm | BodyFormat::Jfr | BodyFormat::JfrForm => {
            Err(UnsupportedFormat { format: job.format }.into())
        }
    }
}

fn stacks(job: &Job) -> Result<Decoded, BodyError> {
    let app = App::parse(&job.query.name.app)?;
    let mut decoded = Decoded {
        dropped: exemplar(&job.query),
        ..Decoded::default()
    };
    let measure = app.counted.measure(job.query.sample_rate);
    let mut into = Stacks::new(
        &job.terms,
        &measure,
        job.query.from.0,
        job.body.len() as u64,
    )?;
    let read = match job.format {
        BodyFormat::Lines => folded::read_lines(&job.body, &mut into).map(|()| 0),
        BodyFormat::Trie => trie::read_trie(&job.body, &mut into).map(|()| 0),
        BodyFormat::Tree => tree::read_tree(&job.body, &mut into).map(|()| 0),
        _ => folded::read_groups(&job.body, &mut into),
    };
    decoded.skipped_lines = read.map_err(|error| BodyError::of_stacks(job.format, error))?;
    let draft = into.finish();
    if decoded.dropped.is_none() && draft.n_samples() > 0 {
        decoded.profiles.push(profile(job, &app, None, draft));
    }
    Ok(decoded)
}

fn speedscope(job: &Job) -> Result<Decoded, BodyError> {
    let bytes = job.body.len() as u64;
    let reading = job.terms.memory.try_acquire(bytes * SPEEDSCOPE_FACTOR);
    let _reading = reading.map_err(DraftError::from)?;
    let file = Speedscope::parse(&job.body)?;
    let groups = file.groups();
    let mut decoded = Decoded {
        dropped: exemplar(&job.query),
        ..Decoded::default()
    };
    for group in &groups {
        let mut name = job.query.name.app.clone();
        if groups.len() > 1 {
            name.push('.');
            name.push_str(group.unit.name());
        }
        let app = App::parse(&name)?;
        let (measure, scale) = app.counted.weighed(group.unit, job.query.sample_rate);
        let mut into = Stacks::new(&job.terms, &measure, job.query.from.0, bytes)?;
        file.fill(group, scale, &mut into)
            .map_err(|error| match error {
                SpeedscopeError::Stack(error) => BodyError::of_stacks(job.format, error),
                error => error.into(),
            })?;
        let draft = into.finish();
        if decoded.dropped.is_none() && draft.n_samples() > 0 {
            let profile = profile(job, &app, Some(&group.name), draft);
            decoded.profiles.push(profile);
        }
    }
    Ok(decoded)
}

/// Old clients sent the profile of one request under its id beside the whole: it would be counted
/// twice.
fn exemplar(query: &IngestQuery) -> Option<DiscardReason> {
    let mut labels = query.name.labels.iter();
    labels
        .any(|(name, value)| name == names::PROFILE_ID && !value.is_empty())
        .then_some(DiscardReason::ExemplarProfile)
}

/// The client's own labels, and whether a service is among them.
pub(super) fn given_labels(query: &IngestQuery) -> (Vec<(String, String)>, bool) {
    let mut labels = query.name.labels.clone();
    let service =
        |(name, value): &(String, String)| name == names::SERVICE_NAME && !value.is_empty();
    let service_given = labels.iter().any(service);
    labels.retain(|pair| pair.0 != names::SERVICE_NAME || service(pair));
    (labels, service_given)
}

/// The labels of a profile whose type the name says. The client's own come first.
fn profile(job: &Job, app: &App<'_>, profile_name: Option<&str>, draft: Draft) -> DecodedProfile {
    let query = &job.query;
    let (mut labels, service_given) = given_labels(query);
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() && labels.iter().all(|(given, _)| given != name) {
            labels.push((name.to_owned(), value.to_owned()));
        }
    };
    add(names::NAME, app.counted.name);
    add(names::DELTA, "false");
    add(names::SPY, &query.spy_name);
    add(PROFILE_NAME, profile_name.unwrap_or_default());
    add(
        if service_given {
            APP_NAME
        } else {
            names::SERVICE_NAME
        },
        app.service,
    );
    DecodedProfile {
        labels,
        draft,
        id: String::new(),
    }
}
