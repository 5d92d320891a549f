//! Runs one scan: pins a version, reads blocks and asks ingesters side by side, merges.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use scoria_model::{Limits, TenantId};
use scoria_query::exec::{ScanStats, SpanStats};
use scoria_query::merge::{KindMismatch, Merger, Partial};
use scoria_query::scan::Scan;
use scoria_query::wire;
use scoria_storage::CatalogueState;

use crate::admission::{Held, Wanted};
use crate::cache::Kept;
use crate::dataset::{Going, StopOnDrop};
use crate::error::{ErrorKind, QueryError};
use crate::fair::Price;
use crate::known::{self, take_known};
use crate::metrics::Refusal;
use crate::pin::{Fit, Pin};
use crate::plan::{InFlight, PlanCost, Unit, cost, units};
use crate::querier::Shared;
use crate::stats::QueryStats;
use crate::tails::{Asked, ask};

/// How old a version may be that a query pins: compactors of other processes keep what a version
/// names for some minutes after another one replaced it.
const PIN_AGE_MAX: Duration = Duration::from_secs(60);

/// The answer of an ingester is decoded to at most a few times its bytes, before it is merged.
const DECODED: u64 = 2;

/// How often a query pins before it gives up.
const PINS_MAX: usize = 4;

/// A merged partial and the memory it is accounted with.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) partial: Partial,
    pub(crate) stats: QueryStats,
    /// Given back when the answer has been made.
    pub(crate) held: Held,
}

/// What an attempt with one pin came to.
enum Attempt {
    Done(Box<Outcome>),
    PinAnew(Fit),
}

/// Partials as they come in, and the memory that they take.
struct Gathering {
    merger: Merger,
    held: Held,
    /// Bytes held that are for what is being scanned rather than for the merged answer.
    planned: u64,
    stats: QueryStats,
}

impl Gathering {
    /// Holds more for what is on its way into the answer.
    fn plan_more(&mut self, bytes: u64) -> Result<(), QueryError> {
        self.held.grow(bytes)?;
        self.planned += bytes;
        Ok(())
    }

    fn add(&mut self, kept: Arc<Kept>) -> Result<(), QueryError> {
        let mismatch = |e: KindMismatch| QueryError::new(ErrorKind::Internal, e.to_string());
        // What no cache keeps need not be copied.
        let added = match Arc::try_unwrap(kept) {
            Ok(Kept {
                partial: Some(partial),
                ..
            }) => self.merger.add(partial),
            Err(kept) => match &kept.partial {
                Some(partial) => self.merger.add_shared(partial),
                None => Ok(()),
            },
            Ok(_) => Ok(()),
        };
        added.map_err(mismatch)?;
        let wanted = self.planned + self.merger.bytes();
        let more = wanted.saturating_sub(self.held.bytes());
        if more > 0 {
            self.held.grow(more)?;
        }
        Ok(())
    }
}

/// A question, and on what terms it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// Sorted, at least one.
    pub(crate) tenants: &'a [TenantId],
    pub(crate) scan: &'a Scan,
    pub(crate) limits: &'a Limits,
    pub(crate) lack: Lack,
}

impl Shared {
    /// What a scan would cost, with an empty answer of its kind.
    pub(crate) fn plan(&self, tenants: &[TenantId], scan: &Scan) -> Result<Outcome, QueryError> {
        let state = self.catalogue.state();
        let units = units(&state, tenants, scan);
        let (mut plan, _) = cost(&units, scan, self.in_flight());
        plan.ingesters = self.ingesters.len() as u64;
        let partial = Merger::new(&scan.what).finish();
        Ok(Outcome {
            partial: partial.map_err(|e| QueryError::new(ErrorKind::Internal, e.to_string()))?,
            stats: QueryStats {
                catalogue_version: state.version(),
                blocks: plan.blocks,
                datasets: plan.datasets,
                plan: Some(plan),
                ..QueryStats::default()
            },
            held: self.admission.nothing(),
        })
    }

