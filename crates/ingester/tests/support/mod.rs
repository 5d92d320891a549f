//! An ingester on a real directory, with a store and a disk that can fail, and a checker that
//! counts how often each profile is stored.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use scoria_ingester::segment::{DirDisk, LogDisk, LogFile, SegmentBytes};
use scoria_ingester::{Components, Ingester, IngesterService, Metrics, RunningIngester, Settings};
use scoria_model::part::{Function, Line, NONE, Part, ProfileRow};
use scoria_model::{
    ByteBudget, Clock, Labels, NodeId, ProfileType, RetryKey, TimeRange, Timestamp,
};
use scoria_proto::ingester::{
    Ingester as _, Pin, PushRequest, SelectRequest, SelectResponse, StreamCommitted,
};
use scoria_query::merge::Partial;
use scoria_query::scan::{Buckets, Exemplars, Scan, StackFilter, Stripped, TimeSeries, What};
use scoria_query::selector::Matchers;
use scoria_query::wire;
use scoria_storage::testing::{FaultPlan, FaultyStore, HeldClock};
use scoria_storage::{BlockStore, BlockStoreOptions, Catalogue, CatalogueOptions, CatalogueState};
use tonic::{Code, Request, Status};

pub(crate) const TENANT: &str = "team-a";
pub(crate) const TIME_NS: i64 = 1_700_000_000_000_000_000;

/// What the disk does wrong.
#[derive(Debug, Default)]
pub(crate) struct DiskFaults {
    /// Writes fail as on a full disk, after so many bytes of the write.
    pub(crate) full: Option<usize>,
    pub(crate) sync_fails: bool,
    pub(crate) create_fails: bool,
    /// As `create_fails`, until the reserve is given back.
    pub(crate) reserved: bool,
    pub(crate) delete_fails: bool,
}

/// A directory that fails as it is told.
#[derive(Debug, Clone)]
pub(crate) struct FaultyDisk {
    inner: Arc<DirDisk>,
    pub(crate) faults: Arc<Mutex<DiskFaults>>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn LogFile>,
    faults: Arc<Mutex<DiskFaults>>,
}

impl LogFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.faults.lock().full {
            Some(room) => {
                self.inner.append(&bytes[..room.min(bytes.len())])?;
                Err(io::ErrorKind::StorageFull.into())
            }
            None => self.inner.append(bytes),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.faults.lock().sync_fails {
            return Err(io::Error::other("input/output error"));
        }
        self.inner.sync()
    }
}

impl LogDisk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentBytes>> {
        self.inner.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let faults = self.faults.lock();
        if faults.create_fails || faults.reserved {
            return Err(io::ErrorKind::StorageFull.into());
        }
        drop(faults);
        Ok(Box::new(FaultyFile {
            inner: self.inner.create(name)?,
            faults: Arc::clone(&self.faults),
        }))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        if self.faults.lock().delete_fails {
            return Err(io::Error::other("input/output error"));
        }
        self.inner.delete(name)
    }

    fn quarantine(&self, name: &str) -> io::Result<String> {
        self.inner.quarantine(name)
    }

    fn keep_reserve(&self, bytes: u64) {
        self.inner.keep_reserve(bytes);
    }

    fn release_reserve(&self) -> bool {
        self.faults.lock().reserved = false;
        self.inner.release_reserve()
    }
}

