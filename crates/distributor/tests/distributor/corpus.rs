//! Real profiles, where they are at hand: under which types each file is stored, by either way in.
//!
//! `SCORIA_CORPUS` names the folder; without it the one beside the repository is taken, and without
//! that there is nothing to do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use scoria_distributor::ingest::form::SampleTypeConfig;
use scoria_distributor::{IncomingProfile, IngestOrigin, Origin, Outcome, Payload};
use scoria_model::{DiscardReason, Limits, Timestamp};

use crate::support::{House, NOW_S};

/// One file: who sent it, the `__name__` that it gets at `/ingest`, and what stands behind the name
/// in its types.
pub(crate) struct File {
    pub(crate) path: &'static str,
    pub(crate) spy: &'static str,
    /// File name of the sample type config that came with it.
    pub(crate) config: Option<&'static str>,
    pub(crate) name: &'static str,
    pub(crate) types: &'static [&'static str],
}

const GO_CPU: &[&str] = &[
    "samples:count:cpu:nanoseconds",
    "cpu:nanoseconds:cpu:nanoseconds",
];
const GO_HEAP: &[&str] = &[
    "alloc_objects:count:space:bytes",
    "alloc_space:bytes:space:bytes",
    "inuse_objects:count:space:bytes",
    "inuse_space:bytes:space:bytes",
];
const GO_CONTENTION: &[&str] = &[
    "contentions:count:contentions:count",
    "delay:nanoseconds:contentions:count",
];
const CPU_NS: &[&str] = &["cpu:nanoseconds:cpu:nanoseconds"];
const SCRIPT: &[&str] = &["samples:count::milliseconds"];
const DOTNET: &[&str] = &[
    "cpu:nanoseconds::nanoseconds",
    "exception:count::nanoseconds",
    "alloc_samples:count::nanoseconds",
    "alloc_size:bytes::nanoseconds",
    "lock_count:count::nanoseconds",
    "lock_time:nanoseconds::nanoseconds",
];

const CPU: &str = "process_cpu";
pub(crate) const FORMS: &str = "pyroscope/pkg/og/convert/pprof/testdata";

#[rustfmt::skip]
pub(crate) const FILES: [File; 27] = [
    file("pyroscope/pkg/pprof/testdata/heap", "gospy", "memory", GO_HEAP),
    file("pyroscope/pkg/pprof/testdata/heap_delta", "gospy", "memory", GO_HEAP),
    file("pyroscope/pkg/pprof/testdata/profile_java", "javaspy", CPU, CPU_NS),
    file("pyroscope/pkg/pprof/testdata/profile_nodejs", "nodespy", "wall", &["wall:microseconds:wall:microseconds"]),
    file("pyroscope/pkg/pprof/testdata/profile_python", "pyspy", CPU, SCRIPT),
    file("pyroscope/pkg/pprof/testdata/profile_rust", "pyroscope-rs", CPU, CPU_NS),
    file("pyroscope/pkg/pprof/testdata/go.cpu.labels.pprof", "gospy", CPU, GO_CPU),
    file("pyroscope/pkg/pprof/testdata/single_group_with_optional_span_id.pb.gz", "gospy", CPU, GO_CPU),
    file("pyroscope/pkg/pprof/testdata/malformed/no_addr_no_line.pb.gz", "unknown", CPU, CPU_NS),
    file("pyroscope/pkg/pprof/testdata/gotruncatefix/cpu_go_truncated_1.pb.gz", "gospy", CPU, GO_CPU),
    file("pyroscope/pkg/pprof/testdata/gotruncatefix/heap_go_truncated_1.pb.gz", "gospy", "memory", &["inuse_space:bytes:space:bytes"]),
    file("pyroscope/pkg/og/convert/testdata/cpu.pprof", "gospy", CPU, GO_CPU),
    file("pyroscope/pkg/og/convert/pprof/testdata/cpu-js.pb.gz", "nodespy", "wall", &["sample:count:wall:microseconds", "wall:microseconds:wall:microseconds"]),
    file("pyroscope/pkg/og/convert/pprof/testdata/nodejs-heap.pb.gz", "nodespy", "memory", &["inuse_objects:count:inuse_space:bytes", "inuse_space:bytes:inuse_space:bytes"]),
    with_config("pyroscope/pkg/og/convert/pprof/testdata/dotnet-pprof-211.pb.gz", "dotnetspy", "dotnet-pprof-211.st.json", CPU, DOTNET),
    file("pyroscope/pkg/og/convert/pprof/testdata/heap.pb", "gospy", "memory", GO_HEAP),
    file("pyroscope/pkg/og/convert/pprof/testdata/heap.pb.gz", "gospy", "memory", GO_HEAP),
    file("pyroscope/pkg/og/convert/pprof/testdata/pyspy-1.pb.gz", "scripting", CPU, SCRIPT),
    with_config("pyroscope/pkg/og/convert/pprof/testdata/req_2.pprof", "gospy", "req_2.st.json", "goroutines", &["goroutine:count:goroutine:count"]),
    with_config("pyroscope/pkg/og/convert/pprof/testdata/req_3.pprof", "gospy", "req_3.st.json", "block", GO_CONTENTION),
    file("pyroscope/pkg/og/convert/pprof/testdata/req_3.pprof", "gospy", "mutex", GO_CONTENTION),
    file("pyroscope/pkg/og/convert/pprof/testdata/cpu-exemplars.pb.gz", "gospy", CPU, GO_CPU),
    file("pyroscope/pkg/og/convert/pprof/testdata/cpu.pb.gz", "gospy", CPU, GO_CPU),
    file("parca/fib.pb.gz", "gospy", CPU, GO_CPU),
    file("parca/fgprof.pb.gz", "gospy", CPU, &["samples:count:wallclock:nanoseconds", "time:nanoseconds:wallclock:nanoseconds"]),
    file("parca/labels.pb.gz", "gospy", CPU, GO_CPU),
    file("parca/profile1.pb.gz", "gospy", CPU, GO_CPU),
];

