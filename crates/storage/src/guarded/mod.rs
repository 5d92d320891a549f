//! What stands between everybody and the object store: a budget of requests, a time limit for each,
//! retries with jitter and an end, a second read beside one that is late, and counting.
//!
//! ```text
//! call ─► retry loop ─► [hedge] ─► budget ─► time limit ─► the store's client ─► counted
//! ```
//!
//! # Invariants
//! - A conditional create is sent once per call: whether an earlier one landed only its caller can
//!   tell, by reading.
//! - A body is read whole within the attempt that asked for it, so that one that breaks off is a
//!   failed attempt like any other; none larger than [`WHOLE_BYTES_MAX`] is begun.
//! - Every retry loop ends: by the number of attempts or by the time, whichever is first.
//! - Every attempt is counted by purpose, operation and outcome, those of the parts of an upload
//!   among them.
//!
//! # What it must not know
//! What the objects are.

mod budget;
mod latency;
mod listing;
mod metrics;
mod parts;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio::time::Instant;

use crate::block_store::Purpose;
use crate::error::StoreErrorKind;
use crate::keys;
use crate::store_client::StoreClient;
use budget::Budget;
use latency::Hedging;
use listing::Listing;
pub use metrics::RequestMetrics;
use metrics::Timed;
use parts::GuardedParts;

/// The largest body that is read as a whole: more than any object that Scoria writes.
pub const WHOLE_BYTES_MAX: u64 = 4 << 30;
/// Objects of one request to delete several.
const DELETES_PER_REQUEST: usize = 1000;

/// How requests to a store are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPolicy {
    /// Of one operation, the first one included; at least 1.
    pub attempts: u32,
    /// After this time an operation is not tried again.
    pub retry_for: Duration,
    /// Most that is waited before the second attempt; it doubles with each one, and what is waited
    /// is drawn between half of it and all of it.
    pub backoff_first: Duration,
    pub backoff_max: Duration,
    /// For an attempt without its body. Zero: none, as for a disk.
    pub timeout: Duration,
    /// What a body may take is its size divided by this, on top of `timeout`.
    pub bytes_per_second_min: u64,
    /// Requests under way at the same time. Three quarters of them may be queries' reads.
    pub requests_max: usize,
    /// Requests begun per second; 0 for no limit.
    pub requests_per_second: u32,
    pub hedge: Option<HedgePolicy>,
}

/// When a query's read is sent a second time beside the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgePolicy {
    /// Never before this; else when it takes longer than 95 of 100 reads lately.
    pub after_min: Duration,
    /// Most second reads in a thousand reads.
    pub share_per_mille: u32,
}

impl RequestPolicy {
    /// For a store behind a network.
    pub const fn remote() -> Self {
        Self {
            attempts: 5,
            retry_for: Duration::from_secs(20),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            timeout: Duration::from_secs(10),
            bytes_per_second_min: 1 << 20,
            requests_max: 256,
            requests_per_second: 0,
            hedge: Some(HedgePolicy {
                after_min: Duration::from_millis(200),
                share_per_mille: 50,
            }),
        }
    }

    /// For a disk or memory, where a second attempt finds what the first one found.
    pub const fn local() -> Self {
        Self {
            attempts: 1,
            retry_for: Duration::ZERO,
            backoff_first: Duration::ZERO,
            backoff_max: Duration::ZERO,
            timeout: Duration::ZERO,
            bytes_per_second_min: 0,
            requests_max: 1024,
            requests_per_second: 0,
            hedge: None,
        }
    }

    /// How long a body of `bytes` may take, the wait for its head included.
    fn time_for(&self, bytes: u64) -> Option<Duration> {
        if self.timeout.is_zero() {
            return None;
        }
        let body_ms = bytes
            .saturating_mul(1000)
            .checked_div(self.bytes_per_second_min)
            .unwrap_or(0);
        Some(self.timeout + Duration::from_millis(body_ms))
    }

    /// What is waited before attempt number `attempt` (the second one is 1).
    fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self
            .backoff_first
            .saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let longest = doubled.min(self.backoff_max);
        let half = longest / 2;
        // Sixty-four random bits; clients that failed together must not come back together.
        let drawn = uuid::Uuid::new_v4().as_u128() as u64;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(drawn % nanos.max(1))
    }
}

/// An object store behind its policy. Clones share budget and counters.
#[derive(Debug, Clone)]
pub struct GuardedStore {
    client: StoreClient,
    policy: Arc<RequestPolicy>,
    budget: Arc<Budget>,
    hedging: Arc<Hedging>,
    metrics: RequestMetrics,
}

impl fmt::Display for GuardedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.objects.fmt(f)
    }
}

impl GuardedStore {
    pub fn new(client: StoreClient, policy: RequestPolicy, metrics: RequestMetrics) -> Self {
        Self {
            client,
            budget: Arc::new(Budget::new(policy.requests_max, policy.requests_per_second)),
            hedging: Arc::new(Hedging::new(policy.hedge)),
            policy: Arc::new(policy),
            metrics,
        }
    }

