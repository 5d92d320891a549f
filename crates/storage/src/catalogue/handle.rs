//! The handle of a process on the catalogue: it does the requests that the committer asks for and
//! keeps the newest version that it has seen.
//!
//! # Invariants
//! - [`Catalogue::state`] never goes back to an older version.
//! - One commit at a time per handle; the roles of one process share one handle, so that they do
//!   not race each other.
//! - Nothing runs in the background: the log is read by [`Catalogue::refresh`] and by commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parking_lot::RwLock;
use scoria_model::{CatalogueVersion, Clock, Timestamp};

use super::committer::{
    Action, CommitRequest, Committer, CorruptEntry, Event, Outcome, VIEW_AGE_MAX, fold,
};
use super::entry::EntryError;
use super::snapshot;
use super::state::{CatalogueState, Violation};
use super::txn::{Txn, Unmet};
use crate::error::{StoreError, StoreErrorKind};
use crate::keys;
use crate::metrics::{CommitResult, Metrics, SnapshotResult};

/// Entries read at the same time while opening.
const READ_AHEAD: usize = 16;

/// Snapshots that clearing away leaves, and whose entries may go.
const SNAPSHOTS_KEPT: usize = 2;

/// How a handle behaves.
#[derive(Debug, Clone)]
pub struct CatalogueOptions {
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    /// How long a commit is tried.
    pub commit_timeout: Duration,
    /// A snapshot is written by whoever commits a multiple of this.
    pub snapshot_every: u64,
}

impl CatalogueOptions {
    /// Thirty seconds per commit, a snapshot every 256 entries.
    pub fn new(clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self {
            clock,
            metrics,
            commit_timeout: Duration::from_secs(30),
            snapshot_every: 256,
        }
    }
}

/// Why the catalogue could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Corrupt(#[from] CorruptEntry),
    #[error(
        "C1: the catalogue has a gap: {key} is missing, but later entries exist; restore it or rebuild the catalogue"
    )]
    Gap { key: Path },
}

impl CatalogueError {
    /// Whether a later try may succeed: what a role answers with 503.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_unavailable())
    }
}

/// Why a commit did not succeed, or is not known to have.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It did not happen and will not: look at [`Catalogue::state`] and think again.
    #[error("the catalogue has moved on: {0}")]
    Conflict(#[from] Unmet),
    /// It may have happened or may yet happen. Commit the same operations again: if they happened,
    /// that gives [`CommitError::Conflict`], and the state shows the blocks as live.
    #[error(
        "whether the commit after catalogue version {} succeeded is unknown: {}",
        after.0,
        last.as_ref().map_or_else(|| "the time is up".into(), ToString::to_string)
    )]
    Unknown {
        after: CatalogueVersion,
        last: Option<StoreError>,
    },
    /// It did not happen: the store could not be reached or refused.
    #[error(transparent)]
    Store(StoreError),
    /// It did not happen: time was up before anything was written.
    #[error("the commit was given up after {0:?}; nothing was written")]
    Deadline(Duration),
    /// The operations break a rule of the catalogue; trying again does not help.
    #[error("the commit would break the catalogue: {0}")]
    Refused(#[from] Violation),
    /// The operations do not fit one entry.
    #[error("the commit does not fit a catalogue entry: {0}")]
    TooLarge(EntryError),
    /// The catalogue itself cannot be read.
    #[error(transparent)]
    Catalogue(CatalogueError),
}

/// The monotonic clock with the time added that the machine was suspended, as far as the clock on
/// the wall tells of it.
struct Awake {
    monotonic: Duration,
    wall: Timestamp,
}

impl Awake {
    fn since(catalogue: &Catalogue) -> Self {
        Self {
            monotonic: catalogue.monotonic(),
            wall: catalogue.0.options.clock.now(),
        }
    }

    fn now(&self, catalogue: &Catalogue) -> Duration {
        let monotonic = catalogue.monotonic();
        let wall = catalogue
            .0
            .options
            .clock
            .now()
            .0
            .saturating_sub(self.wall.0);
        let by_wall = self.monotonic + Duration::from_nanos(u64::try_from(wall).unwrap_or(0));
        monotonic.max(by_wall)
    }
}

#[derive(Debug)]
struct View {
    state: Arc<CatalogueState>,
    /// When it was last seen to be the newest, on both clocks: the monotonic one stands still
    /// while a machine is suspended.
    current_at: Duration,
    current_wall: Timestamp,
}

