//! The role's task: round after round, what is due is done.
//!
//! ```text
//! refresh the catalogue ─► retention ─► plan ─► jobs, one by one ─► garbage ─► wait
//! ```
//!
//! # Invariants
//! - Any number of compactors may run: each commit's preconditions say whether it still holds.
//! - Stopping drops the job under way; it has changed nothing that counts.

use std::sync::Arc;
use std::time::Duration;

use scoria_model::{BlockId, Clock, ShardSet, TenantId, Timestamp};
use scoria_query::deletion::Deletion;
use scoria_storage::catalogue::CatalogueError;
use scoria_storage::{BlockStore, Catalogue, CatalogueState, CommitError, Op, StoreError, Txn};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::collect::{Collector, Graces};
use crate::execute::{Executor, JobError};
use crate::metrics::Metrics;
use crate::pieces::Piece;
use crate::plan::{InputSlices, Plan, plan};
use crate::retention::{expired, outlived};
use crate::retention_rules;
use crate::settings::Settings;

/// Most blocks that one commit of the collector names.
const COLLECT_MAX: usize = 1000;

/// What a compactor is made of.
#[derive(Debug)]
pub struct Components {
    pub catalogue: Catalogue,
    /// Without a cache: what is merged is read once.
    pub blocks: BlockStore,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
}

/// Why a round ended early. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Merges, expires and collects.
#[derive(Debug)]
pub struct Compactor {
    settings: Settings,
    executor: Executor,
    catalogue: Catalogue,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    collector: Collector,
    /// When the bucket was last listed.
    scanned_at: Option<Duration>,
}

/// A compactor's task.
#[derive(Debug)]
pub struct RunningCompactor {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningCompactor {
    /// Ends the task; a job under way is dropped.
    pub async fn stop(self) {
        // The receiver is gone only if the task has ended.
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the compactor did not end as it should");
        }
    }
}

impl Compactor {
    pub fn new(settings: Settings, components: Components) -> Self {
        Self {
            executor: Executor {
                catalogue: components.catalogue.clone(),
                blocks: components.blocks,
                memory_bytes: settings.memory_bytes,
                rollup_labels: settings.rollup_labels.clone().into(),
            },
            settings,
            catalogue: components.catalogue,
            clock: components.clock,
            metrics: components.metrics,
            collector: Collector::default(),
            scanned_at: None,
        }
    }

