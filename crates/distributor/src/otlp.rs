//! OTLP profiles: one export, decoded, handed on and answered for.
//!
//! ```text
//! body ─► (JSON: rewritten) ─► Export ─► a draft for each profile and service ─► shared part ─► store
//!                                 └─► refused ones, hints ────────────────────────────────┴─► Exported
//! ```
//!
//! # Invariants
//! - A profile that is refused takes no other with it: the answer counts it and says why. Only an
//!   export of which nothing could be taken is refused as a whole.
//! - What the server could not store for a reason of its own, or takes later, makes the answer one
//!   after which the sender tries again; what was stored the first time is then recognised.
//! - One draft is there at a time; of the others only what the shared part has of them.
//! - An export that was not understood is an error that names its sender, never a success.
//!
//! # What it must not know
//! gRPC, HTTP and their statuses.

mod answer;
mod metrics;

use std::collections::VecDeque;

use bytes::Bytes;
use scoria_model::budget::BudgetExceeded;
use scoria_model::{DiscardReason, TenantId};
use scoria_pprof::otlp::{Converted, Converter, Export, ExportError, Refused, json};
use scoria_pprof::{DraftError, DraftTerms};

use crate::incoming::{DraftPayload, IncomingProfile, Origin, Payload, SentAs, UploadDigest};
use crate::joining::Joining;
use crate::outcome::{PushError, Refusal, RefusalKind};
use crate::parcel::Cargo;
use crate::push::Distributor;
use crate::senders::Senders;
pub use answer::Exported;
use answer::Tally;
pub(crate) use metrics::OtlpMetrics;

/// In which form an export came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Protobuf => "protobuf",
            Self::Json => "json",
        }
    }
}

/// One export, its transport's framing and compression taken off.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    pub body: Bytes,
    pub encoding: Encoding,
    /// As the sender names itself; empty if it does not. Told in errors.
    pub user_agent: String,
}

/// An export, decoded and prepared.
struct Taken {
    layout: &'static str,
    /// Locations whose frame type is left out.
    n_frame_types: u64,
    tally: Tally,
    senders: Senders,
    cargo: Cargo,
}

impl Distributor {
    /// Takes one export.
    ///
    /// # Errors
    /// Nothing of it could be taken, or something is worth sending again.
    pub async fn export(
        &self,
        tenant: &TenantId,
        request: ExportRequest,
    ) -> Result<Exported, PushError> {
        let bytes = request.body.len() as u64;
        let encoding = request.encoding;
        let terms = self.draft_terms(tenant);
        let taken = self
            .prepare_with(tenant, bytes, move |joining| take(request, &terms, joining))
            .await
            .and_then(|taken| taken)
            .map_err(|refusal| {
                self.refused(tenant, &refusal, bytes, &[]);
                PushError::whole(refusal)
            })?;
        let (mut tally, senders) = (taken.tally, taken.senders);
        let metrics = self.metrics();
        metrics
            .otlp
            .exported(tenant, taken.layout, encoding, &tally);
        for (reason, n) in [
            (DiscardReason::UnusableAttribute, tally.n_unusable()),
            (DiscardReason::FrameType, taken.n_frame_types),
        ] {
            self.left_out(tenant, (reason, n), senders.only());
        }
        metrics.batch(tenant, senders.len());
        if senders.len() > 0 {
            let labels = |at| senders.labels(at);
            let stored = self.store(tenant, labels, taken.cargo).await;
            tally.add(stored)?;
        }
        tally.answer()
    }
}

fn take(
    request: ExportRequest,
    terms: &DraftTerms,
    joining: Joining<'_>,
) -> Result<Taken, Refusal> {
    let memory = &terms.memory;
    let sent = Sent {
        digest: UploadDigest::of(&[b"otlp", &request.body]),
        bytes: request.body.len() as u64,
    };
    let sender = request.user_agent;
    let refuse = |error: ExportError| refusal(&error, &sender);
    match request.encoding {
        Encoding::Protobuf => prepare(request.body, &sent, (terms, joining), |body| {
            Export::read(body, memory).map_err(refuse)
        }),
        Encoding::Json => {
            let rewritten = json::transcode(&request.body, memory);
            let (body, _permit) = rewritten.map_err(|error| refuse(error.into()))?;
            drop(request.body);
            prepare(body, &sent, (terms, joining), |body| {
                Export::read_transcoded(body, memory).map_err(refuse)
            })
        }
    }
}

/// What is known of an export as it was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// What a resend repeats.
    digest: UploadDigest,
    bytes: u64,
}

