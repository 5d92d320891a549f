//! Runs one scan: pins a version, reads blocks and asks ingesters side by side, merges.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use scoria_model::{Permit, TenantId};
use scoria_query::exec::ScanStats;
use scoria_query::merge::{Merger, Partial};
use scoria_query::scan::Scan;
use scoria_query::wire;

use crate::error::{ErrorKind, QueryError};
use crate::pin::{Fit, Pin};
use crate::plan::{Unit, units};
use crate::querier::Shared;
use crate::stats::QueryStats;
use crate::tails::{Question, ask};

/// How often a query pins before it gives up.
const PINS_MAX: usize = 4;

/// A merged partial and the memory it is accounted with.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) partial: Partial,
    pub(crate) stats: QueryStats,
    /// Given back when the answer has been made.
    pub(crate) permit: Permit,
}

/// What an attempt with one pin came to.
enum Attempt {
    Done(Box<Outcome>),
    PinAnew(Fit),
}

/// Partials as they come in, and the memory that they take.
struct Gathering {
    merger: Merger,
    permit: Permit,
    /// Bytes of the permit that are for what is being scanned rather than for the merged answer.
    planned: u64,
    stats: QueryStats,
}

impl Gathering {
    fn add(&mut self, partial: Partial) -> Result<(), QueryError> {
        self.merger
            .add(partial)
            .map_err(|e| QueryError::new(ErrorKind::Internal, e.to_string()))?;
        let wanted = self.planned + self.merger.bytes();
        let more = wanted.saturating_sub(self.permit.bytes());
        if more > 0 {
            self.permit.grow(more)?;
        }
        Ok(())
    }
}

impl Shared {
    /// The merged answer of all blocks and ingesters to a scan.
    pub(crate) async fn run(
        &self,
        tenants: &[TenantId],
        scan: &Scan,
    ) -> Result<Outcome, QueryError> {
        let mut state = self.catalogue.state();
        let mut last = Fit::Whole;
        for pins in 1..=PINS_MAX {
            let pin = Pin { state };
            match self.attempt(tenants, scan, &pin, pins).await? {
                Attempt::Done(outcome) => {
                    self.metrics.took(&outcome.stats);
                    self.metrics.cache_holds(self.reader.caches.bytes());
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

    async fn attempt(
        &self,
        tenants: &[TenantId],
        scan: &Scan,
        pin: &Pin,
        pins: usize,
    ) -> Result<Attempt, QueryError> {
        let units = units(&pin.state, tenants, scan);
        let planned = self.planned_bytes(&units, scan);
        let permit = self.memory.try_acquire(planned)?;
        let gathering = Arc::new(Mutex::new(Gathering {
            merger: Merger::new(&scan.what),
            permit,
            planned,
            stats: QueryStats {
                catalogue_version: pin.state.version(),
                datasets: units.len() as u64,
                blocks: n_blocks(&units),
                ingesters: self.ingesters.len() as u64,
                ..QueryStats::default()
            },
        }));
        let question = Question {
            tenants,
            scan: wire::encode_scan(scan).into(),
            partial_bytes_max: self.memory.limit(),
        };
        // A pin that does not hold makes the reading of blocks pointless, so it ends both.
        let tails = async {
            let answers = ask(&self.ingesters, &question, pin)
                .await
                .map_err(Stop::Failed)?;
            match pin.fit(&answers) {
                Fit::Whole => {}
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
            self.scan_blocks(units, scan, &gathering)
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
        let partial = gathered
            .merger
            .finish()
            .map_err(|e| internal(e.to_string()))?;
        Ok(Attempt::Done(Box::new(Outcome {
            partial,
            stats: gathered.stats,
            permit: gathered.permit,
        })))
    }

    /// Memory for the datasets that are scanned at the same time.
    fn planned_bytes(&self, units: &[Unit], scan: &Scan) -> u64 {
        let wants_samples = scoria_query::exec::wants_samples(scan);
        let mut bytes: Vec<u64> = units.iter().map(|u| u.bytes(wants_samples)).collect();
        bytes.sort_unstable_by(|a, b| b.cmp(a));
        bytes
            .iter()
            .take(self.settings.datasets_in_flight.max(1))
            .sum()
    }

    async fn scan_blocks(
        &self,
        units: Vec<Unit>,
        scan: &Scan,
        gathering: &Arc<Mutex<Gathering>>,
    ) -> Result<(), QueryError> {
        // Merging is part of each scan: while this waited for the pool, the scans beside it would
        // not be polled, and one of them could be the next in the pool's queue.
        let scans = units.into_iter().map(|unit| async move {
            let mut stats = QueryStats::default();
            let partial = self.reader.scan(&unit, scan, &mut stats).await?;
            gathering.lock().stats.merge(&stats);
            match partial {
                Some(partial) => self.take(gathering, partial).await,
                None => Ok(()),
            }
        });
        futures::stream::iter(scans)
            .buffer_unordered(self.settings.datasets_in_flight.max(1))
            .try_for_each(|()| std::future::ready(Ok(())))
            .await
    }

    /// Merges a partial where it does not hold up the runtime.
    async fn take(
        &self,
        gathering: &Arc<Mutex<Gathering>>,
        partial: Partial,
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
            gathering.lock().stats.add_scan(ScanStats {
                profiles: stats.profiles,
                samples: stats.samples,
            });
        }
        if answer.partial.is_empty() {
            return Ok(());
        }
        let decode = move || {
            wire::decode_partial(&answer.partial).map_err(|e| {
                let what = format!("the answer of an ingester cannot be read: {e}");
                QueryError::new(ErrorKind::Internal, what)
            })
        };
        let partial = self.reader.pool.run(decode).await??;
        self.take(gathering, partial).await
    }
}

/// Why both sides of an attempt stop.
enum Stop {
    PinAnew(Fit),
    Failed(QueryError),
}

/// Units stand block by block.
fn n_blocks(units: &[Unit]) -> u64 {
    let mut blocks: Vec<_> = units.iter().map(|unit| unit.block.id).collect();
    blocks.dedup();
    blocks.len() as u64
}