    /// Works until it is stopped.
    pub fn start(mut self) -> RunningCompactor {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                let round = async {
                    if let Err(error) = self.round().await {
                        tracing::warn!(%error, "a round of compaction ended early");
                    }
                    tokio::time::sleep(self.settings.interval).await;
                };
                tokio::select! {
                    () = round => {}
                    _ = stopped.changed() => return,
                }
            }
        });
        RunningCompactor { stop, task }
    }

    /// Does everything that is due.
    ///
    /// # Errors
    /// The catalogue or the store cannot be used; what was done before stays done.
    pub async fn round(&mut self) -> Result<(), RoundError> {
        let state = self.catalogue.refresh().await?;
        self.expire(state).await?;
        self.merge().await;
        self.collect().await
    }

    /// Takes slices out of the catalogue that are too old.
    async fn expire(&self, state: Arc<CatalogueState>) -> Result<(), RoundError> {
        let now = self.clock.now();
        let slices = expired(&state, now, &self.settings.retention);
        self.remove(slices).await?;
        self.apply_rules(now).await?;
        let mut txn = Txn::new();
        let outlived = outlived(&state, now, &self.settings.retention);
        txn.ops.extend(outlived.into_iter().map(Op::Retire));
        if txn.ops.is_empty() {
            return Ok(());
        }
        match self.catalogue.commit(txn).await {
            // Somebody else retired them.
            Ok(_) | Err(CommitError::Refused(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes what rules keep for less time than the rest.
    async fn apply_rules(&self, now: Timestamp) -> Result<(), RoundError> {
        let state = self.catalogue.state();
        for tombstone in retention_rules::due(&state, now, &self.settings.retention) {
            let tombstone = Arc::new(tombstone);
            self.executor.blocks.put_tombstone(&tombstone).await?;
            let txn = Txn::new().then(Op::Delete(Arc::clone(&tombstone)));
            match self.catalogue.commit(txn).await {
                Ok(_) => tracing::info!(
                    tenant = %tombstone.tenant,
                    selector = %tombstone.selector,
                    before_ms = tombstone.before.millis(),
                    "a retention rule deletes"
                ),
                // Another compactor made the same one.
                Err(CommitError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Commits the end of slices without a merge.
    async fn remove(&self, slices: Vec<InputSlices>) -> Result<(), RoundError> {
        if slices.is_empty() {
            return Ok(());
        }
        let n: usize = slices.iter().map(|(_, slices)| slices.len()).sum();
        let blocks = slices.len();
        let version = self.catalogue.state().version();
        match self
            .catalogue
            .commit(Txn::replace(slices, [], version))
            .await
        {
            Ok(version) => {
                self.metrics.expired(n as u64);
                tracing::info!(blocks, slices = n, version = version.0, "slices expired");
                Ok(())
            }
            // Somebody else did it, or merged them: the next round sees.
            Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Plans and does what is due until nothing is, or nothing gets done.
    async fn merge(&mut self) {
        loop {
            let plan = self.plan();
            let mut progress = false;
            for job in plan.jobs {
                let result = self.executor.run(&job).await;
                self.metrics.ended(&job, &result);
                match result {
                    Ok(done) => {
                        progress = true;
                        tracing::info!(
                            level = job.level,
                            inputs = job.inputs.len(),
                            outputs = done.outputs,
                            profiles = done.profiles,
                            deleted = done.dropped,
                            bytes = done.bytes_written,
                            "merged"
                        );
                    }
                    Err(JobError::Lost(why)) => tracing::debug!(%why, "a merge was not needed"),
                    Err(JobError::BadInput { block, slice, why }) => {
                        progress |= self.quarantine(block, slice, &why).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a merge failed; the next round tries again");
                    }
                }
            }
            if !progress {
                return;
            }
        }
    }

    /// Has every compactor leave a slice where it is; whether that is known from now on.
    async fn quarantine(&self, block: BlockId, slice: (TenantId, ShardSet), why: &str) -> bool {
        let (tenant, shard) = (slice.0.clone(), slice.1);
        tracing::error!(%block, %tenant, %shard, %why, "left a slice out of compaction");
        let txn = Txn::quarantine(block, vec![slice], why);
        match self.catalogue.commit(txn).await {
            Ok(_) => true,
            // Somebody else merged it, or it expired.
            Err(CommitError::Conflict(_)) => true,
            Err(error) => {
                tracing::warn!(%error, "a quarantine is not committed; the next round tries again");
                false
            }
        }
    }

    /// What is due on the newest version that this process knows.
    pub fn plan(&self) -> Plan {
        let state = self.catalogue.state();
        let now = self.clock.now();
        let plan = plan(&state, now, &self.settings.plan, &has_deleted);
        let oldest = plan.oldest_unmerged.unwrap_or(now);
        let age = now.0.saturating_sub(oldest.0).max(0) as f64 / 1e9;
        self.metrics.planned(&plan, age, state.quarantine().len());
        plan
    }

    /// Condemns, deletes and forgets what is due.
    async fn collect(&mut self) -> Result<(), RoundError> {
        let now = self.clock.monotonic();
        let scan = self
            .scanned_at
            .is_none_or(|at| now.saturating_sub(at) >= self.settings.orphan_scan);
        let listed = match scan {
            true => Some(self.executor.blocks.list_blocks().await?),
            false => None,
        };
        let state = self.catalogue.refresh().await?;
        self.collector.saw_state(&state, now);
        if let Some(listed) = listed {
            self.collector.saw_bucket(&listed, &state, now);
            self.scanned_at = Some(now);
            let trimmed = self.catalogue.trim(self.settings.log_keep).await?;
            self.metrics.log_trimmed(trimmed);
        }
        self.metrics.orphans(self.collector.orphans());
        let graces = Graces {
            garbage: self.settings.garbage_grace,
            orphans: self.settings.orphan_grace,
        };
        let due = self.collector.due(graces, now);
        self.commit_each("condemned", due.condemn, Op::Condemn)
            .await?;
        for block in due.delete {
            self.executor.blocks.delete_block(block).await?;
            self.collector.deleted(block);
            self.metrics.collected("deleted", 1);
        }
        self.commit_each("forgotten", due.forget, Op::Forget).await
    }

    async fn commit_each(
        &self,
        what: &'static str,
        blocks: Vec<BlockId>,
        op: fn(BlockId) -> Op,
    ) -> Result<(), RoundError> {
        for some in blocks.chunks(COLLECT_MAX) {
            let mut txn = Txn::new();
            txn.ops.extend(some.iter().map(|&block| op(block)));
            match self.catalogue.commit(txn).await {
                Ok(_) => self.metrics.collected(what, some.len() as u64),
                // One of them was committed or forgotten by another; the next round sees.
                Err(CommitError::Refused(violation)) => tracing::debug!(%violation, what),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether a slice may hold profiles of a deletion that it has not gone through.
fn has_deleted(state: &CatalogueState, piece: &Piece) -> bool {
    let meta = &piece.block;
    // One that cannot be read is applied by nobody; it was checked before it was committed.
    let deletions: Vec<Deletion> = state
        .deletions_in(meta, &piece.tenant)
        .filter_map(|d| Deletion::new(&d.tombstone.selector, d.tombstone.before).ok())
        .collect();
    if deletions.is_empty() {
        return false;
    }
    state.live_datasets(meta).any(|(_, dataset)| {
        dataset.tenant == piece.tenant
            && dataset.shard() == piece.shard
            && deletions
                .iter()
                .any(|d| d.may_hide(&dataset.service, &dataset.kinds, dataset.min_time))
    })
}