/// A node that is started, killed and started again.
pub(crate) struct Node {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) clock: Arc<HeldClock>,
    /// Under the catalogue only: blocks always reach the store behind it.
    pub(crate) catalogue_store: FaultyStore,
    pub(crate) block_store: FaultyStore,
    pub(crate) catalogue: Catalogue,
    pub(crate) faults: Arc<Mutex<DiskFaults>>,
    pub(crate) heads: ByteBudget,
    flush: ByteBudget,
    metrics: Metrics,
    registry: Registry,
    pub(crate) settings: Settings,
    running: Option<RunningIngester>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with_reserve(64 << 20, change).await
    }

    /// A node that keeps so many bytes for writing blocks.
    pub(crate) async fn start_with_reserve(
        flush_bytes: u64,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let clock = Arc::new(HeldClock::default());
        clock.advance(Duration::from_nanos(TIME_NS as u64));
        let catalogue_store = FaultyStore::new(Arc::clone(&store), FaultPlan::none());
        let metrics = scoria_storage::Metrics::unregistered();
        let mut options = CatalogueOptions::new(Arc::clone(&clock) as Arc<dyn Clock>, metrics);
        options.commit_timeout = Duration::from_millis(200);
        let catalogue = Catalogue::open(Arc::new(catalogue_store.clone()), options)
            .await
            .unwrap();
        let mut settings = Settings::new(
            NodeId(Arc::from("node-0")),
            directory.path().to_owned(),
            64 << 20,
        );
        settings.tick = Duration::from_millis(5);
        change(&mut settings);
        let mut registry = Registry::default();
        let mut node = Self {
            directory,
            clock,
            catalogue_store,
            block_store: FaultyStore::new(store, FaultPlan::none()),
            catalogue,
            faults: Arc::default(),
            heads: ByteBudget::new("heads", 64 << 20),
            flush: ByteBudget::new("flush", flush_bytes),
            metrics: Metrics::new(&mut registry),
            registry,
            settings,
            running: None,
        };
        node.restart().await;
        node
    }

    /// Kills the process, if one runs, and starts another.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        *self.faults.lock() = DiskFaults::default();
        let disk = FaultyDisk {
            inner: Arc::new(DirDisk::open(&self.log()).unwrap()),
            faults: Arc::clone(&self.faults),
        };
        let started = Ingester::start_on(Arc::new(disk), self.settings.clone(), self.components());
        self.running = Some(started.await.unwrap());
    }

    pub(crate) fn components(&self) -> Components {
        let metrics = scoria_storage::Metrics::unregistered();
        Components {
            catalogue: self.catalogue.clone(),
            blocks: BlockStore::new(
                Arc::new(self.block_store.clone()),
                BlockStoreOptions {
                    metrics,
                    cache_bytes: 0,
                    coalesce_gap: 0,
                },
            ),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            heads: self.heads.clone(),
            flush: self.flush.clone(),
            queries: ByteBudget::new("queries", 64 << 20),
            metrics: self.metrics.clone(),
        }
    }

    /// A counter or gauge without labels, as a scrape shows it.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let value = lines.find_map(|rest| rest.strip_prefix(' ')).unwrap();
        value.parse().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub(crate) fn running(&self) -> &RunningIngester {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn take_running(&mut self) -> RunningIngester {
        self.running.take().unwrap()
    }

    pub(crate) fn service(&self) -> IngesterService {
        self.running().service()
    }

    /// Pushes one part per number; the outcomes as the wire has them.
    pub(crate) async fn push(&self, numbers: &[u64]) -> Result<Vec<i32>, Status> {
        let parts = numbers.iter().map(|&n| part(n)).collect();
        self.push_parts(parts).await
    }

    pub(crate) async fn push_parts(&self, parts: Vec<Bytes>) -> Result<Vec<i32>, Status> {
        let request = PushRequest {
            tenant: TENANT.to_owned(),
            parts,
        };
        let answer = self.service().push(Request::new(request)).await?;
        Ok(answer.into_inner().outcomes)
    }

    /// Pushes and expects that all is new.
    pub(crate) async fn push_new(&self, numbers: &[u64]) {
        assert_eq!(self.push(numbers).await.unwrap(), vec![1; numbers.len()]);
    }

    /// Makes the open generation old enough to be cut, and waits until it is committed.
    pub(crate) async fn cut_and_commit(&self) {
        let before = self.catalogue.state().version();
        self.clock.advance(self.settings.stream.cut_age);
        self.until("a commit", || self.catalogue.state().version() > before)
            .await;
    }

    pub(crate) async fn select(&self, pin: &CatalogueState, tenant: &str) -> SelectResponse {
        let request = SelectRequest {
            tenants: vec![tenant.to_owned()],
            scan: wire::encode_scan(&count_by_service()).into(),
            pin: Some(Pin {
                catalogue_version: pin.version().0,
                committed: pin
                    .streams()
                    .map(|(stream, state)| StreamCommitted {
                        stream: stream.to_string(),
                        seq: state.committed.0,
                    })
                    .collect(),
            }),
            partial_bytes_max: 0,
        };
        let answer = self.service().select(Request::new(request)).await;
        answer.unwrap().into_inner()
    }

    /// How often each number is stored, in blocks and in heads together.
    pub(crate) async fn stored(&self) -> BTreeMap<u64, u64> {
        loop {
            let pin = self.catalogue.state();
            let answer = self.select(&pin, TENANT).await;
            if answer.gone {
                tokio::task::yield_now().await;
                continue;
            }
            let mut stored = counts(&answer);
            for block in pin.blocks() {
                for dataset in &block.datasets {
                    *stored.entry(dataset.service.parse().unwrap()).or_default() +=
                        dataset.n_profiles();
                }
            }
            return stored;
        }
    }

    /// Every number once, and nothing else.
    pub(crate) async fn assert_stored_once(&self, numbers: impl IntoIterator<Item = u64>) {
        let expected: BTreeMap<u64, u64> = numbers.into_iter().map(|n| (n, 1)).collect();
        assert_eq!(self.stored().await, expected);
    }

    /// Waits until `holds`, or fails after much longer than it can take.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{what} never came; status {:?}", self.running().status());
    }

    /// Moves the clock on in steps until `holds`.
    pub(crate) async fn pass_time_until(
        &self,
        what: &str,
        step: Duration,
        holds: impl Fn() -> bool,
    ) {
        for _ in 0..2_000 {
            if holds() {
                return;
            }
            self.clock.advance(step);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("{what} never came; status {:?}", self.running().status());
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = files(&self.log())
            .into_iter()
            .filter(|p| p.extension().is_some_and(|e| e == "log"))
            .collect();
        found.sort();
        found
    }

    pub(crate) fn quarantined(&self) -> usize {
        files(&self.log().join("quarantine")).len()
    }
}

