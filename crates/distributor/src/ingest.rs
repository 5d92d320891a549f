//! The old HTTP API, `POST /ingest`: everything that its requests leave to be guessed.
//!
//! ```text
//! query ──► IngestQuery (name grammar, time forms)     body ──► Content-Encoding off
//!                  │                                            │
//!                  └──────────► format::choose ◄────────────────┤
//!                                     │                         ▼
//!                                     ├── a form? ──► multipart ──► form ──► IncomingProfile
//!                                     └── not pprof? ──► Job ──► decode ──► DecodedProfiles
//! ```
//!
//! # Invariants
//! - A body is decoded as what it is or refused with the format's name; never read as something
//!   else.
//! - A request that is refused or holds nothing is counted by reason like a refused profile.
//!
//! # What it must not know
//! Status codes, and what happens to a profile behind [`Distributor::push`].

pub mod content;
mod conversion;
pub mod decode;
pub mod form;
pub mod format;
mod jfr;
pub mod multipart;
pub mod name;
pub mod query;
pub mod time_form;

use bytes::Bytes;
use scoria_model::labels::names;
use scoria_model::{DiscardReason, Permit, TenantId};

use crate::decoded::DecodedUpload;
use crate::incoming::{IncomingProfile, IngestOrigin, Origin, Payload, SentAs};
use crate::outcome::{Outcome, PushError, PushSummary, Refusal, RefusalKind};
use crate::push::Distributor;
use content::{Content, ContentError};
use decode::{BodyError, Job};
use form::{FormError, PprofForm};
use format::BodyFormat;
use jfr::RecordingLimits;
use multipart::MultipartError;
use name::NameError;
use query::IngestQuery;

/// A request with its body read whole.
#[derive(Debug, Clone)]
pub struct IngestRequest<'a> {
    /// What stands behind the `?` of the URL.
    pub query: &'a str,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub body: Bytes,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Multipart(#[from] MultipartError),
    #[error(transparent)]
    Form(#[from] FormError),
    /// The body could not be decoded.
    #[error("{error}")]
    Body { error: BodyError, is_text: bool },
    /// What was in it was refused, or could not be stored.
    #[error("{error}")]
    Push { error: PushError, is_text: bool },
}

impl IngestError {
    /// What the client can do about it.
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::Push { error, .. } => error.kind,
            Self::Body { error, .. } => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Name(_) => RefusalKind::Invalid {
                reason: DiscardReason::InvalidLabels,
            },
            Self::Multipart(_) | Self::Form(_) => RefusalKind::Invalid {
                reason: DiscardReason::MalformedProfile,
            },
        }
    }

    /// Whether clients know a refusal for good by the status for bodies that cannot be processed
    /// rather than by that for bad requests: always, except for what the name alone decides and
    /// for rules that a well-formed text body breaks.
    pub const fn is_about_body(&self) -> bool {
        match self {
            Self::Name(_) => false,
            Self::Push { is_text, .. } => !*is_text,
            Self::Body { error, is_text } => {
                !(*is_text && matches!(error, BodyError::Type(_) | BodyError::Refused(_)))
            }
            Self::Content(_) | Self::Multipart(_) | Self::Form(_) => true,
        }
    }
}

impl Distributor {
    /// Takes one request of the old HTTP API.
    ///
    /// # Errors
    /// The request cannot be read, or its profile was refused or could not be stored.
    pub async fn ingest(
        &self,
        tenant: &TenantId,
        request: IngestRequest<'_>,
    ) -> Result<PushSummary, IngestError> {
        let bytes = request.body.len() as u64;
        let sender = || {
            let query = IngestQuery::parse(request.query, self.clock().now());
            query.map_or_else(|_| Vec::new(), |query| labels_of(&query))
        };
        let opened = self.open(tenant, &request);
        let opened = opened.inspect_err(|error| {
            let refusal = Refusal {
                kind: error.kind(),
                message: error.to_string(),
                is_partial: false,
            };
            self.refused(tenant, &refusal, bytes, &sender());
        })?;
        if matches!(opened, Opened::Pprof(None, _)) {
            let reason = DiscardReason::EmptyProfile;
            self.put_aside(tenant, (reason, bytes), &sender());
        }
        drop(request);
        match opened {
            Opened::Pprof(Some(profile), _permit) => {
                let pushed = self.push(tenant, vec![profile]).await;
                pushed.map_err(|error| IngestError::Push {
                    error,
                    is_text: false,
                })
            }
            Opened::Pprof(None, _) => Ok(PushSummary {
                outcomes: vec![Outcome::Empty],
            }),
            Opened::Encoded(job, _permit) => self.push_job(tenant, *job, bytes).await,
        }
    }

