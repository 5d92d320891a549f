//! Flushing: builds a generation's blocks, uploads them, and commits them to the catalogue.
//!
//! One task does one job at a time, in the order in which the streams ask; how a job ended goes
//! back to the stream, which decides whether and when to try again.
//!
//! # Invariants
//! - Nothing is deleted here, not even after a failure: what a commit may yet refer to stays.
//! - A commit names exactly the blocks that were uploaded for its range.
//! - Blocks are built inside the reserve; what a generation needs beyond it is counted.

pub(crate) mod build;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use scoria_block::EncodedBlock;
use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, Clock, Epoch, Permit, Seq, StreamId};
use scoria_storage::{BlockStore, Catalogue, CommitError, Op, Precondition, StoreError, Txn};
use tokio::sync::{mpsc, oneshot};

use crate::generation::{Blocks, LiveGeneration};
use crate::log_loop::Event;
use crate::metrics::{Ended, Metrics};
use crate::stream::{CommitOutcome, Input, StreamView};

/// Longest upload of one block before it counts as failed.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// What the flusher is asked to do.
#[derive(Debug)]
pub(crate) enum FlushJob {
    Upload(Target),
    Commit(Target),
    /// Record that the stream ends at `at`, so that nobody asks for its tail any more.
    Close {
        stream: Arc<StreamId>,
        epoch: Epoch,
        at: Seq,
        done: Option<oneshot::Sender<()>>,
    },
}

/// The records of `(from, to]` of a stream, which one generation holds.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) slot: usize,
    pub(crate) generation: Arc<LiveGeneration>,
    pub(crate) epoch: Epoch,
    pub(crate) range: (Seq, Seq),
}

/// Does the jobs.
#[derive(Debug)]
pub(crate) struct Flusher {
    pub(crate) catalogue: Catalogue,
    pub(crate) blocks: BlockStore,
    pub(crate) budget: ByteBudget,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) events: Sender<Event>,
}

#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Memory(#[from] BudgetExceeded),
    #[error(transparent)]
    Build(#[from] build::BuildError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the upload of a block took longer than {UPLOAD_TIMEOUT:?}")]
    Timeout,
    #[error("building the blocks ended early")]
    Interrupted,
}

impl Flusher {
    /// Does jobs until nobody can ask for more.
    pub(crate) async fn run(self, mut jobs: mpsc::UnboundedReceiver<FlushJob>) {
        while let Some(job) = jobs.recv().await {
            match job {
                FlushJob::Upload(target) => {
                    let started = self.clock.monotonic();
                    let uploaded = self.upload(&target).await;
                    let took = self.clock.monotonic().saturating_sub(started);
                    self.metrics.flush_ended(took, Ended::of(&uploaded));
                    let generation = target.generation.number;
                    let input = match uploaded {
                        Ok(()) => Input::Uploaded(generation),
                        Err(error) => {
                            tracing::warn!(generation = generation.0, %error, "a flush failed");
                            Input::UploadFailed {
                                generation,
                                reason: error.to_string(),
                            }
                        }
                    };
                    self.tell(target.slot, input);
                }
                FlushJob::Commit(target) => {
                    let outcome = self.commit(&target).await;
                    let generation = target.generation.number;
                    let input = Input::CommitEnded {
                        generation,
                        outcome,
                    };
                    self.tell(target.slot, input);
                }
                FlushJob::Close {
                    stream,
                    epoch,
                    at,
                    done,
                } => {
                    self.close(&stream, epoch, at).await;
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                }
            }
        }
    }

    fn tell(&self, slot: usize, input: Input<crate::log_loop::Payload>) {
        // The log thread may have ended: then the next start finds out.
        let _ = self.events.send(Event::Flush(slot, input));
    }

    async fn upload(&self, target: &Target) -> Result<(), UploadError> {
        let (blocks, _permit) = match target.generation.built() {
            Some(built) => built,
            None => self.build(target).await?,
        };
        for block in &blocks {
            tokio::time::timeout(UPLOAD_TIMEOUT, self.blocks.put_block(block))
                .await
                .map_err(|_| UploadError::Timeout)??;
        }
        let metas = blocks.iter().map(|b| Arc::new(b.meta.clone())).collect();
        target.generation.set_blocks(Blocks::Uploaded(metas));
        Ok(())
    }