/// The catalogue in one object store. Clones share the handle.
#[derive(Debug, Clone)]
pub struct Catalogue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    options: CatalogueOptions,
    view: RwLock<View>,
    committing: tokio::sync::Mutex<()>,
    /// How many readings of [`Catalogue::refresh`] have begun.
    readings: AtomicU64,
    /// Number of the last such reading that succeeded.
    refreshing: tokio::sync::Mutex<u64>,
}

impl Catalogue {
    /// Reads the newest snapshot and the log after it.
    ///
    /// # Errors
    /// The object that cannot be read, is damaged or is missing.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        options: CatalogueOptions,
    ) -> Result<Self, CatalogueError> {
        let view = View {
            state: Arc::new(CatalogueState::default()),
            current_at: options.clock.monotonic(),
            current_wall: options.clock.now(),
        };
        let catalogue = Self(Arc::new(Inner {
            store,
            options,
            view: RwLock::new(view),
            committing: tokio::sync::Mutex::new(()),
            readings: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::new(0),
        }));
        catalogue.reload().await?;
        Ok(catalogue)
    }

    /// The newest version that this process has seen. Costs nothing.
    pub fn state(&self) -> Arc<CatalogueState> {
        Arc::clone(&self.0.view.read().state)
    }

    /// A version that was seen to be the newest not longer than `age` ago: costs nothing, or one
    /// reading. Whoever deletes what a version needs waits longer than that.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub async fn recent(&self, age: Duration) -> Result<Arc<CatalogueState>, CatalogueError> {
        let seen = self.0.view.read().current_at;
        if self.monotonic().saturating_sub(seen) <= age {
            return Ok(self.state());
        }
        self.refresh().await
    }

    /// Reads what others have committed since. Callers at the same time share one reading.
    ///
    /// # Errors
    /// The entry that cannot be read; the state stays as far as it was read.
    pub async fn refresh(&self) -> Result<Arc<CatalogueState>, CatalogueError> {
        let begun = self.0.readings.load(Ordering::Acquire);
        let mut completed = self.0.refreshing.lock().await;
        if *completed > begun {
            // A reading that began after this call was made has ended since.
            return Ok(self.state());
        }
        let reading = self.0.readings.fetch_add(1, Ordering::AcqRel) + 1;
        if self.is_stale() {
            self.reload().await?;
        } else {
            self.read_on((*self.state()).clone()).await?;
        }
        *completed = reading;
        Ok(self.state())
    }

    /// Commits `txn` if its preconditions hold.
    ///
    /// # Errors
    /// Each case says whether the commit happened. Dropping the future leaves the outcome unknown.
    pub async fn commit(&self, txn: Txn) -> Result<CatalogueVersion, CommitError> {
        let _turn = self.0.committing.lock().await;
        let started = self.monotonic();
        let deadline = started + self.0.options.commit_timeout;
        let result = loop {
            if self.is_stale() {
                self.reload().await.map_err(CommitError::Catalogue)?;
            }
            match self.drive(&txn, deadline).await {
                Some(result) => break result,
                None if self.monotonic() < deadline => {}
                None => break Err(CommitError::Deadline(self.0.options.commit_timeout)),
            }
        };
        let took = self.monotonic().saturating_sub(started);
        let metrics = &self.0.options.metrics;
        metrics.commit_ended(CommitResult::of(&result), took);
        if let Ok(version) = &result
            && version
                .0
                .is_multiple_of(self.0.options.snapshot_every.max(1))
        {
            self.write_snapshot().await;
        }
        result
    }

    /// Runs one committer to its end; `None` when the view is too old to be followed.
    async fn drive(
        &self,
        txn: &Txn,
        deadline: Duration,
    ) -> Option<Result<CatalogueVersion, CommitError>> {
        let request = {
            let view = self.0.view.read();
            CommitRequest {
                txn: txn.clone(),
                nonce: uuid::Uuid::new_v4().as_u128(),
                view: Arc::clone(&view.state),
                view_current_at: view.current_at,
                deadline,
            }
        };
        let mut last = None;
        let awake = Awake::since(self);
        let (mut committer, mut action) = Committer::start(request, awake.now(self));
        let outcome = loop {
            let event = match action {
                Action::Put {
                    version,
                    entry,
                    delay,
                } => {
                    tokio::time::sleep(delay).await;
                    self.put(&keys::log_entry(version), entry, deadline, &mut last)
                        .await
                }
                Action::Get { version, delay } => {
                    tokio::time::sleep(delay).await;
                    self.get_event(&keys::log_entry(version), &mut last).await
                }
                Action::Finish(outcome) => break outcome,
            };
            action = committer.on(event, awake.now(self));
        };
        let current_at = committer.view_current_at().min(self.monotonic());
        self.publish(Arc::clone(committer.view()), current_at);
        let after = committer.view().version();
        Some(match outcome {
            Outcome::Committed(version) => Ok(version),
            Outcome::Conflict(unmet) => Err(unmet.into()),
            Outcome::Unknown => Err(CommitError::Unknown { after, last }),
            Outcome::NotWritten => Err(last.map_or(
                CommitError::Deadline(self.0.options.commit_timeout),
                CommitError::Store,
            )),
            Outcome::StaleView => return None,
            Outcome::Refused(violation) => Err(violation.into()),
            Outcome::TooLarge(error) => Err(CommitError::TooLarge(error)),
            Outcome::Corrupt(corrupt) => Err(CommitError::Catalogue(corrupt.into())),
        })
    }

    async fn put(
        &self,
        key: &Path,
        entry: bytes::Bytes,
        deadline: Duration,
        last: &mut Option<StoreError>,
    ) -> Event {
        let length = entry.len() as u64;
        let metrics = &self.0.options.metrics;
        let options = PutOptions::from(PutMode::Create);
        let put = self.0.store.put_opts(key, entry.into(), options);
        let left = deadline.saturating_sub(self.monotonic());
        let Ok(answer) = tokio::time::timeout(left, put).await else {
            metrics.catalogue_request("write", Err(StoreErrorKind::Unavailable));
            return Event::PutUnclear;
        };
        match answer {
            Ok(_) => {
                metrics.catalogue_request("write", Ok(length));
                Event::PutStored
            }
            Err(source) => {
                let error = StoreError::new("write", key, source);
                metrics.catalogue_request("write", Err(error.kind));
                let event = match error.kind {
                    StoreErrorKind::Exists => Event::PutExists,
                    StoreErrorKind::Denied
                    | StoreErrorKind::Unsupported
                    | StoreErrorKind::Refused => Event::PutRefused,
                    StoreErrorKind::NotFound | StoreErrorKind::Unavailable => Event::PutUnclear,
                };
                *last = Some(error);
                event
            }
        }
    }

    async fn get_event(&self, key: &Path, last: &mut Option<StoreError>) -> Event {
        match self.get(key).await {
            Ok(Some(bytes)) => Event::GetFound(bytes),
            Ok(None) => Event::GetAbsent,
            Err(error) => {
                *last = Some(error);
                Event::GetFailed
            }
        }
    }

    /// The bytes of an object, or `None` if there is none.
    async fn get(&self, key: &Path) -> Result<Option<bytes::Bytes>, StoreError> {
        let metrics = &self.0.options.metrics;
        let read = async { self.0.store.get(key).await?.bytes().await };
        match read.await {
            Ok(bytes) => {
                metrics.catalogue_request("read", Ok(bytes.len() as u64));
                Ok(Some(bytes))
            }
            Err(source) => {
                let error = StoreError::new("read", key, source);
                metrics.catalogue_request("read", Err(error.kind));
                match error.kind {
                    StoreErrorKind::NotFound => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    /// Folds in entries from the one after `state` until there is none.
    async fn read_on(&self, mut state: CatalogueState) -> Result<(), CatalogueError> {
        loop {
            let asked_at = self.monotonic();
            let key = keys::log_entry(CatalogueVersion(state.version().0 + 1));
            match self.get(&key).await {
                Ok(Some(bytes)) => {
                    if let Err(corrupt) = fold(&mut state, &bytes) {
                        self.publish_older(state);
                        return Err(corrupt.into());
                    }
                }
                Ok(None) => {
                    self.publish(Arc::new(state), asked_at);
                    return Ok(());
                }
                Err(error) => {
                    self.publish_older(state);
                    return Err(error.into());
                }
            }
        }
    }

    /// Reads by listing, which a view of any age may be brought up to date with: even when entries
    /// after it were cleared away, a snapshot of a later version is there.
    async fn reload(&self) -> Result<(), CatalogueError> {
        let mut state = (*self.state()).clone();
        if let Some(newer) = self.newest_snapshot(state.version()).await? {
            state = newer;
        }
        let listed = self
            .list(keys::LOG, keys::log_entry(state.version()))
            .await?;
        let newest = listed.last().map_or(0, |version| version.0);
        let mut entries = futures::stream::iter(state.version().0 + 1..=newest)
            .map(|version| async move {
                let key = keys::log_entry(CatalogueVersion(version));
                match self.get(&key).await? {
                    Some(bytes) => Ok(bytes),
                    None => Err(CatalogueError::Gap { key }),
                }
            })
            .buffered(READ_AHEAD);
        while let Some(bytes) = entries.try_next().await? {
            fold(&mut state, &bytes)?;
        }
        drop(entries);
        self.read_on(state).await
    }

    /// The newest readable snapshot after `than`. A damaged one is passed over: the log has all of
    /// it.
    async fn newest_snapshot(
        &self,
        than: CatalogueVersion,
    ) -> Result<Option<CatalogueState>, CatalogueError> {
        let listed = self.list(keys::SNAPSHOT, keys::snapshot(than)).await?;
        for version in listed.into_iter().rev() {
            let key = keys::snapshot(version);
            let Some(bytes) = self.get(&key).await? else {
                continue;
            };
            let decoded = tokio::task::spawn_blocking(move || snapshot::decode(version, &bytes));
            match decoded.await {
                Ok(Ok(state)) => return Ok(Some(state)),
                Ok(Err(error)) => {
                    self.0.options.metrics.snapshot(SnapshotResult::Damaged);
                    tracing::warn!(%key, %error, "passed over a damaged catalogue snapshot");
                }
                Err(error) => {
                    tracing::warn!(%key, %error, "passed over a catalogue snapshot");
                }
            }
        }
        Ok(None)
    }

    /// The versions of the objects in a folder after `offset`, in order.
    async fn list(&self, folder: &str, offset: Path) -> Result<Vec<CatalogueVersion>, StoreError> {
        let folder = Path::from(folder);
        let metrics = &self.0.options.metrics;
        let listed = self.0.store.list_with_offset(Some(&folder), &offset);
        let found: Result<Vec<_>, _> = listed
            .map_ok(|object| keys::version_of(&object.location))
            .try_collect()
            .await;
        match found {
            Ok(versions) => {
                metrics.catalogue_request("list", Ok(0));
                let mut versions: Vec<_> = versions.into_iter().flatten().collect();
                versions.sort_unstable();
                Ok(versions)
            }
            Err(source) => {
                let error = StoreError::new("list", &folder, source);
                metrics.catalogue_request("list", Err(error.kind));
                Err(error)
            }
        }
    }

    /// Writes a snapshot of the state. It is an optimisation, so a failure is only counted.
    async fn write_snapshot(&self) {
        let state = self.state();
        let key = keys::snapshot(state.version());
        let encoded = tokio::task::spawn_blocking(move || snapshot::encode(&state)).await;
        let bytes = match encoded {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                self.0.options.metrics.snapshot(SnapshotResult::Failed);
                tracing::warn!(%key, %error, "cannot encode a catalogue snapshot");
                return;
            }
            Err(error) => {
                self.0.options.metrics.snapshot(SnapshotResult::Failed);
                tracing::warn!(%key, %error, "cannot encode a catalogue snapshot");
                return;
            }
        };
        let put = self
            .0
            .store
            .put_opts(&key, bytes.into(), PutMode::Create.into());
        match put.await.map_err(|error| StoreErrorKind::of(&error)) {
            Ok(_) | Err(StoreErrorKind::Exists) => {
                self.0.options.metrics.snapshot(SnapshotResult::Written);
            }
            Err(kind) => {
                self.0.options.metrics.snapshot(SnapshotResult::Failed);
                tracing::warn!(%key, %kind, "cannot write a catalogue snapshot");
            }
        }
    }

    /// Deletes what nobody needs any more to open the catalogue: entries that two readable snapshots
    /// cover and that are older than `keep`, and the snapshots before those two. Age is the distance
    /// to the newest entry by the store's clock, so that no clock of ours matters. How many objects
    /// went.
    ///
    /// Who slept on an old version is safe: see [`super::committer::BELIEVED_FOR`].
    ///
    /// # Errors
    /// The store fails; what was deleted stays deleted, the oldest first.
    pub async fn trim(&self, keep: Duration) -> Result<u64, CatalogueError> {
        let mut snapshots = self
            .list(keys::SNAPSHOT, Path::from(keys::SNAPSHOT))
            .await?;
        // Both have to be readable: a damaged one is passed over by whoever opens the catalogue.
        let mut floor = CatalogueVersion(0);
        for readable in 0.. {
            let Some(version) = snapshots.pop() else {
                return Ok(0);
            };
            if !self.is_readable(version).await? {
                tracing::warn!(
                    version = version.0,
                    "a damaged snapshot keeps the log from being cleared"
                );
                return Ok(0);
            }
            floor = version;
            if readable + 1 == SNAPSHOTS_KEPT {
                break;
            }
        }
        let entries = self.aged(keys::LOG).await?;
        let mut old = entries
            .iter()
            .filter(|(version, age)| *version <= floor && *age >= keep);
        let Some((first, _)) = old.next() else {
            return Ok(0);
        };
        let mut gone = 0;
        // One after the other: what is left of a log that was cut off has no gap.
        for version in std::iter::once(*first).chain(old.map(|(version, _)| *version)) {
            self.delete(&keys::log_entry(version)).await?;
            gone += 1;
        }
        for version in snapshots {
            self.delete(&keys::snapshot(version)).await?;
            gone += 1;
        }
        Ok(gone)
    }

    async fn is_readable(&self, version: CatalogueVersion) -> Result<bool, CatalogueError> {
        let Some(bytes) = self.get(&keys::snapshot(version)).await? else {
            return Ok(false);
        };
        let decoded =
            tokio::task::spawn_blocking(move || snapshot::decode(version, &bytes).is_ok());
        Ok(decoded.await.unwrap_or(false))
    }

    /// The versions of a folder in order, each with how much older than the newest it is.
    async fn aged(&self, folder: &str) -> Result<Vec<(CatalogueVersion, Duration)>, StoreError> {
        let folder = Path::from(folder);
        let metrics = &self.0.options.metrics;
        let listed = self.0.store.list(Some(&folder));
        let found: Result<Vec<_>, _> = listed
            .map_ok(|object| (keys::version_of(&object.location), object.last_modified))
            .try_collect()
            .await;
        let found = found.map_err(|source| {
            let error = StoreError::new("list", &folder, source);
            metrics.catalogue_request("list", Err(error.kind));
            error
        })?;
        metrics.catalogue_request("list", Ok(0));
        let mut entries: Vec<_> = found
            .into_iter()
            .filter_map(|(version, at)| Some((version?, at)))
            .collect();
        entries.sort_unstable();
        let newest = entries.last().map(|(_, at)| *at);
        let aged = entries.into_iter().map(|(version, at)| {
            let age = newest.and_then(|newest| (newest - at).to_std().ok());
            (version, age.unwrap_or_default())
        });
        Ok(aged.collect())
    }

    async fn delete(&self, key: &Path) -> Result<(), StoreError> {
        let metrics = &self.0.options.metrics;
        match self.0.store.delete(key).await {
            Ok(()) => {
                metrics.catalogue_request("delete", Ok(0));
                Ok(())
            }
            Err(source) => {
                let error = StoreError::new("delete", key, source);
                metrics.catalogue_request("delete", Err(error.kind));
                match error.kind {
                    StoreErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                }
            }
        }
    }

    fn monotonic(&self) -> Duration {
        self.0.options.clock.monotonic()
    }

    /// Whether the view is too old to be followed by reading on from it.
    fn is_stale(&self) -> bool {
        let view = self.0.view.read();
        let wall_ns = self.0.options.clock.now().nanos() - view.current_wall.nanos();
        self.monotonic().saturating_sub(view.current_at) > VIEW_AGE_MAX
            || i128::from(wall_ns) > VIEW_AGE_MAX.as_nanos() as i128
    }

    /// Makes `state` the view, as seen to be the newest at `current_at`.
    fn publish(&self, state: Arc<CatalogueState>, current_at: Duration) {
        let wall = self.0.options.clock.now();
        let mut view = self.0.view.write();
        if state.version() < view.state.version() {
            return;
        }
        if current_at > view.current_at {
            view.current_at = current_at;
            view.current_wall = wall;
        }
        self.0.options.metrics.catalogue_at(&state);
        view.state = state;
    }

    /// Makes `state` the view without saying that nothing follows it.
    fn publish_older(&self, state: CatalogueState) {
        self.publish(Arc::new(state), Duration::ZERO);
    }
}

#[cfg(test)]
mod tests;
