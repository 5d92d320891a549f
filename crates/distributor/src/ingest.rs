//! The old HTTP API, `POST /ingest`: everything that its requests leave to be guessed.
//!
//! ```text
//! query ──► IngestQuery (name grammar, time forms)     body ──► Content-Encoding off
//!                  │                                            │
//!                  └──────────► format::choose ◄────────────────┤
//!                                     │                         ▼
//!                                     └── a form? ──► multipart ──► form ──► IncomingProfile
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
pub mod form;
pub mod format;
pub mod multipart;
pub mod name;
pub mod query;
pub mod time_form;

use bytes::Bytes;
use scoria_model::labels::names;
use scoria_model::{DiscardReason, TenantId};

use crate::incoming::{IncomingProfile, IngestOrigin, Origin, Payload};
use crate::outcome::{Outcome, PushError, PushSummary, RefusalKind};
use crate::push::Distributor;
use content::{Content, ContentError};
use form::{FormError, PprofForm};
use format::{BodyFormat, UnsupportedFormat};
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
    Format(#[from] UnsupportedFormat),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Multipart(#[from] MultipartError),
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Push(#[from] PushError),
}

impl IngestError {
    /// What the client can do about it.
    pub const fn kind(&self) -> RefusalKind {
        const MEMORY_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
        match self {
            Self::Push(error) => error.kind,
            Self::Content(ContentError::TooLarge { .. }) => RefusalKind::TooLarge,
            Self::Content(ContentError::Memory(_)) => RefusalKind::Overloaded {
                retry_after: MEMORY_RETRY_AFTER,
            },
            Self::Name(_) => RefusalKind::Invalid {
                reason: DiscardReason::InvalidLabels,
            },
            Self::Format(_) | Self::Content(_) | Self::Multipart(_) | Self::Form(_) => {
                RefusalKind::Invalid {
                    reason: DiscardReason::MalformedProfile,
                }
            }
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
        let read = self.read_ingest(tenant, &request);
        let (profile, _permit) = read.inspect_err(|error| {
            let reason = error.kind().reason();
            self.metrics().discarded(tenant, reason, bytes);
        })?;
        let Some(profile) = profile else {
            let reason = DiscardReason::EmptyProfile;
            self.metrics().discarded(tenant, reason, bytes);
            return Ok(PushSummary {
                outcomes: vec![Outcome::Empty],
            });
        };
        Ok(self.push(tenant, vec![profile]).await?)
    }

    /// The request's profile, if it has one, and what covers its body.
    fn read_ingest(
        &self,
        tenant: &TenantId,
        request: &IngestRequest<'_>,
    ) -> Result<(Option<IncomingProfile>, Option<scoria_model::Permit>), IngestError> {
        let query = IngestQuery::parse(request.query, self.clock().now())?;
        let limit = self.limits().of(tenant).ingestion_body_limit_bytes;
        let Content { body, permit } = content::decode(
            request.content_encoding,
            request.body.clone(),
            limit,
            self.bodies(),
        )?;
        let content_type = request.content_type;
        let chosen = format::choose(query.format.as_deref(), content_type, &body);
        let form = match chosen.supported()? {
            BodyFormat::PprofForm => {
                let content_type = content_type.unwrap_or_default();
                form::interpret(&multipart::split(content_type, &body)?)?
            }
            _ => PprofForm {
                profile: (!body.is_empty()).then_some(body),
                sample_types: None,
            },
        };
        Ok((profile_of(query, form), permit))
    }
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