    async fn build(
        &self,
        target: &Target,
    ) -> Result<(Vec<Arc<EncodedBlock>>, Arc<Permit>), UploadError> {
        let heads = target.generation.snapshot();
        let mut permit = self.reserve(&target.generation)?;
        let stream = Arc::clone(&target.generation.stream);
        let range = target.range;
        let now = self.clock.now();
        let (blocks, permit) = tokio::task::spawn_blocking(move || {
            let blocks = build::blocks(&heads, &stream, range, now)?;
            let kept = blocks
                .iter()
                .map(|b| b.meta.bytes + b.manifest.len() as u64);
            permit.shrink_to(kept.sum());
            let blocks: Vec<_> = blocks.into_iter().map(Arc::new).collect();
            Ok::<_, build::BuildError>((blocks, Arc::new(permit)))
        })
        .await
        .map_err(|_| UploadError::Interrupted)??;
        let built = Blocks::Built(blocks.clone(), Arc::clone(&permit));
        target.generation.set_blocks(built);
        Ok((blocks, permit))
    }

    /// Memory for building the blocks of a generation.
    ///
    /// The log thread cuts before a generation needs the whole reserve. One that does all the same
    /// (a single huge push, or a log replayed by a smaller server than wrote it) takes all of it,
    /// so that nothing else is built beside it, and the rest is said and counted: refusing would
    /// leave it in memory for ever.
    fn reserve(&self, generation: &LiveGeneration) -> Result<Permit, BudgetExceeded> {
        let needed = build::memory_needed(generation.samples());
        let reserve = self.budget.limit();
        let permit = self.budget.try_acquire(needed.min(reserve))?;
        if let Some(beyond) = needed.checked_sub(reserve).filter(|beyond| *beyond > 0) {
            self.metrics.beyond_reserve(beyond);
            tracing::warn!(
                generation = generation.number.0,
                needed,
                reserve,
                "writing these blocks may take more memory than is kept for it; raise \
                 memory.flush_percent or memory.limit"
            );
        }
        Ok(permit)
    }

    async fn commit(&self, target: &Target) -> CommitOutcome {
        let stream = &*target.generation.stream;
        let metas = target.generation.uploaded();
        let bytes = metas.iter().map(|meta| meta.bytes).sum();
        let count = metas.len() as u64;
        let txn = Txn::flush(stream, target.epoch, target.range, metas);
        let error = match self.catalogue.commit(txn).await {
            Ok(_) => {
                self.metrics.committed(count, bytes);
                target.generation.set_blocks(Blocks::None);
                return CommitOutcome::Landed;
            }
            Err(error) => error,
        };
        tracing::warn!(%stream, %error, "a flush is not committed");
        match error {
            CommitError::Conflict(_) | CommitError::Refused(_) => match self.view(stream) {
                Some(view) => CommitOutcome::Conflict(view),
                None => CommitOutcome::Failed(error.to_string()),
            },
            CommitError::Unknown { .. } => {
                // Whatever can be read now is at least as new as what the commit saw.
                if let Err(error) = self.catalogue.refresh().await {
                    tracing::warn!(%error, "the catalogue cannot be read after an unclear commit");
                }
                match self.view(stream) {
                    Some(view) => CommitOutcome::Unknown(view),
                    None => CommitOutcome::Failed(error.to_string()),
                }
            }
            CommitError::Store(_)
            | CommitError::Deadline(_)
            | CommitError::TooLarge(_)
            | CommitError::Catalogue(_) => CommitOutcome::Failed(error.to_string()),
        }
    }

    fn view(&self, stream: &StreamId) -> Option<StreamView> {
        let state = self.catalogue.state();
        state.stream(stream).map(|known| StreamView {
            epoch: known.epoch,
            committed: known.committed,
        })
    }

    /// Best effort: the next start closes what is left open here.
    async fn close(&self, stream: &StreamId, epoch: Epoch, at: Seq) {
        let state = self.catalogue.state();
        if state.stream(stream).is_none_or(|known| known.is_finished()) {
            return;
        }
        let txn = Txn::new()
            .require(Precondition::StreamAt {
                stream: stream.clone(),
                epoch,
                committed: at,
            })
            .then(Op::CloseStream {
                stream: stream.clone(),
                epoch,
                at,
            });
        if let Err(error) = self.catalogue.commit(txn).await {
            tracing::warn!(%stream, %error, "cannot close a finished stream; the next start does");
        }
    }
}
