//! Starting and stopping an ingester.
//!
//! ```text
//! start: lock -> catalogue -> replay -> OpenStream -> log thread (opens the first segment) -> serve
//! stop:  Drain -> last cut -> flush -> CloseStream -> log thread ends
//! ```
//! # Invariants
//! - The retry keys found in the log are durable in the new stream's first segment before any
//!   older segment is deleted.
//! - Dropping a [`RunningIngester`] without a shutdown leaves everything as a crash would.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use scoria_model::{ByteBudget, Epoch, Incarnation, Seq, StreamId};
use scoria_storage::catalogue::CatalogueError;
use scoria_storage::{Catalogue, CatalogueState, CommitError, Op, Precondition, Txn};
use tokio::sync::{mpsc, oneshot};

use crate::flush::Flusher;
use crate::head::functions::TreeMemory;
use crate::health::{Health, Status};
use crate::lock::{DirectoryLock, LockError};
use crate::log_loop::{Event, LogLoop, LogParts, Payload, StreamSlot};
use crate::replay::{Replay, ReplayError, ReplayedStream, replay};
use crate::segment::{DirDisk, LogDisk};
use crate::service::{IngesterService, ServiceParts};
use crate::settings::{Components, Settings};
use crate::stream::{Effect, Now, StreamCore};
use crate::tails::Tails;

/// Starts ingesters.
#[derive(Debug)]
pub struct Ingester;

/// An ingester at work.
#[derive(Debug)]
pub struct RunningIngester {
    service: IngesterService,
    events: Sender<Event>,
    thread: Option<JoinHandle<()>>,
    flusher: tokio::task::JoinHandle<()>,
    health: Arc<Health>,
    _lock: Option<DirectoryLock>,
}

/// What a shutdown achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Everything is in blocks.
    Flushed,
    /// Time was up: the log has what blocks lack, and the next start goes on with it.
    LeftInLog,
}

/// Why an ingester could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("cannot use the log directory: {0}")]
    Disk(std::io::Error),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error("cannot read the catalogue: {0}")]
    Catalogue(#[from] CatalogueError),
    #[error("cannot open stream {stream} in the catalogue: {source}")]
    OpenStream {
        stream: StreamId,
        source: CommitError,
    },
    #[error("cannot start the log thread: {0}")]
    Thread(std::io::Error),
    #[error("reading the log ended early")]
    Interrupted,
}

impl StartError {
    /// Whether the object store is at fault and a later start may succeed.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Catalogue(error) => error.is_unavailable(),
            Self::OpenStream { source, .. } => match source {
                CommitError::Unknown { .. } | CommitError::Deadline(_) => true,
                CommitError::Store(error) => error.is_unavailable(),
                CommitError::Catalogue(error) => error.is_unavailable(),
                _ => false,
            },
            _ => false,
        }
    }
}

impl Ingester {
    /// Reads the log in the settings' directory and goes on from there. Must be called on a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(
        settings: Settings,
        components: Components,
    ) -> Result<RunningIngester, StartError> {
        let lock = DirectoryLock::take(&settings.directory)?;
        let disk = DirDisk::open(&settings.directory.join("log")).map_err(StartError::Disk)?;
        let mut running = Self::start_on(Arc::new(disk), settings, components).await?;
        running._lock = Some(lock);
        Ok(running)
    }

    /// As [`Ingester::start`] on a disk that nobody else uses.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start_on(
        disk: Arc<dyn LogDisk>,
        settings: Settings,
        components: Components,
    ) -> Result<RunningIngester, StartError> {
        components.catalogue.refresh().await?;
        // First of all a commit of our own: once it stands, no late write of an earlier life can
        // move what is committed of that life's stream, so that the log is read against the truth.
        let own = open_own_stream(&settings, &components).await?;
        let state = components.catalogue.state();
        let replayed = read_log(&disk, &state, &components).await?;
        components.metrics.replayed(replayed.figures);
        let opened = open_unknown_streams(&settings, &components, (own, &replayed)).await?;
        let (events, received) = channel();
        let (jobs, asked) = mpsc::unbounded_channel();
        let health = Arc::new(Health::default());
        health.warn(replayed.damages.iter().map(ToString::to_string));
        let tails = Arc::new(Tails::default());
        let now = Now {
            monotonic: components.clock.monotonic(),
            wall: components.clock.now(),
        };
        let parts = LogParts {
            disk,
            clock: Arc::clone(&components.clock),
            tails: Arc::clone(&tails),
            health: Arc::clone(&health),
            metrics: components.metrics.clone(),
            heads: components.heads.clone(),
            heads_cut_bytes: settings.heads_cut_bytes,
            flush_cut_bytes: flush_cut_bytes(&components.flush),
            tick: settings.tick,
            flusher: jobs,
            keep: replayed.unkept.clone(),
        };
        let (slots, effects) = slots(&settings, &opened, &tails, replayed, now);
        let thread = std::thread::Builder::new()
            .name("scoria-log".to_owned())
            .spawn(move || LogLoop::new(parts, slots, effects).run(&received))
            .map_err(StartError::Thread)?;
        let flusher = Flusher {
            catalogue: components.catalogue.clone(),
            blocks: components.blocks,
            budget: components.flush,
            clock: Arc::clone(&components.clock),
            metrics: components.metrics.clone(),
            events: events.clone(),
        };
        let service = IngesterService {
            inner: Arc::new(ServiceParts {
                events: events.clone(),
                tails,
                health: Arc::clone(&health),
                catalogue: components.catalogue,
                clock: components.clock,
                trees: TreeMemory {
                    budget: ByteBudget::new("function trees", settings.function_tree_bytes),
                    metrics: components.metrics.clone(),
                },
                metrics: components.metrics,
                heads: components.heads,
                queue: ByteBudget::new("ingester queue", 2 * settings.stream.queue_bytes_max),
                queries: components.queries,
                query_threads: settings.query_threads,
            }),
        };
        Ok(RunningIngester {
            service,
            events,
            thread: Some(thread),
            flusher: tokio::spawn(flusher.run(asked)),
            health,
            _lock: None,
        })
    }
}

