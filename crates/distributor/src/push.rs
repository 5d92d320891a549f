//! The role itself: takes a request's profiles, prepares them, and hands them to the ingesters.
//!
//! # Invariants
//! - All parts of a request for one ingester travel in one call, which the ingester stores as one
//!   append: a request is never stored in more pieces than it has targets.
//! - A profile is answered for as stored only after its ingester said that it is durable.
//! - Decoding never holds up the runtime: what takes longer than a task may is done on the blocking
//!   pool, a bounded number of requests at a time.
//!
//! # What it must not know
//! How profiles are stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use prometheus_client::registry::Registry;
use scoria_cluster::Membership;
use scoria_model::part::PartView;
use scoria_model::{ByteBudget, Clock, DiscardReason, NodeId, RetryKey, TenantId};
use scoria_pprof::DraftTerms;
use scoria_proto::Connection;
use scoria_proto::ingester::{self, IngesterClient, PushRequest};
use tokio::sync::Semaphore;
use tonic::Code;

use crate::incoming::IncomingProfile;
use crate::joining::Joining;
use crate::key::Keys;
use crate::known::Known;
use crate::metrics::Metrics;
use crate::outcome::{Outcome, PushError, PushSummary, Refusal, RefusalKind};
use crate::parcel::{Accepted, Cargo, Router};
use crate::prepare::{Preparation, Prepared, Stop};
use crate::quota::Quotas;
use crate::rate::RateLimiter;
use crate::rejections::{Entry, RejectionSettings, Rejections, Seen};
use crate::tenants::TenantLimits;
use crate::workers::Workers;

/// The metadata key under which an ingester says when to come again, in seconds.
const RETRY_AFTER: &str = "retry-after";
/// When to come again if it does not say: it flushes within seconds.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);

/// How the distributor works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// On how many neighbours of the ring the series of one service spread. At least 1.
    pub neighbours: usize,
    /// How long an ingester may take to answer; below the ten seconds that clients wait.
    pub store_timeout: Duration,
    /// Requests decoded on the blocking pool at a time. At least 1.
    pub decoders: usize,
    /// Requests whose profiles are up to this size, decompressed, are decoded where they arrive: a
    /// millisecond or two, which the way to another thread and back would cost as well.
    pub inline_bytes_max: u64,
    /// How much is remembered of what was not stored, for tenants to read.
    pub rejections: RejectionSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            neighbours: 1,
            store_timeout: Duration::from_secs(8),
            decoders: 2,
            inline_bytes_max: 256 * 1024,
            rejections: RejectionSettings::default(),
        }
    }
}

/// What the distributor works with.
#[derive(Debug, Clone)]
pub struct Components {
    pub membership: Membership,
    /// The way to each member. One that is missing counts as out of reach.
    pub ingesters: HashMap<NodeId, Connection>,
    pub limits: TenantLimits,
    pub clock: Arc<dyn Clock>,
    /// The share of memory for profiles that are being decoded and handed on.
    pub bodies: ByteBudget,
    /// Random, and another one for each start of the process.
    pub seed: [u8; 16],
}

/// Takes profiles in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Distributor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    membership: Membership,
    ingesters: HashMap<NodeId, IngesterClient<Connection>>,
    limits: TenantLimits,
    preparation: Preparation,
    decoders: Arc<Semaphore>,
    draft_seed: u64,
}

