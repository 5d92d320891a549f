//! The RPC service: what arrives is checked here, before a thread or the log sees it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use bytes::Bytes;
use scoria_model::budget::BudgetExceeded;
use scoria_model::part::PartView;
use scoria_model::{ByteBudget, Clock, Permit, RetryKey, Seq, StreamId, TenantId};
use scoria_proto::ingester::{
    self as proto, Ingester, PushRequest, PushResponse, SelectRequest, SelectResponse, SelectStats,
    SpanStats, StreamTail,
};
use scoria_query::deletion::Deletion;
use scoria_query::wire;
use scoria_storage::Catalogue;
use tokio::sync::{Semaphore, oneshot};
use tonic::{Code, Request, Response, Status};

use crate::head::functions::TreeMemory;
use crate::health::Health;
use crate::log_loop::{Event, Payload};
use crate::metrics::{Ended, Metrics};
use crate::retry_key::of_tenant;
use crate::select::{Answer, Deletions, SelectError, Selection};
use crate::stream::{Outcome, Refusal};
use crate::tails::Tails;

/// Most bytes of parts in one request: its record must fit one frame of the log.
const REQUEST_BYTES_MAX: u64 = 512 << 20;

/// Most tenants and most streams of a pin in one query.
const LIST_MAX: usize = 100_000;

/// The metadata key under which a refusal says when to come again, in seconds.
pub const RETRY_AFTER: &str = "retry-after";

/// Serves pushes and queries. Clones share everything.
#[derive(Debug, Clone)]
pub struct IngesterService {
    pub(crate) inner: Arc<ServiceParts>,
}

#[derive(Debug)]
pub(crate) struct ServiceParts {
    pub(crate) events: Sender<Event>,
    pub(crate) tails: Arc<Tails>,
    pub(crate) health: Arc<Health>,
    pub(crate) catalogue: Catalogue,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) heads: ByteBudget,
    /// Requests between their arrival and their answer.
    pub(crate) queue: ByteBudget,
    pub(crate) queries: ByteBudget,
    pub(crate) trees: TreeMemory,
    pub(crate) query_threads: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Ingester for IngesterService {
    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        let PushRequest { tenant, parts } = request.into_inner();
        let outcomes = self.store(&tenant, parts).await?;
        let outcomes = outcomes.into_iter().map(|outcome| {
            i32::from(match outcome {
                Outcome::Stored => proto::Outcome::Stored,
                Outcome::Duplicate => proto::Outcome::Duplicate,
            })
        });
        Ok(Response::new(PushResponse {
            outcomes: outcomes.collect(),
        }))
    }

    async fn select(
        &self,
        request: Request<SelectRequest>,
    ) -> Result<Response<SelectResponse>, Status> {
        let started = self.inner.clock.monotonic();
        let answered = self.answer(request.into_inner()).await;
        let took = self.inner.clock.monotonic().saturating_sub(started);
        self.inner.metrics.select(took, Ended::of(&answered));
        answered.map(Response::new)
    }
}

impl IngesterService {
    async fn store(&self, tenant: &str, parts: Vec<Bytes>) -> Result<Vec<Outcome>, Status> {
        let inner = &*self.inner;
        if let Some(reason) = inner.health.refusing() {
            inner.metrics.refused("log_unavailable");
            return Err(come_again(
                Code::Unavailable,
                2,
                format!("{reason}; send again later"),
            ));
        }
        let tenant = TenantId::parse_single(tenant).map_err(invalid)?;
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        if bytes > REQUEST_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "the request has {bytes} bytes of profiles; the limit is {REQUEST_BYTES_MAX}: send fewer at a time"
            )));
        }
        let overloaded = |error: BudgetExceeded| {
            inner.metrics.refused("overloaded");
            come_again(Code::ResourceExhausted, 5, error.to_string())
        };
        // Given back when the answer is there, however the request ends.
        let _queued = take(&inner.queue, bytes).map_err(overloaded)?;
        let (keys, whole_bytes) = read(&tenant, &parts)?;
        let permit = take(&inner.heads, whole_bytes.max(bytes)).map_err(overloaded)?;
        let (reply, answer) = oneshot::channel();
        let event = Event::Push {
            keys,
            bytes,
            payload: Payload {
                tenant,
                parts,
                permit,
            },
            reply,
        };
        let stopped = || come_again(Code::Unavailable, 2, "the ingester has stopped".to_owned());
        inner.events.send(event).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?.map_err(refused)
    }

    async fn answer(&self, request: SelectRequest) -> Result<SelectResponse, Status> {
        let inner = &*self.inner;
        let scan = wire::decode_scan(&request.scan).map_err(invalid)?;
        let tenants = tenants(&request.tenants)?;
        let committed = committed(request.pin.as_ref())?;
        let deletions = self.deletions(&request, &tenants).await?;
        let turn = Arc::clone(&inner.query_threads)
            .acquire_owned()
            .await
            .map_err(|_| Status::unavailable("the ingester has stopped"))?;
        let view = inner.tails.view(&committed);
        let mut response = SelectResponse {
            catalogue_version: 0,
            streams: view
                .tails
                .iter()
                .map(|tail| StreamTail {
                    stream: tail.stream.to_string(),
                    epoch: tail.epoch.0,
                    from_seq: tail.from.0,
                    to_seq: tail.to.0,
                })
                .collect(),
            gone: view.gone,
            ..SelectResponse::default()
        };
        if view.gone {
            inner.metrics.select_gone();
        } else {
            let memory = (&inner.queries, &inner.trees);
            let selection = Selection::of((scan, deletions), &tenants, &view, memory);
            let bytes_max = request.partial_bytes_max;
            let guard = CancelOnDrop::default();
            let cancelled = Arc::clone(&guard.0);
            let run = tokio::task::spawn_blocking(move || {
                let answer = selection.run(&cancelled, bytes_max);
                drop(turn);
                answer
            });
            let Answer { partial, stats } = run
                .await
                .map_err(|_| Status::internal("the query ended early"))?
                .map_err(unanswered)?;
            response.stats = Some(SelectStats {
                profiles: stats.profiles,
                samples: stats.samples,
                spans: Some(SpanStats {
                    profiles: stats.spans.profiles,
                    samples: stats.spans.samples,
                    period: stats.spans.period,
                }),
                bytes: partial.len() as u64,
            });
            response.partial = partial.into();
        }
        // Read last: whatever it holds, the view above was no older than the pin.
        response.catalogue_version = inner.catalogue.state().version().0;
        Ok(response)
    }
}