pub(crate) fn is_retryable(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
        && status.metadata().contains_key(scoria_ingester::RETRY_AFTER)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect()
}

fn count_by_service() -> Scan {
    let range = TimeRange {
        start_ms: 0,
        end_ms: 4_000_000_000_000,
    };
    let buckets = Buckets::new(range, 4_000_000_000_000);
    Scan {
        matchers: Matchers::default(),
        range: buckets.data_range(),
        what: What::TimeSeries(TimeSeries {
            buckets,
            group_by: vec![Arc::from("service_name")],
            exemplars: Exemplars::None,
            stripped: Stripped::LeftOut,
            filter: StackFilter::default(),
        }),
    }
}

pub(crate) fn counts(answer: &SelectResponse) -> BTreeMap<u64, u64> {
    let Partial::Series(series) = wire::decode_partial(&answer.partial).unwrap() else {
        panic!("not a series");
    };
    let mut counts = BTreeMap::new();
    for (group, points) in series.groups {
        let n: u64 = points.values().map(|point| point.n).sum();
        let sum: i64 = points.values().map(|point| point.sum).sum();
        assert_eq!(sum as u64, n, "every profile has one sample of value 1");
        counts.insert(group[0].value.parse().unwrap(), n);
    }
    counts
}

/// A profile of the service named `number` with the key `number`: one sample of value 1.
pub(crate) fn part(number: u64) -> Bytes {
    part_at(number, TIME_NS)
}

pub(crate) fn part_at(number: u64, time_ns: i64) -> Bytes {
    let mut part = Part::default();
    let name = part.strings.push(&format!("f{number}"));
    part.functions.push(Function {
        name,
        system_name: name,
        filename: 0,
        start_line: 0,
    });
    let line = Line {
        function: 0,
        line: 1,
    };
    part.push_location((NONE, 0), [line]);
    part.frames.push(0);
    part.stack_ends.push(1);
    let service = number.to_string();
    let series = part.push_series(&Labels::from_pairs([
        ("__name__", "process_cpu"),
        ("service_name", &service),
    ]));
    let kind = part.push_type(&ProfileType::new(
        "process_cpu",
        ("samples", "count"),
        ("cpu", "nanoseconds"),
    ));
    part.sample_stack.push(0);
    part.sample_value.push(1);
    part.profiles.push(ProfileRow {
        series,
        kind,
        time: Timestamp(time_ns),
        duration_ns: 0,
        period: 0,
        samples_end: 1,
    });
    part.end_write(RetryKey(u128::from(number).to_be_bytes()));
    let mut out = Vec::new();
    part.encode(&mut out);
    out.into()
}