const fn file(
    path: &'static str,
    spy: &'static str,
    name: &'static str,
    types: &'static [&'static str],
) -> File {
    File {
        path,
        spy,
        config: None,
        name,
        types,
    }
}

const fn with_config(
    path: &'static str,
    spy: &'static str,
    config: &'static str,
    name: &'static str,
    types: &'static [&'static str],
) -> File {
    File {
        config: Some(config),
        ..file(path, spy, name, types)
    }
}

pub(crate) fn corpus() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let path = std::env::var_os("SCORIA_CORPUS").map_or_else(beside, PathBuf::from);
    path.is_dir().then_some(path)
}

/// The files are years old, and some of them large.
pub(crate) fn limits() -> Limits {
    Limits {
        reject_older_than_ms: 0,
        reject_newer_than_ms: 0,
        max_profile_size_bytes: 16 << 20,
        max_profile_stacktrace_samples: 0,
        ..Limits::default()
    }
}

fn from_ingest(raw: Vec<u8>, spy: &str, config: Option<&[u8]>) -> IncomingProfile {
    IncomingProfile {
        series: 0,
        labels: vec![("service_name".to_owned(), "app".to_owned())],
        payload: Payload::Pprof(Bytes::from(raw)),
        id: String::new(),
        origin: Origin::Ingest(IngestOrigin {
            spy_name: spy.to_owned(),
            from: Timestamp(NOW_S * 1_000_000_000),
            times_given: String::new(),
            sample_types: config
                .map(|json| SampleTypeConfig::parse(json).expect("a config parses")),
        }),
    }
}

pub(crate) fn from_push(raw: Vec<u8>) -> IncomingProfile {
    let mut profile = from_ingest(raw, "", None);
    let name = ("__name__".to_owned(), "named_by_client".to_owned());
    profile.labels.push(name);
    profile.origin = Origin::Push;
    profile
}

pub(crate) fn kinds(house: &House) -> BTreeSet<String> {
    house.ingester.rows().into_iter().map(|r| r.kind).collect()
}

pub(crate) fn expected(name: &str, types: &[&str]) -> BTreeSet<String> {
    types.iter().map(|kind| format!("{name}:{kind}")).collect()
}