    /// Opens a request as far as its format needs, without decoding what it carries.
    fn open(&self, tenant: &TenantId, request: &IngestRequest<'_>) -> Result<Opened, IngestError> {
        let query = IngestQuery::parse(request.query, self.clock().now())?;
        if let Some(given) = &query.odd_sample_rate {
            let (taken, app) = (query.sample_rate, &query.name.app);
            tracing::warn!(%tenant, app, given, taken, "a sampleRate is not a whole number of Hz");
        }
        let limits = self.limits().of(tenant);
        let limit = limits.ingestion_body_limit_bytes;
        let Content { body, permit } = content::decode(
            request.content_encoding,
            request.body.clone(),
            limit,
            self.bodies(),
        )?;
        let content_type = request.content_type.unwrap_or_default();
        let format = format::choose(query.format.as_deref(), request.content_type, &body);
        format::check(format, &body).map_err(|error| IngestError::Body {
            error: error.into(),
            is_text: false,
        })?;
        let form = match format {
            BodyFormat::PprofForm => form::interpret(&multipart::split(content_type, &body)?)?,
            BodyFormat::Pprof => PprofForm {
                profile: (!body.is_empty()).then_some(body),
                sample_types: None,
            },
            _ => {
                let job = Job {
                    query,
                    format,
                    content_type: content_type.to_owned(),
                    body,
                    terms: self.draft_terms(tenant),
                    body_limit: limit,
                    recording_limits: RecordingLimits {
                        max_bytes: limits.max_jfr_size_bytes,
                        max_samples: limits.max_profile_stacktrace_samples,
                    },
                };
                return Ok(Opened::Encoded(Box::new(job), permit));
            }
        };
        Ok(Opened::Pprof(profile_of(query, form), permit))
    }

    /// Decodes a body and stores what is in it.
    async fn push_job(
        &self,
        tenant: &TenantId,
        job: Job,
        wire_bytes: u64,
    ) -> Result<PushSummary, IngestError> {
        let is_text = job.format.is_text();
        let sender = job.sender();
        let sent_as = match job.format {
            BodyFormat::Jfr | BodyFormat::JfrForm => SentAs::Jfr,
            _ => SentAs::Text,
        };
        let digest = job.digest();
        let bytes = job.body.len() as u64;
        let decoded = self.decode(bytes, move || decode::decode(job)).await;
        let decoded = decoded
            .map_err(BodyError::Refused)
            .and_then(|decoded| decoded)
            .map_err(|error| error.of(&sender))
            .inspect_err(|error| {
                let refusal = Refusal {
                    kind: error.kind(),
                    message: error.to_string(),
                    is_partial: false,
                };
                self.refused(tenant, &refusal, wire_bytes, &sender);
            })
            .map_err(|error| IngestError::Body { error, is_text })?;
        let lines = (DiscardReason::MalformedLine, decoded.skipped_lines);
        for left_out in decoded.left_out.iter().chain([lines]) {
            self.left_out(tenant, left_out, &sender);
        }
        if let Some(reason) = decoded.dropped {
            self.put_aside(tenant, (reason, wire_bytes), &sender);
            return Ok(PushSummary {
                outcomes: vec![Outcome::Empty],
            });
        }
        let upload = DecodedUpload {
            digest,
            wire_bytes,
            sent_as,
            sender,
            profiles: decoded.profiles,
        };
        let pushed = self.push_decoded(tenant, upload).await;
        pushed.map_err(|error| IngestError::Push { error, is_text })
    }
}

/// A request without its wrapping, and what covers its body.
enum Opened {
    /// `None` if it holds no profile.
    Pprof(Option<IncomingProfile>, Option<Permit>),
    /// A format that has to be decoded.
    Encoded(Box<Job>, Option<Permit>),
}

fn profile_of(query: IngestQuery, form: PprofForm) -> Option<IncomingProfile> {
    Some(IncomingProfile {
        series: 0,
        payload: Payload::Pprof(form.profile?),
        labels: labels_of(&query),
        id: String::new(),
        origin: Origin::Ingest(IngestOrigin {
            spy_name: query.spy_name,
            from: query.from,
            times_given: query.times_given,
            sample_types: form.sample_types,
        }),
    })
}

/// The labels but `__name__`, which is chosen by what is in the profile. The client's own stand
/// before those that the server adds, and make up for the service name if they give one.
fn labels_of(query: &IngestQuery) -> Vec<(String, String)> {
    let mut labels = query.name.labels.clone();
    labels.retain(|(name, value)| name != names::SERVICE_NAME || !value.is_empty());
    let mut add = |name: &str, value: &str| {
        if labels.iter().all(|(given, _)| given != name) {
            labels.push((name.to_owned(), value.to_owned()));
        }
    };
    add(names::DELTA, "false");
    add(names::SPY, &query.spy_name);
    add(names::SERVICE_NAME, &query.name.app);
    labels
}

#[cfg(test)]
mod tests {
    use scoria_model::Timestamp;

    use super::*;

    fn labels(name: &str, spy: &str) -> Vec<String> {
        let query = format!("name={name}&spyName={spy}");
        let query = IngestQuery::parse(&query, Timestamp(0)).unwrap();
        let labels = labels_of(&query).into_iter();
        labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn the_app_is_the_service_unless_the_client_names_another() {
        let base = ["__delta__=false", "pyroscope_spy=gospy"];
        let own = [&base[..], &["service_name=app.cpu"]].concat();
        assert_eq!(labels("app.cpu", "gospy"), own);
        assert_eq!(labels("app.cpu{service_name=}", "gospy"), own);
        let given = [&["service_name=mine"], &base[..]].concat();
        assert_eq!(labels("app.cpu{service_name=mine}", "gospy"), given);
        let session = [&["__session_id__=1", "a=b"], &own[..]].concat();
        assert_eq!(
            labels("app.cpu{__session_id__=1,a=b,__x=y}", "gospy"),
            session
        );
        let renamed = labels("app{__name__=else}", "");
        assert_eq!(renamed[1..], ["pyroscope_spy=unknown", "service_name=else"]);
    }

    #[test]
    fn a_label_of_the_client_is_never_doubled() {
        let labels = labels("app{pyroscope_spy=x}", "gospy");
        assert_eq!(
            labels,
            ["pyroscope_spy=x", "__delta__=false", "service_name=app"]
        );
    }
}