    /// The merged answer of all blocks and ingesters to a scan.
    pub(crate) async fn run(&self, question: Question<'_>) -> Result<Outcome, QueryError> {
        let mut state = self.first_pin().await?;
        let mut last = Fit::Whole;
        for pins in 1..=PINS_MAX {
            let pin = Pin { state };
            match self.attempt(question, &pin, pins).await? {
                Attempt::Done(outcome) => {
                    self.metrics.took(&outcome.stats);
                    self.reader.caches.report(&self.metrics);
                    return Ok(*outcome);
                }
                Attempt::PinAnew(fit) => last = fit,
            }
            self.metrics.repinned();
            tracing::debug!(version = pin.state.version().0, ?last, "pinning anew");
            state = self.catalogue.refresh().await?;
        }
        Err(QueryError::new(
            ErrorKind::Unavailable,
            match last {
                Fit::Unserved(streams) => {
                    let names: Vec<String> = streams.iter().map(ToString::to_string).collect();
                    format!(
                        "no ingester serves the recent profiles of {}; the answer would lack them: start the ingester of this node again",
                        names.join(", ")
                    )
                }
                fit => format!(
                    "blocks and ingesters did not agree on a version of the catalogue in {PINS_MAX} tries ({fit:?}); try again"
                ),
            },
        ))
    }

    /// The version that a query starts from. Where the store cannot be read the newest one known
    /// will do: what it names may still be in caches.
    async fn first_pin(&self) -> Result<Arc<CatalogueState>, QueryError> {
        match self.catalogue.recent(PIN_AGE_MAX).await {
            Ok(state) => Ok(state),
            Err(error) if error.is_unavailable() => Ok(self.catalogue.state()),
            Err(error) => Err(error.into()),
        }
    }

    async fn attempt(
        &self,
        question: Question<'_>,
        pin: &Pin,
        pins: usize,
    ) -> Result<Attempt, QueryError> {
        let (scan, lack) = (question.scan, question.lack);
        let units = units(&pin.state, question.tenants, scan);
        let (plan, at_once) = cost(&units, scan, self.in_flight());
        let held = self.admit(question, &plan).await?;
        let going = Going::default();
        let _stop = StopOnDrop(going.clone());
        let gathering = Arc::new(Mutex::new(Gathering {
            merger: Merger::new(&scan.what),
            held,
            planned: plan.memory_bytes,
            stats: QueryStats {
                catalogue_version: pin.state.version(),
                datasets: plan.datasets,
                blocks: plan.blocks,
                ingesters: self.ingesters.len() as u64,
                ..QueryStats::default()
            },
        }));
        let asked = Asked {
            tenants: question.tenants,
            scan: wire::encode_scan(scan).into(),
            partial_bytes_max: self.memory.limit(),
        };
        // A pin that does not hold makes the reading of blocks pointless, so it ends both.
        let tails = async {
            let mut answers = Vec::new();
            for answer in ask(&self.ingesters, &asked, pin).await {
                match answer {
                    Ok(answer) => answers.push(answer),
                    Err(error) => lack.of(error, &gathering).map_err(Stop::Failed)?,
                }
            }
            match pin.fit(&answers) {
                Fit::Whole => {}
                Fit::Unserved(streams) if lack == Lack::Allowed && pins == PINS_MAX => {
                    for stream in streams {
                        let what = format!("recent profiles of {stream}: no ingester serves them");
                        gathering.lock().stats.missing.add(what);
                    }
                }
                // The stream is served from its start, and the version was the newest when it was
                // read a moment ago: nothing that was there when the query came is missing.
                Fit::Unknown(_) | Fit::Newer(_) if pins == PINS_MAX => {}
                fit => return Err(Stop::PinAnew(fit)),
            }
            for answer in answers {
                self.take_tail(&gathering, answer)
                    .await
                    .map_err(Stop::Failed)?;
            }
            Ok(())
        };
        let blocks = async {
            self.scan_blocks((units, at_once), (question, &going), &gathering)
                .await
                .map_err(Stop::Failed)
        };
        match futures::try_join!(tails, blocks) {
            Ok(_) => {}
            Err(Stop::PinAnew(fit)) => return Ok(Attempt::PinAnew(fit)),
            Err(Stop::Failed(error)) => return Err(error),
        }
        let internal = |what: String| QueryError::new(ErrorKind::Internal, what);
        let gathered = Arc::into_inner(gathering)
            .ok_or_else(|| internal("a part of the query is still running".to_owned()))?
            .into_inner();
        let Gathering {
            merger,
            mut held,
            stats,
            ..
        } = gathered;
        let partial = merger.finish().map_err(|e| internal(e.to_string()))?;
        held.scanned(partial.bytes());
        Ok(Attempt::Done(Box::new(Outcome {
            partial,
            stats,
            held,
        })))
    }

    fn in_flight(&self) -> InFlight {
        let settings = &self.settings;
        InFlight {
            always: settings.datasets_in_flight,
            most: settings.datasets_in_flight_max,
            bytes: settings.in_flight_bytes.min(self.memory.limit() / 8),
        }
    }