impl Distributor {
    pub fn new(settings: Settings, components: Components, registry: &mut Registry) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = components.seed;
        let worker_seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let metrics = Metrics::new(registry);
        let preparation = Preparation {
            clock: components.clock,
            bodies: components.bodies,
            keys: Keys::new(components.seed),
            rates: RateLimiter::default(),
            quotas: Quotas::default(),
            known: Known::default(),
            rejections: Rejections::new(settings.rejections, metrics.rejections_held()),
            metrics,
            workers: Workers::new(settings.decoders + 2, worker_seed),
        };
        let ingesters = components
            .ingesters
            .into_iter()
            .map(|(node, channel)| (node, ingester::client(channel)))
            .collect();
        Self {
            shared: Arc::new(Shared {
                decoders: Arc::new(Semaphore::new(settings.decoders.max(1))),
                settings,
                membership: components.membership,
                ingesters,
                limits: components.limits,
                preparation,
                draft_seed: worker_seed,
            }),
        }
    }

    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.preparation.clock
    }

    pub fn limits(&self) -> &TenantLimits {
        &self.shared.limits
    }

    /// What became of the tenant's profiles that were not stored, or not whole; the latest first.
    pub fn rejections(&self, tenant: &TenantId) -> Vec<Entry> {
        self.shared.preparation.rejections.of(tenant)
    }

    /// Counts and remembers a request that was refused before there was a profile to speak of;
    /// `labels` are what is known of it.
    pub fn refused(
        &self,
        tenant: &TenantId,
        refusal: &Refusal,
        bytes: u64,
        labels: &[(String, String)],
    ) {
        self.metrics()
            .discarded(tenant, refusal.kind.reason(), bytes);
        self.shared.remember(tenant, labels, Seen::refused(refusal));
    }

    /// Counts and remembers an upload that is put aside whole though its client goes on.
    pub(crate) fn put_aside(
        &self,
        tenant: &TenantId,
        (reason, bytes): (DiscardReason, u64),
        labels: &[(String, String)],
    ) {
        self.metrics().discarded(tenant, reason, bytes);
        self.shared
            .remember(tenant, labels, Seen::dropped(reason, 1));
    }

    /// Counts and remembers what is left out of an upload.
    pub(crate) fn left_out(
        &self,
        tenant: &TenantId,
        (reason, n): (DiscardReason, u64),
        labels: &[(String, String)],
    ) {
        if n > 0 {
            self.metrics().dropped(tenant, reason, n);
            self.shared
                .remember(tenant, labels, Seen::dropped(reason, n));
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.preparation.metrics
    }

    pub(crate) fn bodies(&self) -> &ByteBudget {
        &self.shared.preparation.bodies
    }

    /// Takes the profiles of one request. Each one stands for itself: the good ones are stored
    /// whatever becomes of the others, and durable when this returns.
    ///
    /// # Errors
    /// At least one profile was refused or could not be stored.
    pub async fn push(
        &self,
        tenant: &TenantId,
        profiles: Vec<IncomingProfile>,
    ) -> Result<PushSummary, PushError> {
        let shared = &self.shared;
        shared.preparation.metrics.batch(tenant, profiles.len());
        if profiles.is_empty() {
            return Err(PushError::whole(Refusal::invalid(
                DiscardReason::EmptyProfile,
                "no profiles received: the request has no series, or its series have no samples",
            )));
        }
        let prepared = self.prepare(tenant, profiles).await;
        let (profiles, prepared) = prepared.map_err(PushError::whole)?;
        let cargo = Cargo::of(&shared.router(), (tenant, &profiles), prepared);
        self.store(tenant, |at| &profiles[at].labels, cargo).await
    }

    async fn prepare(
        &self,
        tenant: &TenantId,
        mut profiles: Vec<IncomingProfile>,
    ) -> Result<(Vec<IncomingProfile>, Vec<Result<Prepared, Stop>>), Refusal> {
        let expected = profiles
            .iter()
            .map(|profile| profile.payload.expected_bytes());
        let bytes = expected.fold(0, u64::saturating_add);
        let (shared, tenant) = (Arc::clone(&self.shared), tenant.clone());
        self.decode(bytes, move || {
            let prepared = shared.prepare(&tenant, &mut profiles)?;
            Ok((profiles, prepared))
        })
        .await?
    }

    /// Does a piece of work that takes the time of decoding `bytes`: here if they are few, else on
    /// the blocking pool, when it is its turn.
    ///
    /// # Errors
    /// The server is shutting down.
    pub async fn decode<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let shared = &self.shared;
        if bytes <= shared.settings.inline_bytes_max {
            return Ok(work());
        }
        let stopped = || Refusal::unavailable("the server is shutting down");
        let decoders = Arc::clone(&shared.decoders);
        let turn = decoders.acquire_owned().await.map_err(|_| stopped())?;
        let job = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        job.await.map_err(|_| stopped())
    }

    /// Decodes and prepares an upload in one go, where [`decode`](Self::decode) does such work:
    /// `work` gets what prepares the tenant's profiles into parts that they share.
    ///
    /// # Errors
    /// The server is shutting down.
    pub(crate) async fn prepare_with<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        bytes: u64,
        work: impl FnOnce(Joining<'_>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (shared, tenant) = (Arc::clone(&self.shared), tenant.clone());
        self.decode(bytes, move || {
            let policy = shared.limits.policy(&tenant);
            let batch = shared.preparation.batch(&tenant, &policy);
            work(Joining::new(batch, shared.router(), shared.draft_seed))
        })
        .await
    }

    /// Stores the profiles of one request that are prepared; `labels` are what is known of each.
    ///
    /// # Errors
    /// At least one profile was refused or could not be stored.
    pub(crate) async fn store<'p>(
        &self,
        tenant: &TenantId,
        labels: impl Fn(usize) -> &'p [(String, String)],
        cargo: Cargo,
    ) -> Result<PushSummary, PushError> {
        let shared = &self.shared;
        let outcomes = shared.store(tenant, labels, cargo).await;
        let delay = shared.limits.policy(tenant).artificial_delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        PushError::summarise(outcomes)
    }

    /// What a decoder may take for each profile of the tenant.
    pub fn draft_terms(&self, tenant: &TenantId) -> DraftTerms {
        DraftTerms {
            seed: self.shared.draft_seed,
            memory: self.bodies().clone(),
            max_bytes: self.limits().of(tenant).max_profile_size_bytes,
        }
    }
}

