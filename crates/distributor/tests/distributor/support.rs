//! A distributor with everything around it held by the test: ingester, clock, memory, limits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use scoria_cluster::{Member, MemberState, Membership, Zone};
use scoria_distributor::{
    Components, Distributor, IncomingProfile, Origin, Payload, PushError, PushSummary, Settings,
    TenantLimits, TenantPolicy,
};
use scoria_model::part::PartView;
use scoria_model::{ByteBudget, Clock, Limits, NodeId, TenantId, Timestamp};
use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::FunctionRow;
use scoria_proto::ingester::{
    self, Ingester, Outcome, PushRequest, PushResponse, SelectRequest, SelectResponse,
};
use scoria_proto::memory::{self, Local};
use tonic::{Code, Request, Response, Status};

pub(crate) const NOW_S: i64 = 1_795_350_700;
pub(crate) const MEMORY: u64 = 64 << 20;

/// How the ingester answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    Stores,
    Refuses(Code),
    Hangs,
    AnswersForOneLess,
}

/// Stores parts by key, as an ingester does, and keeps each call.
#[derive(Debug)]
pub(crate) struct FakeIngester {
    pub(crate) mood: Mutex<Mood>,
    keys: Mutex<HashSet<[u8; 16]>>,
    calls: Mutex<Vec<PushRequest>>,
}

/// The ingester's service; the test keeps the ingester.
struct Door(Arc<FakeIngester>);

#[tonic::async_trait]
impl Ingester for Door {
    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        let request = request.into_inner();
        let mood = *self.0.mood.lock();
        match mood {
            Mood::Refuses(code) => {
                let mut status = Status::new(code, "it says no");
                status.metadata_mut().insert("retry-after", 3.into());
                return Err(status);
            }
            Mood::Hangs => std::future::pending().await,
            Mood::Stores | Mood::AnswersForOneLess => {}
        }
        let mut outcomes: Vec<i32> = request
            .parts
            .iter()
            .flat_map(|part| {
                let view = PartView::parse(part).expect("a distributor sends whole parts");
                view.keys()
            })
            .map(|key| match self.0.keys.lock().insert(key.0) {
                true => Outcome::Stored.into(),
                false => Outcome::Duplicate.into(),
            })
            .collect();
        if matches!(mood, Mood::AnswersForOneLess) {
            outcomes.pop();
        }
        self.0.calls.lock().push(request);
        Ok(Response::new(PushResponse { outcomes }))
    }

    async fn select(&self, _: Request<SelectRequest>) -> Result<Response<SelectResponse>, Status> {
        Err(Status::unimplemented("nothing is asked here"))
    }
}

impl FakeIngester {
    fn start() -> (Arc<Self>, Local, memory::Door) {
        let ingester = Arc::new(Self {
            mood: Mutex::new(Mood::Stores),
            keys: Mutex::default(),
            calls: Mutex::default(),
        });
        let (local, door) = memory::serve(ingester::server(Door(Arc::clone(&ingester))));
        (ingester, local, door)
    }

    /// How many parts each call so far held.
    pub(crate) fn calls(&self) -> Vec<usize> {
        self.calls.lock().iter().map(|c| c.parts.len()).collect()
    }

    /// Every part so far.
    pub(crate) fn parts(&self) -> Vec<Bytes> {
        let calls = self.calls.lock();
        calls.iter().flat_map(|call| call.parts.clone()).collect()
    }

    /// The flame graph of each profile type: functions from root to leaf, with their sums.
    pub(crate) fn flames(&self) -> BTreeMap<String, BTreeMap<String, i64>> {
        let mut flames: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for part in self.parts() {
            let view = PartView::parse(&part).expect("a distributor sends whole parts");
            for row in 0..view.profile_kind.len() {
                let kind = view.profile_type(view.profile_kind.get(row));
                let flame = flames.entry(kind.to_string()).or_default();
                for sample in view.profile_samples_end.span(row) {
                    let stack = stack_of(&view, view.sample_stack.get(sample) as usize);
                    *flame.entry(stack).or_default() += view.sample_value.get(sample);
                }
            }
        }
        flames
    }

    /// Every stored profile as `{labels} type = sum of its values`, sorted.
    pub(crate) fn stored(&self) -> Vec<String> {
        let mut stored: Vec<String> = self
            .rows()
            .into_iter()
            .map(|row| format!("{} {} = {}", row.labels, row.kind, row.total))
            .collect();
        stored.sort();
        stored
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        let calls = self.calls.lock();
        calls
            .iter()
            .flat_map(|call| call.parts.iter().flat_map(rows))
            .collect()
    }
}

/// One stored profile.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) labels: String,
    pub(crate) kind: String,
    pub(crate) time: Timestamp,
    pub(crate) duration_ns: i64,
    pub(crate) total: i64,
    /// Spans of its samples that have one.
    pub(crate) spans: Vec<u64>,
    /// Distinct functions of its samples.
    pub(crate) functions: Vec<String>,
}

/// The functions of a stack from root to leaf; the address of a frame without any.
fn stack_of(view: &PartView<'_>, stack: usize) -> String {
    let mut names = Vec::new();
    for frame in view.stack_end.span(stack) {
        let location = view.frame.get(frame) as usize;
        let lines = view.location_lines_end.span(location);
        if lines.is_empty() {
            names.push(format!("{:#x}", view.location_address.get(location)));
        }
        for line in lines {
            let function = view.line_function.get(line) as usize;
            names.push(view.string(view.function_name.get(function)).to_owned());
        }
    }
    names.reverse();
    names.join(";")
}