impl IngesterService {
    /// What was deleted of the tenants up to the version that the query has pinned, at least.
    async fn deletions(
        &self,
        request: &SelectRequest,
        tenants: &[TenantId],
    ) -> Result<Deletions, Status> {
        let catalogue = &self.inner.catalogue;
        let pinned = request.pin.as_ref().map_or(0, |pin| pin.catalogue_version);
        let mut state = catalogue.state();
        if state.version().0 < pinned {
            let newer = catalogue.refresh().await;
            state = newer.map_err(|error| Status::unavailable(error.to_string()))?;
        }
        let mut deletions = Deletions::default();
        for kept in state.deletions() {
            let tombstone = &kept.tombstone;
            if tenants.contains(&tombstone.tenant) {
                let deletion = Deletion::new(&tombstone.selector, tombstone.before);
                let deletion = deletion.map_err(|error| Status::data_loss(error.to_string()))?;
                let of_tenant = deletions.entry(tombstone.tenant.clone()).or_default();
                of_tenant.push(Arc::new(deletion));
            }
        }
        Ok(deletions)
    }
}

/// Memory for a request. One that is larger than half of the budget passes when there is little
/// beside it, since it could never pass otherwise.
fn take(budget: &ByteBudget, bytes: u64) -> Result<Permit, BudgetExceeded> {
    budget.try_acquire(bytes.min(budget.limit() / 2))
}

/// Tells the working thread that nobody waits any more.
#[derive(Debug, Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The keys of the writes in the parts, all of which are checked from end to end, and what the parts
/// would take if their columns were not narrow, as the heads have wide ones.
fn read(tenant: &TenantId, parts: &[Bytes]) -> Result<(Vec<RetryKey>, u64), Status> {
    let mut keys = Vec::with_capacity(parts.len());
    let mut whole_bytes = 0;
    for (at, part) in parts.iter().enumerate() {
        let view = PartView::parse(part)
            .map_err(|error| Status::invalid_argument(format!("part {at}: {error}")))?;
        keys.extend(view.keys().map(|key| of_tenant(tenant, key)));
        whole_bytes += view.whole_bytes() as u64;
    }
    Ok((keys, whole_bytes))
}

fn tenants(texts: &[String]) -> Result<Vec<TenantId>, Status> {
    if texts.is_empty() || texts.len() > LIST_MAX {
        let n = texts.len();
        return Err(Status::invalid_argument(format!(
            "{n} tenants are asked for; at least one and at most {LIST_MAX} can be"
        )));
    }
    let mut tenants = texts
        .iter()
        .map(|text| TenantId::parse_single(text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(invalid)?;
    tenants.sort();
    tenants.dedup();
    Ok(tenants)
}

fn committed(pin: Option<&proto::Pin>) -> Result<HashMap<StreamId, Seq>, Status> {
    let known = pin.map_or(&[][..], |pin| &pin.committed);
    if known.len() > LIST_MAX {
        let n = known.len();
        return Err(Status::invalid_argument(format!(
            "the pin names {n} streams; the limit is {LIST_MAX}"
        )));
    }
    known
        .iter()
        .map(|c| Ok((c.stream.parse().map_err(invalid)?, Seq(c.seq))))
        .collect()
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn unanswered(error: SelectError) -> Status {
    let code = match &error {
        SelectError::Memory(_) => return come_again(Code::ResourceExhausted, 1, error.to_string()),
        SelectError::TooLarge { .. } => Code::OutOfRange,
        SelectError::Exec(_) | SelectError::Encode(_) => Code::DataLoss,
        SelectError::Cancelled => Code::Cancelled,
    };
    Status::new(code, error.to_string())
}

fn refused(refusal: Refusal) -> Status {
    let code = match refusal {
        Refusal::Overloaded { .. } => Code::ResourceExhausted,
        Refusal::LogUnavailable { .. } | Refusal::Stopping | Refusal::Fenced => Code::Unavailable,
    };
    come_again(code, 2, refusal.to_string())
}

fn come_again(code: Code, seconds: u32, message: String) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(RETRY_AFTER, seconds.into());
    status
}