impl Shared {
    /// For the tenant to see what became of a profile.
    fn remember(&self, tenant: &TenantId, labels: &[(String, String)], seen: Seen<'_>) {
        let now = self.preparation.clock.now();
        let rejections = &self.preparation.rejections;
        rejections.record(tenant, labels, seen, now);
    }

    fn prepare(
        &self,
        tenant: &TenantId,
        profiles: &mut [IncomingProfile],
    ) -> Result<Vec<Result<Prepared, Stop>>, Refusal> {
        let policy = self.limits.policy(tenant);
        self.preparation.batch(tenant, &policy).prepare(profiles)
    }

    /// By the members as they are now.
    fn router(&self) -> Router {
        Router {
            view: self.membership.view(),
            neighbours: self.settings.neighbours,
        }
    }

    /// Hands the parcels to their ingesters; what became of each profile.
    async fn store<'p>(
        &self,
        tenant: &TenantId,
        labels: impl Fn(usize) -> &'p [(String, String)],
        cargo: Cargo,
    ) -> Vec<Result<Outcome, Refusal>> {
        let mut accepted = Vec::with_capacity(cargo.outcomes.len());
        let mut outcomes = Vec::with_capacity(cargo.outcomes.len());
        for outcome in cargo.outcomes {
            let (taken, outcome) = match outcome {
                // There is none until the ingester has answered.
                Ok(taken) => (Some(taken), None),
                Err(Stop::Empty | Stop::SampledOut) => (None, Some(Ok(Outcome::Empty))),
                Err(Stop::Profile(refusal) | Stop::Request(refusal)) => (None, Some(Err(*refusal))),
            };
            accepted.push(taken);
            outcomes.push(outcome);
        }
        let unanswered = || Err(Refusal::unavailable("the profile was not stored"));
        let all = |outcomes: Vec<Option<Result<Outcome, Refusal>>>| {
            let outcomes = outcomes.into_iter();
            outcomes
                .map(|outcome| outcome.unwrap_or_else(unanswered))
                .collect()
        };
        if cargo.parcels.is_empty() {
            return all(outcomes);
        }
        let started = self.preparation.clock.monotonic();
        let is_limited = |outcome: &Option<Result<Outcome, Refusal>>| matches!(outcome, Some(Err(refusal)) if refusal.kind.is_limit());
        // It will be sent again, whole.
        let comes_again = outcomes.iter().any(is_limited);
        let answers = cargo.parcels.into_iter().map(|mut parcel| async move {
            // Moved: what the request is encoded into is the only copy on its way.
            let parts = std::mem::take(&mut parcel.parts);
            let keys = if comes_again {
                keys_of(parts.clone()).await
            } else {
                Vec::new()
            };
            let n_writes = parcel.profiles.len();
            let target = parcel.target.as_ref();
            let answer = self.push_to(target, tenant, (parts, n_writes)).await;
            (answer, parcel, keys)
        });
        for (answer, parcel, keys) in join_all(answers).await {
            for (nth, &at) in parcel.profiles.iter().enumerate() {
                let answer = match &answer {
                    Ok(answers) => outcome_of(answers.get(nth).copied()),
                    Err(refusal) => Err(refusal.clone()),
                };
                if let Some(accepted) = accepted[at].take() {
                    if let (Ok(Outcome::Stored), Some(&key)) = (&answer, keys.get(nth)) {
                        let now = self.preparation.clock.monotonic();
                        self.preparation.known.add(key, accepted.bytes, now);
                    }
                    outcomes[at] = Some(self.conclude((tenant, labels(at)), answer, accepted));
                }
            }
        }
        let took = self.preparation.clock.monotonic().saturating_sub(started);
        self.preparation.metrics.stored_in(tenant, took);
        all(outcomes)
    }

    /// One call with all parts; an outcome for each of their `n_writes` writes.
    async fn push_to(
        &self,
        node: Option<&NodeId>,
        tenant: &TenantId,
        (parts, n_writes): (Vec<Bytes>, usize),
    ) -> Result<Vec<i32>, Refusal> {
        let Some(node) = node else {
            return Err(Refusal::unavailable(
                "no ingester takes writes at the moment; retry later",
            ));
        };
        let name = &node.0;
        let Some(client) = self.ingesters.get(node) else {
            return Err(Refusal::unavailable(format!(
                "ingester {name} cannot be reached: its address is not known"
            )));
        };
        let request = PushRequest {
            tenant: tenant.as_str().to_owned(),
            parts,
        };
        let timeout = self.settings.store_timeout;
        let mut client = client.clone();
        let answer = tokio::time::timeout(timeout, client.push(request)).await;
        let response = answer
            .map_err(|_| {
                Refusal::unavailable(format!(
                    "ingester {name} did not answer within {} s; a resend is stored once",
                    timeout.as_secs_f64()
                ))
            })?
            .map_err(|status| refusal_of(name, &status))?
            .into_inner();
        if response.outcomes.len() == n_writes {
            Ok(response.outcomes)
        } else {
            Err(Refusal::unavailable(format!(
                "ingester {name} answered for {} of {n_writes} profiles",
                response.outcomes.len()
            )))
        }
    }

    /// What became of a profile that was handed on; counts what was not new.
    fn conclude(
        &self,
        (tenant, labels): (&TenantId, &[(String, String)]),
        answer: Result<Outcome, Refusal>,
        accepted: Accepted,
    ) -> Result<Outcome, Refusal> {
        let metrics = &self.preparation.metrics;
        match &answer {
            Ok(Outcome::Stored | Outcome::Empty) => {}
            Ok(Outcome::Duplicate) => {
                metrics.discarded(tenant, DiscardReason::Duplicate, accepted.bytes);
                let seen = Seen::dropped(DiscardReason::Duplicate, 1);
                self.remember(tenant, labels, seen);
            }
            Err(refusal) => {
                metrics.discarded(tenant, refusal.kind.reason(), accepted.bytes);
                self.remember(tenant, labels, Seen::refused(refusal));
            }
        }
        match (answer, accepted.refused) {
            (Ok(_), Some(refused)) => Err(*refused),
            (answer, _) => answer,
        }
    }
}