#[tokio::test]
async fn every_sender_is_stored_under_its_types() {
    let Some(root) = corpus() else { return };
    for file in FILES {
        let path = root.join(file.path);
        let Ok(raw) = std::fs::read(&path) else {
            panic!("{} is not in the corpus", file.path);
        };
        let config = file
            .config
            .map(|name| std::fs::read(root.join(FORMS).join(name)).unwrap());
        let house = House::new(limits());
        let profile = from_ingest(raw.clone(), file.spy, config.as_deref());
        house.push(vec![profile]).await.unwrap();
        assert_eq!(
            kinds(&house),
            expected(file.name, file.types),
            "{}",
            file.path
        );
        let ingested: i64 = house.ingester.rows().iter().map(|row| row.total).sum();

        let house = House::new(limits());
        house.push(vec![from_push(raw)]).await.unwrap();
        let by_push = expected("named_by_client", file.types);
        assert_eq!(kinds(&house), by_push, "{}", file.path);
        let pushed: i64 = house.ingester.rows().iter().map(|row| row.total).sum();
        assert_eq!(ingested, pushed, "{}", file.path);
    }
}

#[tokio::test]
async fn what_only_one_way_in_repairs() {
    let Some(root) = corpus() else { return };
    let read = |name: &str| std::fs::read(root.join(FORMS).join(name)).unwrap();
    let malformed = scoria_distributor::RefusalKind::Invalid {
        reason: DiscardReason::MalformedProfile,
    };

    // All function ids are 0, and sample types have dashes.
    let (raw, config) = (read("dotnet-pprof-3.pb.gz"), read("dotnet-pprof-3.st.json"));
    let house = House::new(limits());
    let profile = from_ingest(raw.clone(), "dotnetspy", Some(&config));
    house.push(vec![profile]).await.unwrap();
    assert_eq!(kinds(&house), expected(CPU, DOTNET));
    let error = house.push(vec![from_push(raw)]).await.unwrap_err();
    assert_eq!(error.kind, malformed, "{error}");

    let raw = read("invalid_utf8.pb.gz");
    for profile in [from_ingest(raw.clone(), "gospy", None), from_push(raw)] {
        let error = house.push(vec![profile]).await.unwrap_err();
        assert_eq!(error.kind, malformed, "{error}");
    }

    // Its time is in microseconds.
    let house = House::new(Limits {
        reject_older_than_ms: 3_600_000,
        ..limits()
    });
    let raw = read("pyspy-1.pb.gz");
    let profile = from_ingest(raw.clone(), "scripting", None);
    house.push(vec![profile]).await.unwrap();
    let error = house.push(vec![from_push(raw)]).await.unwrap_err();
    let reason = DiscardReason::NotInIngestionWindow;
    assert_eq!(error.kind.reason(), reason, "{error}");
}