/// Prepares the profiles of an export. When the last one, which often is the only one and large, is
/// prepared, the export has been given back if its symbols have been moved.
fn prepare<B: AsRef<[u8]>>(
    body: B,
    sent: &Sent,
    (terms, mut joining): (&DraftTerms, Joining<'_>),
    read: impl FnOnce(&[u8]) -> Result<Export<'_>, Refusal>,
) -> Result<Taken, Refusal> {
    let mut export = read(body.as_ref())?;
    export.cut_symbols(joining.limits().max_profile_symbol_value_length);
    let layout = export.layout().as_str();
    let n_frame_types = export.n_frame_types();
    joining.expect(export.n_profiles(), export.room())?;
    let mut feed = Feed::of(&export, terms, sent);
    let mut last = None;
    while let Some(fed) = feed.next() {
        let profile = match fed? {
            Fed::Profile(profile) => profile,
            Fed::Refused { refusal, bytes } => {
                joining.refuse(&refusal, bytes, feed.converter.labels_of_refused());
                feed.tally.refuse(refusal);
                continue;
            }
        };
        if feed.is_done() {
            last = Some(profile);
            break;
        }
        joining.add(profile, Some(&export))?;
    }
    let tally = std::mem::take(&mut feed.tally);
    drop(feed);
    let is_moved = match &mut last {
        Some(last) => joining.move_stacks(last, &export)?,
        None => true,
    };
    if !is_moved && let Some(last) = last.take() {
        joining.add(last, Some(&export))?;
    }
    drop(export);
    drop(body);
    if let Some(last) = last {
        joining.add(last, None)?;
    }
    let (senders, cargo) = joining.finish()?;
    Ok(Taken {
        layout,
        n_frame_types,
        tally,
        senders,
        cargo,
    })
}

/// One profile of an export, or why it is none.
enum Fed {
    Profile(IncomingProfile),
    Refused { refusal: Refusal, bytes: u64 },
}

/// The profiles of an export, converted one at a time.
struct Feed<'f, 'a> {
    export: &'f Export<'a>,
    converter: Converter<'f, 'a>,
    terms: &'f DraftTerms,
    digest: UploadDigest,
    tally: Tally,
    /// The next profile of the export.
    at: usize,
    /// How many have been made.
    nth: u32,
    /// Profiles of other services that the last one came apart into.
    ready: VecDeque<Converted>,
    /// Bytes that no profile has been charged with yet.
    wire_bytes: u64,
}

impl Iterator for Feed<'_, '_> {
    type Item = Result<Fed, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            if self.at == self.export.n_profiles() {
                return None;
            }
            match self.convert() {
                Ok(None) => {}
                Ok(Some(refused)) => return Some(Ok(refused)),
                Err(refusal) => return Some(Err(refusal)),
            }
        }
        let one = self.ready.pop_front();
        one.map(|one| Ok(Fed::Profile(self.incoming(one))))
    }
}

impl<'f, 'a> Feed<'f, 'a> {
    fn of(export: &'f Export<'a>, terms: &'f DraftTerms, sent: &Sent) -> Self {
        let of_profiles = (0..export.n_profiles()).map(|at| export.profile_bytes(at));
        Self {
            export,
            converter: export.converter(),
            terms,
            digest: sent.digest,
            tally: Tally::default(),
            at: 0,
            nth: 0,
            ready: VecDeque::new(),
            // What the profiles share is counted with the first.
            wire_bytes: sent.bytes.saturating_sub(of_profiles.sum()),
        }
    }

    /// Whether the export has nothing more.
    fn is_done(&self) -> bool {
        self.ready.is_empty() && self.at == self.export.n_profiles()
    }

    /// Converts the next profile of the export, or says why it is refused.
    ///
    /// # Errors
    /// There is no memory for it, and so none for the export.
    fn convert(&mut self) -> Result<Option<Fed>, Refusal> {
        let at = self.at;
        self.at += 1;
        match self.converter.profile(at, self.terms) {
            Ok(converted) => {
                for one in &converted {
                    self.tally.converted(at, one.service, one.n_unusable);
                }
                self.wire_bytes += self.export.profile_bytes(at);
                self.ready.extend(converted);
                Ok(None)
            }
            Err(Refused::Full {
                error: DraftError::Memory(exceeded),
                message,
            }) => Err(without_memory(&exceeded, message)),
            Err(refused) => Ok(Some(Fed::Refused {
                refusal: refusal_of(refused),
                bytes: self.export.profile_bytes(at),
            })),
        }
    }

    fn incoming(&mut self, converted: Converted) -> IncomingProfile {
        let nth = self.nth;
        self.nth += 1;
        IncomingProfile {
            series: nth as usize,
            labels: converted.labels,
            id: String::new(),
            origin: Origin::Push,
            payload: Payload::Draft(DraftPayload {
                draft: Some(Box::new(converted.draft)),
                digest: self.digest,
                nth,
                wire_bytes: std::mem::take(&mut self.wire_bytes),
                sent_as: SentAs::Otlp,
            }),
        }
    }
}

fn without_memory(exceeded: &BudgetExceeded, message: String) -> Refusal {
    Refusal {
        kind: RefusalKind::of_memory(exceeded),
        message,
        is_partial: false,
    }
}

fn refusal_of(refused: Refused) -> Refusal {
    match refused {
        Refused::Rejection(rejection) => Refusal::invalid(rejection.reason, rejection.message),
        Refused::Full { error, message } => Refusal {
            message,
            ..Refusal::from(error)
        },
    }
}

/// Why an export is refused as a whole, with who sent it.
fn refusal(error: &ExportError, user_agent: &str) -> Refusal {
    if let ExportError::Memory(exceeded) | ExportError::Json(json::JsonError::Memory(exceeded)) =
        error
    {
        return without_memory(exceeded, error.to_string());
    }
    let sender: String = user_agent.chars().take(128).collect();
    let message = match sender.as_str() {
        "" => format!("{error}; sent without a user agent"),
        sender => format!("{error}; sent by {sender:?}"),
    };
    Refusal::invalid(DiscardReason::MalformedProfile, message)
}