impl RunningIngester {
    /// What answers the RPCs of the ingester; to be handed to [`scoria_proto::ingester::server`].
    pub fn service(&self) -> IngesterService {
        self.service.clone()
    }

    pub fn status(&self) -> Status {
        let mut status = self.health.status();
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            status.problems.push("the log thread has ended".to_owned());
        }
        status
    }

    /// Takes no more pushes, and flushes what there is if that takes no longer than `deadline`.
    /// Queries are answered until the end.
    pub async fn shutdown(mut self, deadline: Duration) -> Shutdown {
        let (done, drained) = oneshot::channel();
        let asked = self.events.send(Event::Drain(done));
        let in_time = tokio::time::timeout(deadline, drained).await;
        let flushed = asked.is_ok() && matches!(in_time, Ok(Ok(())));
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            // It may be in the middle of a slow write.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
        if flushed {
            Shutdown::Flushed
        } else {
            Shutdown::LeftInLog
        }
    }
}

impl Drop for RunningIngester {
    fn drop(&mut self) {
        self.flusher.abort();
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn read_log(
    disk: &Arc<dyn LogDisk>,
    state: &Arc<CatalogueState>,
    components: &Components,
) -> Result<Replay, StartError> {
    let started = components.clock.monotonic();
    let (disk, state) = (Arc::clone(disk), Arc::clone(state));
    let heads = components.heads.clone();
    let committed = move |stream: &StreamId| {
        let known = state.stream(stream);
        known.map(|known| known.committed).unwrap_or_default()
    };
    let read = tokio::task::spawn_blocking(move || replay(&*disk, &committed, &heads));
    let mut replayed = read.await.map_err(|_| StartError::Interrupted)??;
    replayed.figures.took = components.clock.monotonic().saturating_sub(started);
    if replayed.figures.segments > 0 {
        let figures = replayed.figures;
        tracing::info!(
            segments = figures.segments,
            records = figures.records,
            torn_bytes = figures.torn_bytes,
            damaged = figures.damaged_segments,
            took_ms = figures.took.as_millis() as u64,
            "read the log back"
        );
    }
    Ok(replayed)
}

/// The streams of this start.
struct OpenedStreams {
    own: Arc<StreamId>,
    state: Arc<CatalogueState>,
}

/// Opens this incarnation's stream.
async fn open_own_stream(
    settings: &Settings,
    components: &Components,
) -> Result<Arc<StreamId>, StartError> {
    let own = Arc::new(StreamId {
        node: settings.node.clone(),
        incarnation: Incarnation(RandomState::new().hash_one(components.clock.now().nanos())),
        n: 0,
    });
    open_stream(settings, components, &own).await?;
    Ok(own)
}

/// Opens those streams of the log that the catalogue does not know.
async fn open_unknown_streams(
    settings: &Settings,
    components: &Components,
    (own, replayed): (Arc<StreamId>, &Replay),
) -> Result<OpenedStreams, StartError> {
    let catalogue = &components.catalogue;
    for old in &replayed.streams {
        if catalogue.state().stream(&old.stream).is_none() {
            tracing::warn!(stream = %old.stream,
                "the log has a stream that the catalogue does not know; it is opened anew");
            open_stream(settings, components, &old.stream).await?;
        }
    }
    Ok(OpenedStreams {
        own,
        state: catalogue.state(),
    })
}

async fn open_stream(
    settings: &Settings,
    components: &Components,
    stream: &Arc<StreamId>,
) -> Result<(), StartError> {
    let catalogue: &Catalogue = &components.catalogue;
    let deadline = components.clock.monotonic() + settings.open_stream_timeout;
    loop {
        let txn = Txn::new()
            .require(Precondition::StreamAbsent((**stream).clone()))
            .then(Op::OpenStream {
                stream: (**stream).clone(),
                epoch: Epoch(1),
                owner: settings.node.clone(),
                members: vec![settings.node.clone()],
                quorum: 1,
            });
        let source = match catalogue.commit(txn).await {
            Ok(_) => return Ok(()),
            // An earlier attempt, whose answer was lost, is what landed.
            Err(CommitError::Conflict(_)) if catalogue.state().stream(stream).is_some() => {
                return Ok(());
            }
            Err(source) => source,
        };
        let passing = matches!(
            source,
            CommitError::Unknown { .. } | CommitError::Store(_) | CommitError::Deadline(_)
        );
        if !passing || components.clock.monotonic() >= deadline {
            let stream = (**stream).clone();
            return Err(StartError::OpenStream { stream, source });
        }
        tracing::warn!(%stream, error = %source, "cannot open the stream yet");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Where a generation is cut so that its flush fits the reserve: a quarter of it stays for the
/// batch that crosses the mark.
fn flush_cut_bytes(reserve: &ByteBudget) -> u64 {
    reserve.limit() - reserve.limit() / 4
}

/// The state machines of all streams with their first effects; the own stream's comes first.
fn slots(
    settings: &Settings,
    opened: &OpenedStreams,
    tails: &Tails,
    replayed: Replay,
    now: Now,
) -> (Vec<StreamSlot>, Vec<Vec<Effect<Payload>>>) {
    let mut stream_settings = settings.stream.clone();
    stream_settings.jitter_seed = opened.own.hash64();
    let (core, effects) = StreamCore::open(stream_settings.clone(), Epoch(1), &replayed.keys, now);
    tails.add_stream(&opened.own, Epoch(1), Seq(0));
    let mut slots = vec![StreamSlot {
        id: Arc::clone(&opened.own),
        core,
        undeleted: VecDeque::new(),
    }];
    let mut all_effects = vec![effects];
    for old in with_unlogged(settings, opened, replayed.streams) {
        let Some(known) = opened.state.stream(&old.stream) else {
            continue;
        };
        if known.owner != settings.node {
            tracing::warn!(stream = %old.stream, owner = %known.owner.0,
                "another node has taken over a stream of this log; its segments stay where they are");
            continue;
        }
        tails.add_stream(&old.stream, known.epoch, known.committed);
        if known.is_finished() && old.generations.is_empty() {
            continue;
        }
        let ranges: Vec<_> = old.generations.iter().map(|(range, _)| *range).collect();
        for (range, live) in old.generations {
            if range.from < range.to {
                tails.add(live);
            }
        }
        let (core, effects) = StreamCore::recovered(
            stream_settings.clone(),
            known.epoch,
            known.committed,
            &ranges,
            old.newest,
            now,
        );
        slots.push(StreamSlot {
            id: old.stream,
            core,
            undeleted: VecDeque::new(),
        });
        all_effects.push(effects);
    }
    (slots, all_effects)
}

/// The streams of the log, and those of this node in the catalogue of which the log has nothing.
fn with_unlogged(
    settings: &Settings,
    opened: &OpenedStreams,
    logged: Vec<ReplayedStream>,
) -> Vec<ReplayedStream> {
    let known: BTreeSet<Arc<StreamId>> = logged.iter().map(|s| Arc::clone(&s.stream)).collect();
    let mut all = logged;
    for (stream, state) in opened.state.streams() {
        let ours = state.owner == settings.node && *stream != *opened.own;
        if !ours || known.contains(stream) {
            continue;
        }
        if !state.is_finished() && state.committed == Seq(0) {
            tracing::info!(%stream, "an earlier stream left nothing behind; it is closed");
        } else if !state.is_finished() {
            tracing::warn!(%stream, committed = state.committed.0,
                "the log has nothing of an earlier stream; it is closed where it is committed");
        }
        all.push(ReplayedStream {
            stream: Arc::new(stream.clone()),
            generations: Vec::new(),
            newest: scoria_model::Timestamp::default(),
        });
    }
    all
}