fn rows(part: &Bytes) -> Vec<Row> {
    let view = PartView::parse(part).expect("a distributor sends whole parts");
    (0..view.profile_kind.len())
        .map(|at| {
            let samples = view.profile_samples_end.span(at);
            let functions: HashSet<&str> = samples
                .clone()
                .flat_map(|sample| view.stack_end.span(view.sample_stack.get(sample) as usize))
                .flat_map(|frame| view.location_lines_end.span(view.frame.get(frame) as usize))
                .map(|line| {
                    view.function_name
                        .get(view.line_function.get(line) as usize)
                })
                .map(|name| view.string(name))
                .collect();
            let mut functions: Vec<String> = functions.into_iter().map(str::to_owned).collect();
            functions.sort();
            Row {
                labels: view.series_labels(view.profile_series.get(at)).to_string(),
                kind: view.profile_type(view.profile_kind.get(at)).to_string(),
                time: Timestamp(view.profile_time.get(at)),
                duration_ns: view.profile_duration.get(at),
                spans: samples
                    .clone()
                    .map(|sample| view.span(sample))
                    .filter(|&span| span != 0)
                    .collect(),
                total: samples.map(|sample| view.sample_value.get(sample)).sum(),
                functions,
            }
        })
        .collect()
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(NOW_S * 1_000_000_000 + self.0.load(Ordering::Acquire))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Acquire) as u64)
    }
}

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as i64, Ordering::AcqRel);
    }
}

/// The distributor under test and what stands around it.
pub(crate) struct House {
    pub(crate) distributor: Distributor,
    /// The first of them, mostly the only one.
    pub(crate) ingester: Arc<FakeIngester>,
    pub(crate) ingesters: Vec<Arc<FakeIngester>>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) bodies: ByteBudget,
    registry: Registry,
    /// Open as long as the house stands.
    _doors: Vec<memory::Door>,
}

impl House {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::with_memory(limits, MEMORY)
    }

    pub(crate) fn with_memory(limits: Limits, bytes: u64) -> Self {
        Self::with_ingesters(limits, bytes, Settings::default(), &["ingester-0"])
    }

    pub(crate) fn with_ingesters(
        limits: Limits,
        bytes: u64,
        settings: Settings,
        names: &[&str],
    ) -> Self {
        let mut members = Vec::new();
        let mut connections = HashMap::new();
        let mut doors = Vec::new();
        let mut ingesters = Vec::new();
        for name in names {
            let (ingester, local, door) = FakeIngester::start();
            let node = NodeId(Arc::from(*name));
            members.push(Member {
                node: node.clone(),
                zone: Zone(Arc::from("a")),
                state: MemberState::Active,
            });
            connections.insert(node, local.into());
            doors.push(door);
            ingesters.push(ingester);
        }
        let clock = Arc::new(TestClock(AtomicI64::new(0)));
        let bodies = ByteBudget::new("bodies", bytes);
        let mut registry = Registry::default();
        let components = Components {
            membership: Membership::fixed(members),
            ingesters: connections,
            limits: TenantLimits::new(limits, HashMap::new()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            bodies: bodies.clone(),
            seed: [7; 16],
        };
        Self {
            distributor: Distributor::new(settings, components, &mut registry),
            ingester: Arc::clone(&ingesters[0]),
            ingesters,
            clock,
            bodies,
            registry,
            _doors: doors,
        }
    }

    /// From now on the tenant has this policy.
    pub(crate) fn set_policy(&self, policy: TenantPolicy) {
        let policies = HashMap::from([(tenant(), policy)]);
        self.distributor.limits().replace(policies);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) async fn push(
        &self,
        profiles: Vec<IncomingProfile>,
    ) -> Result<PushSummary, PushError> {
        self.distributor.push(&tenant(), profiles).await
    }

    /// The value of a metric line, 0 if it does not stand there.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("metrics can be written");
        text.lines()
            .find_map(|l| l.strip_prefix(line)?.trim().parse::<f64>().ok())
            .unwrap_or_default() as u64
    }

    /// Profiles discarded for a reason.
    pub(crate) fn discarded(&self, reason: &str) -> u64 {
        self.metric(&format!(
            "pyroscope_discarded_samples_total{{reason=\"{reason}\",tenant=\"anonymous\"}}"
        ))
    }

    /// Samples, labels or symbols left out for a reason.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.metric(&format!(
            "scoria_dropped_samples_total{{reason=\"{reason}\",tenant=\"anonymous\"}}"
        ))
    }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::anonymous()
}

/// A CPU profile that lasted until now: stacks root first with their counts.
pub(crate) fn cpu_profile(stacks: &[(&[&str], i64)]) -> Vec<u8> {
    profile(("cpu", "nanoseconds"), stacks)
}

pub(crate) fn profile(kind: (&str, &str), stacks: &[(&[&str], i64)]) -> Vec<u8> {
    let mut encoder = ProfileEncoder::new();
    encoder.sample_type(kind.0, kind.1);
    encoder.period("cpu", "nanoseconds", 10_000_000);
    encoder.time((NOW_S - 10) * 1_000_000_000, 10_000_000_000);
    for (stack, value) in stacks {
        let locations: Vec<u64> = stack
            .iter()
            .rev()
            .map(|name| {
                let function = encoder.function(&FunctionRow {
                    name,
                    system_name: name,
                    filename: "main.c",
                    start_line: 0,
                });
                encoder.location(0, 0, &[(function, 1)])
            })
            .collect();
        encoder.sample(locations, &[*value], &[]);
    }
    encoder.finish()
}

pub(crate) fn incoming(labels: &[(&str, &str)], raw: Vec<u8>) -> IncomingProfile {
    IncomingProfile {
        series: 0,
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        payload: Payload::Pprof(Bytes::from(raw)),
        id: String::new(),
        origin: Origin::Push,
    }
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