    /// Tries until it succeeds, fails for good, or the policy says to give up.
    async fn retrying<T, F>(&self, operation: &'static str, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            attempts += 1;
            let wait = self.policy.backoff(attempts);
            let worthwhile = StoreErrorKind::of(&error) == StoreErrorKind::Unavailable;
            let spent = started.elapsed() + wait > self.policy.retry_for;
            if !worthwhile || attempts >= self.policy.attempts || spent {
                return Err(error);
            }
            self.metrics.retried(operation);
            tracing::debug!(operation, %error, ?wait, "trying a request to the object store again");
            tokio::time::sleep(wait).await;
        }
    }

    /// One attempt of anything but a read.
    async fn attempt<T>(
        &self,
        what: Kind,
        bytes: u64,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.policy.time_for(bytes);
        let permit = self.budget.take(what.purpose, limit).await;
        let permit = permit.ok_or_else(|| over_budget(limit.unwrap_or_default()))?;
        let timed = Timed::start(&self.metrics, what);
        let result = within(limit, request).await;
        timed.end(result.as_ref().map(drop));
        drop(permit);
        result
    }

    /// One attempt of a read, body included.
    async fn read_once(&self, what: Kind, key: &Path, options: GetOptions) -> Result<GetResult> {
        let limit = self.policy.time_for(0);
        let permit = self.budget.take(what.purpose, limit).await;
        let permit = permit.ok_or_else(|| over_budget(limit.unwrap_or_default()))?;
        let started = Instant::now();
        let timed = Timed::start(&self.metrics, what);
        let head_only = options.head;
        let read = async {
            let answer = within(limit, self.client.objects.get_opts(key, options)).await?;
            match head_only {
                true => Ok(answer),
                false => self.with_body(answer).await,
            }
        };
        let result = read.await;
        timed.end(result.as_ref().map(drop));
        if result.is_ok() {
            self.hedging.took(started.elapsed());
        }
        drop(permit);
        result
    }

    /// The answer with its body in memory.
    async fn with_body(&self, answer: GetResult) -> Result<GetResult> {
        let expected = answer.range.end.saturating_sub(answer.range.start);
        if expected > WHOLE_BYTES_MAX {
            return Err(Error::NotSupported {
                source: format!(
                    "{} has {expected} bytes; objects beyond {WHOLE_BYTES_MAX} are not Scoria's",
                    answer.meta.location
                )
                .into(),
            });
        }
        let GetResult {
            payload,
            meta,
            range,
            attributes,
            extensions,
        } = answer;
        let payload = match payload {
            GetResultPayload::Stream(body) => {
                let bytes = within(self.policy.time_for(expected), collect(body, expected)).await?;
                GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed())
            }
            file => file,
        };
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes,
            extensions,
        })
    }

    /// A read, and a second one beside it when it is late.
    async fn read_hedged(&self, what: Kind, key: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(wait) = self.hedging.begin(what.purpose) else {
            return self.read_once(what, key, options).await;
        };
        let first = Box::pin(self.read_once(what, key, options.clone()));
        let first = match select(first, Box::pin(tokio::time::sleep(wait))).await {
            Either::Left((result, _)) => return result,
            Either::Right(((), first)) => first,
        };
        if !self.hedging.may_send() {
            self.metrics.hedged("over_share");
            return first.await;
        }
        let second = Box::pin(self.read_once(what, key, options));
        match select(first, second).await {
            Either::Left((Ok(answer), _)) => {
                self.metrics.hedged("lost");
                Ok(answer)
            }
            Either::Left((Err(_), second)) => {
                self.metrics.hedged("won");
                second.await
            }
            Either::Right((Ok(answer), _)) => {
                self.metrics.hedged("won");
                Ok(answer)
            }
            Either::Right((Err(_), first)) => {
                self.metrics.hedged("lost");
                first.await
            }
        }
    }

    /// A listing that goes on behind the last key it gave when it breaks off.
    fn listing(
        &self,
        prefix: Option<Path>,
        offset: Option<Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let begin = Listing::new(self.clone(), prefix, offset);
        futures::stream::try_unfold(begin, Listing::next).boxed()
    }

    async fn delete_some(self, keys: Vec<Result<Path>>) -> Vec<Result<Path>> {
        let (keys, refused): (Vec<_>, Vec<_>) = keys.into_iter().partition(Result::is_ok);
        let keys: Vec<Path> = keys.into_iter().flatten().collect();
        if keys.is_empty() {
            return refused;
        }
        let what = Kind::new(purpose_of_key(keys.first()), "delete");
        let deleted = self
            .retrying("delete", || async {
                let listed = futures::stream::iter(keys.clone()).map(Ok).boxed();
                let request = async {
                    let results: Vec<Result<Path>> =
                        self.client.objects.delete_stream(listed).collect().await;
                    let unavailable = |r: &Result<Path>| {
                        let kind = r.as_ref().err().map(StoreErrorKind::of);
                        kind == Some(StoreErrorKind::Unavailable)
                    };
                    match results.iter().any(unavailable) && self.policy.attempts > 1 {
                        true => Err(results
                            .into_iter()
                            .find_map(Result::err)
                            .unwrap_or_else(|| over_budget(Duration::ZERO))),
                        false => Ok(results),
                    }
                };
                self.attempt(what, 0, request).await
            })
            .await;
        let mut results = deleted.unwrap_or_else(|error| vec![Err(error)]);
        results.extend(refused);
        results
    }
}