/// The keys of the writes in parts of our own making, in order; none if the server is shutting down.
async fn keys_of(parts: Vec<Bytes>) -> Vec<RetryKey> {
    let read = tokio::task::spawn_blocking(move || {
        let views = parts.iter().map(|part| PartView::parse(part));
        // Without one of them the keys of the others would be taken for those of other profiles.
        let views: Vec<_> = views.collect::<Result<_, _>>().unwrap_or_default();
        views.iter().flat_map(PartView::keys).collect()
    });
    read.await.unwrap_or_default()
}

fn outcome_of(answer: Option<i32>) -> Result<Outcome, Refusal> {
    match answer.map(ingester::Outcome::try_from) {
        Some(Ok(ingester::Outcome::Stored)) => Ok(Outcome::Stored),
        Some(Ok(ingester::Outcome::Duplicate)) => Ok(Outcome::Duplicate),
        _ => Err(Refusal::unavailable(
            "the ingester gave an answer that this version does not know",
        )),
    }
}

/// What an ingester's refusal means to the client.
fn refusal_of(node: &str, status: &tonic::Status) -> Refusal {
    let message = format!("ingester {node}: {}", status.message());
    let told = status.metadata().get(RETRY_AFTER);
    let retry_after = told
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map_or(RETRY_AFTER_DEFAULT, Duration::from_secs);
    let kind = match status.code() {
        Code::ResourceExhausted => RefusalKind::Overloaded { retry_after },
        // Whatever an ingester finds wrong with a part it would find wrong again.
        Code::InvalidArgument => RefusalKind::Invalid {
            reason: DiscardReason::MalformedProfile,
        },
        _ => RefusalKind::Unavailable,
    };
    Refusal {
        kind,
        message,
        is_partial: false,
    }
}