    /// Waits until the query may run.
    async fn admit(&self, question: Question<'_>, plan: &PlanCost) -> Result<Held, QueryError> {
        let limits = question.limits;
        let (bytes, most) = (plan.bytes(), limits.max_query_bytes);
        if Limits::exceeded(bytes, most) {
            self.metrics.refused(Refusal::Bytes);
            return Err(QueryError::new(
                ErrorKind::Invalid,
                format!(
                    "the query would read {bytes} bytes, the limit max_query_bytes allows {most}; shorten the range or add matchers on service_name"
                ),
            ));
        }
        let tenant = question.tenants.first().cloned();
        let since = self.clock.monotonic();
        let held = self.admission.wait(Wanted {
            tenant: tenant.unwrap_or_else(TenantId::anonymous),
            price: Price {
                bytes: plan.memory_bytes,
                weight: limits.query_weight,
            },
            tenant_bytes_max: limits.max_query_memory_bytes,
        });
        let held = held.await?;
        let waited = self.clock.monotonic().saturating_sub(since);
        self.metrics.waited(waited);
        Ok(held)
    }

    async fn scan_blocks(
        &self,
        (mut units, at_once): (Vec<Unit>, usize),
        (question, going): (Question<'_>, &Going),
        gathering: &Arc<Mutex<Gathering>>,
    ) -> Result<(), QueryError> {
        let known = take_known(&mut units, question.scan);
        if !known.is_empty() {
            let scan = question.scan.clone();
            let work = move || known::answer(&known, &scan);
            let kept = Kept {
                partial: Some(self.reader.pool.run(work).await?),
                profiles: 0,
                spans: SpanStats::default(),
            };
            self.take(gathering, Arc::new(kept)).await?;
        }
        // Merging is part of each scan: while this waited for the pool, the scans beside it would
        // not be polled, and one of them could be the next in the pool's queue.
        let scans = units.into_iter().map(|unit| async move {
            let mut stats = QueryStats::default();
            let answer = self
                .reader
                .answer(&unit, (question.scan, going), &mut stats)
                .await;
            gathering.lock().stats.merge(&stats);
            match answer {
                Ok(answer) => self.take(gathering, answer).await,
                Err(error) => question.lack.of(error, gathering),
            }
        });
        futures::stream::iter(scans)
            .buffer_unordered(at_once.max(1))
            .try_for_each(|()| std::future::ready(Ok(())))
            .await
    }

    /// Merges a partial where it does not hold up the runtime.
    async fn take(
        &self,
        gathering: &Arc<Mutex<Gathering>>,
        partial: Arc<Kept>,
    ) -> Result<(), QueryError> {
        let gathering = Arc::clone(gathering);
        let work = move || gathering.lock().add(partial);
        self.reader.pool.run(work).await?
    }

    async fn take_tail(
        &self,
        gathering: &Arc<Mutex<Gathering>>,
        answer: scoria_proto::ingester::SelectResponse,
    ) -> Result<(), QueryError> {
        if let Some(stats) = answer.stats {
            let spans = stats.spans.unwrap_or_default();
            gathering.lock().stats.add_scan(ScanStats {
                profiles: stats.profiles,
                samples: stats.samples,
                spans: SpanStats {
                    profiles: spans.profiles,
                    samples: spans.samples,
                    period: spans.period,
                },
            });
        }
        if answer.partial.is_empty() {
            return Ok(());
        }
        let on_its_way = (1 + DECODED) * answer.partial.len() as u64;
        gathering.lock().plan_more(on_its_way)?;
        let decode = move || {
            wire::decode_partial(&answer.partial).map_err(|e| {
                let what = format!("the answer of an ingester cannot be read: {e}");
                QueryError::new(ErrorKind::Internal, what)
            })
        };
        let kept = Kept {
            partial: Some(self.reader.pool.run(decode).await??),
            profiles: 0,
            spans: SpanStats::default(),
        };
        self.take(gathering, Arc::new(kept)).await?;
        gathering.lock().planned -= on_its_way;
        Ok(())
    }
}

/// What becomes of data that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The query fails.
    Refused,
    /// The answer names it.
    Allowed,
}

impl Lack {
    fn of(self, error: QueryError, gathering: &Mutex<Gathering>) -> Result<(), QueryError> {
        let lacks = matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::DataCorrupt
        );
        if self == Self::Refused || !lacks {
            return Err(error);
        }
        tracing::warn!(%error, "an answer lacks data");
        gathering.lock().stats.missing.add(error.to_string());
        Ok(())
    }
}

/// Why both sides of an attempt stop.
enum Stop {
    PinAnew(Fit),
    Failed(QueryError),
}