/// A request by what it is for and what it does.
#[derive(Debug, Clone, Copy)]
struct Kind {
    purpose: Purpose,
    operation: &'static str,
}

impl Kind {
    const fn new(purpose: Purpose, operation: &'static str) -> Self {
        Self { purpose, operation }
    }
}

async fn within<T>(limit: Option<Duration>, request: impl Future<Output = Result<T>>) -> Result<T> {
    match limit {
        None => request.await,
        Some(limit) => tokio::time::timeout(limit, request)
            .await
            .unwrap_or_else(|_| Err(no_answer(limit))),
    }
}

async fn collect(mut body: BoxStream<'static, Result<Bytes>>, expected: u64) -> Result<Bytes> {
    let mut whole: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    let mut length = 0u64;
    while let Some(piece) = body.try_next().await? {
        length += piece.len() as u64;
        if length > expected {
            return Err(wrong_length(expected, length));
        }
        match (&mut whole, first.take()) {
            (Some(whole), _) => whole.extend_from_slice(&piece),
            (None, None) => first = Some(piece),
            (None, Some(begun)) => {
                let mut joined = BytesMut::with_capacity(expected as usize);
                joined.extend_from_slice(&begun);
                joined.extend_from_slice(&piece);
                whole = Some(joined);
            }
        }
    }
    if length != expected {
        return Err(wrong_length(expected, length));
    }
    Ok(match whole {
        Some(whole) => whole.freeze(),
        None => first.unwrap_or_default(),
    })
}

fn wrong_length(expected: u64, found: u64) -> Error {
    generic(format!(
        "the body broke off: {found} bytes where {expected} were announced"
    ))
}

fn no_answer(limit: Duration) -> Error {
    generic(format!(
        "no answer within {limit:?} (store.request_timeout)"
    ))
}

fn over_budget(limit: Duration) -> Error {
    generic(format!(
        "no turn within {limit:?}: all requests that store.max_requests and \
         store.requests_per_second allow are under way"
    ))
}

fn generic(text: String) -> Error {
    Error::Generic {
        store: "guarded",
        source: text.into(),
    }
}

/// What a request is for, as its caller said or as its key tells.
fn purpose_of(extensions: &object_store::Extensions, key: &Path) -> Purpose {
    let said = extensions.get().copied();
    said.unwrap_or_else(|| purpose_of_key(Some(key)))
}

fn purpose_of_key(key: Option<&Path>) -> Purpose {
    match key.and_then(|key| key.parts().next()) {
        Some(folder) if folder.as_ref() == keys::CATALOGUE => Purpose::Catalogue,
        Some(folder) if folder.as_ref() == keys::TENANTS => Purpose::Tenant,
        _ => Purpose::Other,
    }
}

#[async_trait]
impl ObjectStore for GuardedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let what = Kind::new(purpose_of(&opts.extensions, location), "upload");
        let bytes = payload.content_length() as u64;
        let once = || {
            let request = self
                .client
                .objects
                .put_opts(location, payload.clone(), opts.clone());
            self.attempt(what, bytes, request)
        };
        match opts.mode {
            PutMode::Overwrite => self.retrying(what.operation, once).await,
            PutMode::Create | PutMode::Update(_) => once().await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let what = Kind::new(purpose_of(&opts.extensions, location), "upload");
        if let Some(parts) = &self.client.parts {
            let begun = GuardedParts::begin(self, Arc::clone(parts), (location, what), opts);
            return Ok(Box::new(begun.await?));
        }
        let request = self.client.objects.put_multipart_opts(location, opts);
        self.attempt(what, 0, request).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = match (options.head, &options.range) {
            (true, _) => "attributes",
            (false, None) => "get",
            (false, Some(_)) => "get_range",
        };
        let what = Kind::new(purpose_of(&options.extensions, location), operation);
        let bounded = matches!(options.range, Some(GetRange::Bounded(_)));
        self.retrying(operation, || async {
            match bounded {
                true => self.read_hedged(what, location, options.clone()).await,
                false => self.read_once(what, location, options.clone()).await,
            }
        })
        .await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut read = Vec::with_capacity(ranges.len());
        for range in ranges {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                ..GetOptions::default()
            };
            read.push(self.get_opts(location, options).await?.bytes().await?);
        }
        Ok(read)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .ready_chunks(DELETES_PER_REQUEST)
            .then(move |keys| store.clone().delete_some(keys))
            .flat_map(futures::stream::iter)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let what = Kind::new(purpose_of_key(prefix), "iter");
        self.retrying("iter", || {
            self.attempt(what, 0, self.client.objects.list_with_delimiter(prefix))
        })
        .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let what = Kind::new(purpose_of_key(Some(to)), "copy");
        self.attempt(what, 0, self.client.objects.copy_opts(from, to, options))
            .await
    }
}

#[cfg(test)]
mod tests;