#[tokio::test]
async fn a_fleet_in_batches() {
    let Some(root) = corpus() else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("go"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for files in files.chunks(64) {
        let house = House::new(Limits {
            deduplicate_by_content: false,
            ingestion_rate_bytes: 0,
            ..limits()
        });
        let profiles = files
            .iter()
            .map(|path| from_ingest(std::fs::read(path).unwrap(), "gospy", None))
            .collect();
        let summary = house.push(profiles).await.unwrap();
        let stored = summary.outcomes.iter().filter(|&&o| o == Outcome::Stored);
        // Mutex and block profiles of a calm process have no samples.
        let empty = summary.outcomes.iter().filter(|&&o| o == Outcome::Empty);
        let calm = files.iter().zip(&summary.outcomes).all(|(path, outcome)| {
            let name = path.to_string_lossy();
            *outcome == Outcome::Stored || name.contains(".mutex.") || name.contains(".block.")
        });
        assert!(calm && stored.count() + empty.count() == files.len());
        let mut may_be = expected(CPU, GO_CPU);
        may_be.extend(expected("memory", GO_HEAP));
        may_be.extend(expected("mutex", GO_CONTENTION));
        may_be.extend(expected("goroutines", &["goroutine:count:goroutine:count"]));
        assert!(kinds(&house).is_subset(&may_be), "{:?}", kinds(&house));
    }
}

/// Tests of other files, by their sources.
const ROUTES: &str = include_str!("corpus_routes.rs");
const HERE: &str = include_str!("corpus.rs");
const PPROF: &str = include_str!("../../../pprof/tests/suite/corpus.rs");
const JFR: &str = include_str!("../../../pprof/tests/suite/jfr_corpus.rs");
const OTLP: &str = include_str!("../../../pprof/src/otlp/tests/corpus.rs");

const SPEEDSCOPES: &str = "pyroscope/pkg/og/convert/speedscope/testdata/";
const RECORDINGS: &str = "pyroscope/pkg/og/convert/jfr/testdata/";
const EXPORTS: &str = "pyroscope/pkg/ingester/otlp/testdata/";

/// What is not in [`FILES`]: how a file's path begins and ends, and the test that looks at it.
#[rustfmt::skip]
const ELSEWHERE: [(&str, &str, &str, &str); 15] = [
    ("go/", ".pb.gz", HERE, "a_fleet_in_batches"),
    (FORMS, "/dotnet-pprof-3.pb.gz", HERE, "what_only_one_way_in_repairs"),
    (FORMS, "/dotnet-pprof-3.st.json", HERE, "what_only_one_way_in_repairs"),
    (FORMS, "/invalid_utf8.pb.gz", HERE, "what_only_one_way_in_repairs"),
    (SPEEDSCOPES, "/simple.speedscope.json", ROUTES, "speedscope_files"),
    (SPEEDSCOPES, "/duplicates.speedscope.json", ROUTES, "speedscope_files"),
    ("pyroscope/pkg/pprof/testdata/gotruncatefix/", "_1.pb.gz.fixed", PPROF, "cut_stacktraces_are_repaired_at_least_as_well_as_expected"),
    // All recordings, and by each what is expected of it, are read there.
    (RECORDINGS, ".jfr.gz", JFR, "the_profiles_are_those_that_pyroscope_makes"),
    (RECORDINGS, ".pb.gz", JFR, "the_profiles_are_those_that_pyroscope_makes"),
    (RECORDINGS, ".json.gz", JFR, "the_flame_graphs_are_those_of_the_older_form"),
    (RECORDINGS, "dump1.labels.pb.gz", JFR, "contexts_are_labels"),
    (EXPORTS, "/TestConversionOffCpu.json", OTLP, "off_cpu_values_are_summed"),
    (EXPORTS, "/TestSampleAttributes.json", OTLP, "attributes_of_samples_are_their_labels"),
    (EXPORTS, "/TestSymbolizedFunctionNames.json", OTLP, "frames_without_lines_keep_their_address"),
    (EXPORTS, "_profile.json", OTLP, "a_profile_of_several_services_comes_apart"),
];

/// Every file below `folder`, by its path from `root`.
fn paths_under(root: &Path, folder: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder that can be read") {
        let path = entry.expect("a folder that can be read").path();
        if path.is_dir() {
            paths_under(root, &path, out);
        } else {
            let path = path.strip_prefix(root).expect("it lies there");
            out.push(path.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn every_file_of_the_corpus_is_looked_at_by_a_test() {
    let Some(root) = corpus() else { return };
    let mut paths = Vec::new();
    paths_under(&root, &root, &mut paths);
    paths.retain(|path| path != "README.md");
    let in_files = |path: &str| {
        FILES.iter().any(|file| {
            let config = file.config.map(|name| format!("{FORMS}/{name}"));
            file.path == path || config.as_deref() == Some(path)
        })
    };
    let is_of = |path: &str, (begin, end, ..): &(&str, &str, &str, &str)| {
        path.starts_with(begin) && path.ends_with(end)
    };
    let covered = |path: &str| in_files(path) || ELSEWHERE.iter().any(|row| is_of(path, row));
    let left: Vec<&String> = paths.iter().filter(|path| !covered(path)).collect();
    assert!(left.is_empty(), "no test looks at {left:#?}");
    for row in &ELSEWHERE {
        let (begin, end, source, test) = row;
        assert!(
            paths.iter().any(|path| is_of(path, row)),
            "{begin}…{end} is not in the corpus"
        );
        assert!(source.contains(&format!("fn {test}(")), "{test} is gone");
    }
}
