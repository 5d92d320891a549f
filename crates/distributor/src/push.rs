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
use scoria_cluster::{Membership, Place};
use scoria_model::{ByteBudget, Clock, DiscardReason, Labels, NodeId, TenantId};
use scoria_pprof::DraftTerms;
use scoria_proto::Connection;
use scoria_proto::ingester::{self, IngesterClient, PushRequest};
use tokio::sync::Semaphore;
use tonic::Code;

use crate::incoming::IncomingProfile;
use crate::key::Keys;
use crate::metrics::Metrics;
use crate::outcome::{Outcome, PushError, PushSummary, Refusal, RefusalKind};
use crate::prepare::{Batch, Preparation, Prepared, Stop, Workers, service_of};
use crate::quota::Quotas;
use crate::rate::RateLimiter;
use crate::rejections::{Entry, RejectionSettings, Rejections, Seen};
use crate::tenants::TenantLimits;

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
        self.store(tenant, &profiles, prepared).await
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
    /// `work` gets what prepares the tenant's profiles.
    ///
    /// # Errors
    /// The server is shutting down.
    pub(crate) async fn prepare_with<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        bytes: u64,
        work: impl FnOnce(Batch<'_>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (shared, tenant) = (Arc::clone(&self.shared), tenant.clone());
        self.decode(bytes, move || {
            let policy = shared.limits.policy(&tenant);
            work(shared.preparation.batch(&tenant, &policy))
        })
        .await
    }

    /// Stores the profiles of one request that are prepared.
    ///
    /// # Errors
    /// At least one profile was refused or could not be stored.
    pub(crate) async fn store(
        &self,
        tenant: &TenantId,
        profiles: &[IncomingProfile],
        prepared: Vec<Result<Prepared, Stop>>,
    ) -> Result<PushSummary, PushError> {
        let shared = &self.shared;
        let outcomes = shared.store(tenant, profiles, prepared).await;
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

    /// Hands the prepared profiles to their ingesters; what became of each.
    async fn store(
        &self,
        tenant: &TenantId,
        profiles: &[IncomingProfile],
        prepared: Vec<Result<Prepared, Stop>>,
    ) -> Vec<Result<Outcome, Refusal>> {
        let mut outcomes = Vec::with_capacity(prepared.len());
        let mut ready = Vec::with_capacity(prepared.len());
        for (at, result) in prepared.into_iter().enumerate() {
            match result {
                Ok(prepared) => {
                    // Stands until the ingester has answered.
                    outcomes.push(Err(Refusal::unavailable("the profile was not stored")));
                    ready.push((at, prepared));
                }
                Err(Stop::Empty | Stop::SampledOut) => outcomes.push(Ok(Outcome::Empty)),
                Err(Stop::Profile(refusal) | Stop::Request(refusal)) => outcomes.push(Err(refusal)),
            }
        }
        if ready.is_empty() {
            return outcomes;
        }
        let started = self.preparation.clock.monotonic();
        let groups = self.by_target(tenant, profiles, ready);
        let answers = groups.into_iter().map(|(node, mut group)| async move {
            // Moved: what the request is encoded into is the only copy on its way.
            let parts = group
                .iter_mut()
                .map(|(_, ready)| std::mem::take(&mut ready.part));
            let parts = parts.collect();
            (self.push_to(node.as_ref(), tenant, parts).await, group)
        });
        for (answer, group) in join_all(answers).await {
            self.conclude((tenant, profiles), answer, group, &mut outcomes);
        }
        let took = self.preparation.clock.monotonic().saturating_sub(started);
        self.preparation.metrics.stored_in(tenant, took);
        outcomes
    }

    /// The parts of each ingester, with their places in the request. `None` if no member takes
    /// writes.
    fn by_target(
        &self,
        tenant: &TenantId,
        profiles: &[IncomingProfile],
        ready: Vec<(usize, Prepared)>,
    ) -> HashMap<Option<NodeId>, Vec<(usize, Prepared)>> {
        let view = self.membership.view();
        let ring = view.ring();
        let mut groups: HashMap<Option<NodeId>, Vec<(usize, Prepared)>> = HashMap::new();
        for (at, prepared) in ready {
            let profile = &profiles[at];
            let place = Place::of_service(tenant.as_str(), service_of(profile));
            // Among one neighbour there is nothing to choose.
            let fingerprint = if self.settings.neighbours > 1 && ring.members().len() > 1 {
                let pairs = profile.labels.iter().map(|(name, value)| (name, value));
                Labels::from_pairs(pairs).fingerprint()
            } else {
                0
            };
            let target = ring.target(place, fingerprint, self.settings.neighbours);
            groups
                .entry(target.cloned())
                .or_default()
                .push((at, prepared));
        }
        groups
    }

    /// One call with all parts; an outcome for each.
    async fn push_to(
        &self,
        node: Option<&NodeId>,
        tenant: &TenantId,
        parts: Vec<Bytes>,
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
        let n_parts = parts.len();
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
        if response.outcomes.len() == n_parts {
            Ok(response.outcomes)
        } else {
            Err(Refusal::unavailable(format!(
                "ingester {name} answered for {} of {n_parts} profiles",
                response.outcomes.len()
            )))
        }
    }

    /// Writes an ingester's answer into the outcomes of its profiles, and counts what was not new.
    fn conclude(
        &self,
        (tenant, profiles): (&TenantId, &[IncomingProfile]),
        answer: Result<Vec<i32>, Refusal>,
        group: Vec<(usize, Prepared)>,
        outcomes: &mut [Result<Outcome, Refusal>],
    ) {
        let metrics = &self.preparation.metrics;
        for (nth, (at, prepared)) in group.into_iter().enumerate() {
            let outcome = match &answer {
                Err(refusal) => Err(refusal.clone()),
                Ok(answers) => match answers.get(nth).copied().map(ingester::Outcome::try_from) {
                    Some(Ok(ingester::Outcome::Stored)) => Ok(Outcome::Stored),
                    Some(Ok(ingester::Outcome::Duplicate)) => Ok(Outcome::Duplicate),
                    _ => Err(Refusal::unavailable(
                        "the ingester gave an answer that this version does not know",
                    )),
                },
            };
            match &outcome {
                Ok(Outcome::Stored | Outcome::Empty) => {}
                Ok(Outcome::Duplicate) => {
                    metrics.discarded(tenant, DiscardReason::Duplicate, prepared.bytes);
                    let seen = Seen::dropped(DiscardReason::Duplicate, 1);
                    self.remember(tenant, &profiles[at].labels, seen);
                }
                Err(refusal) => {
                    metrics.discarded(tenant, refusal.kind.reason(), prepared.bytes);
                    self.remember(tenant, &profiles[at].labels, Seen::refused(refusal));
                }
            }
            outcomes[at] = match (outcome, prepared.refused) {
                (Ok(_), Some(refused)) => Err(refused),
                (outcome, _) => outcome,
            };
            drop(prepared.permit);
        }
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
    Refusal { kind, message }
}
