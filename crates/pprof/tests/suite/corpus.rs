//! Real profiles: our own recordings beside the tests, and the corpus if it is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use scoria_model::DiscardReason;
use scoria_pprof::{Decompressor, Ingest, Normalised, Origin, RawProfile, Rejection};

use crate::support::{LABELS, NOW, any_time, corpus, folded, ingest, normalise, push, totals};

const CAP: u64 = 64 << 20;

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).expect("a folder that can be read");
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn plain(path: &Path) -> Vec<u8> {
    let body = std::fs::read(path).expect("a file that can be read");
    let mut decompressor = Decompressor::new();
    let plain = decompressor.decompress(&body, CAP).map(<[u8]>::to_vec);
    plain.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The sums of the columns as they stand in the file, less samples that hold a negative value.
fn raw_totals(bytes: &[u8]) -> BTreeMap<String, i128> {
    let raw = RawProfile::decode(bytes).expect("a profile");
    let columns = &raw.columns;
    let text = |at| String::from_utf8_lossy(raw.text(at)).into_owned();
    let mut out = BTreeMap::new();
    for (at, kind) in columns.sample_types.iter().enumerate() {
        let values: Vec<i64> = columns.values.iter().collect();
        let sum = values
            .chunks(columns.sample_types.len())
            .filter(|row| row.iter().all(|value| *value >= 0))
            .map(|row| i128::from(row[at]))
            .sum();
        let period = columns.period_type;
        let id = format!(
            "process_cpu:{}:{}:{}:{}",
            text(kind.kind),
            text(kind.unit),
            text(period.kind),
            text(period.unit)
        );
        out.insert(id, sum);
    }
    out
}

fn unlimited() -> scoria_model::Limits {
    scoria_model::Limits {
        max_profile_stacktrace_samples: 0,
        ..any_time()
    }
}

fn check_totals(path: &Path) {
    let bytes = plain(path);
    let normalised = normalise(&push(&bytes, LABELS), &unlimited());
    let normalised = normalised.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kept = totals(&normalised);
    for (kind, sum) in raw_totals(&bytes) {
        let found = kept.get(&kind).copied().unwrap_or_default();
        assert_eq!(found, sum, "{} {kind}", path.display());
    }
}

#[test]
fn totals_of_go_profiles_are_those_of_the_files() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files = files_under(&fixtures);
    assert!(files.len() > 1);
    if let Some(corpus) = corpus() {
        files.extend(files_under(&corpus.join("go")));
    }
    files.retain(|path| name_of(path).ends_with(".pb.gz"));
    for path in files {
        check_totals(&path);
    }
}

#[test]
fn a_recorded_program_shows_its_functions_labels_and_inlining() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let bytes = plain(&fixtures.join("go-cpu-labels.pb.gz"));
    let profiles = folded(&normalise(&push(&bytes, LABELS), &any_time()).unwrap());
    for (colour, function) in [("red", "main.spin"), ("green", "main.churn")] {
        let label = format!("colour={colour:?}");
        let lines: Vec<_> = profiles
            .iter()
            .filter(|(key, _)| key.contains(&label) && key.ends_with("cpu:nanoseconds"))
            .flat_map(|(_, lines)| lines)
            .collect();
        assert!(!lines.is_empty(), "{label}");
        assert!(
            lines.iter().any(|line| line.contains(function)),
            "{label} {lines:?}"
        );
    }
}

/// How a file of the corpus came: pushed, or through the legacy endpoint by a profiler.
fn both_ways(path: &Path) -> [Result<Normalised, Rejection>; 2] {
    let bytes = plain(path);
    let spy = if name_of(path).starts_with("dotnet") {
        "dotnetspy"
    } else {
        "unknown"
    };
    let legacy = Ingest {
        spy,
        from: NOW,
        display_names: None,
    };
    let pushed = normalise(&push(&bytes, LABELS), &unlimited());
    [pushed, normalise(&ingest(&bytes, legacy), &unlimited())]
}

#[test]
fn every_profile_of_the_corpus_is_taken_or_refused_for_the_known_reason() {
    let Some(corpus) = corpus() else {
        eprintln!("SKIPPED: no corpus on this machine");
        return;
    };
    let mut files = files_under(&corpus.join("pyroscope"));
    files.extend(files_under(&corpus.join("parca")));
    files.retain(|path| {
        let name = name_of(path);
        let others = [".json", ".jfr.gz", ".json.gz", ".labels.pb.gz"];
        !others.iter().any(|end| name.ends_with(end))
    });
    assert!(files.len() > 20, "{}", files.len());
    for path in files {
        let [pushed, legacy] = both_ways(&path);
        let name = name_of(&path);
        let id_zero = name.contains("dotnet-pprof-3.") || name.contains("dotnet-pprof-73");
        let malformed = |result: &Result<Normalised, Rejection>| matches!(result, Err(e) if e.reason == DiscardReason::MalformedProfile);
        if name.contains("invalid_utf8") {
            assert!(malformed(&pushed) && malformed(&legacy), "{name}");
            continue;
        }
        assert_eq!(malformed(&pushed), id_zero, "{name} {:?}", pushed.err());
        let legacy = legacy.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!legacy.part.profiles.is_empty(), "{name}");
        folded(&legacy);
    }
}

/// Sample types and their display names.
type Config<'a> = Option<&'a [(&'a str, &'a str)]>;

#[test]
fn legacy_names_of_the_corpus() {
    let Some(corpus) = corpus() else {
        eprintln!("SKIPPED: no corpus on this machine");
        return;
    };
    let block = [("contentions", "block_count"), ("delay", "block_duration")];
    let cases: [(&str, &str, Config<'_>, &str); 9] = [
        (
            "og/convert/testdata/cpu.pprof",
            "gospy",
            None,
            "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        ),
        (
            "og/convert/pprof/testdata/heap.pb.gz",
            "gospy",
            None,
            "memory:inuse_space:bytes:space:bytes",
        ),
        (
            "og/convert/pprof/testdata/heap.pb",
            "gospy",
            None,
            "memory:inuse_space:bytes:space:bytes",
        ),
        (
            "og/convert/pprof/testdata/req_2.pprof",
            "gospy",
            Some(&[("goroutine", "goroutines")]),
            "goroutines:goroutine:count:goroutine:count",
        ),
        (
            "og/convert/pprof/testdata/req_3.pprof",
            "gospy",
            Some(&block),
            "block:delay:nanoseconds:contentions:count",
        ),
        (
            "og/convert/pprof/testdata/req_3.pprof",
            "gospy",
            None,
            "mutex:delay:nanoseconds:contentions:count",
        ),
        (
            "og/convert/pprof/testdata/pyspy-1.pb.gz",
            "scripting",
            None,
            "process_cpu:samples:count::milliseconds",
        ),
        (
            "og/convert/pprof/testdata/dotnet-pprof-3.pb.gz",
            "dotnetspy",
            None,
            "process_cpu:alloc_size:bytes::nanoseconds",
        ),
        (
            "pprof/testdata/profile_nodejs",
            "nodespy",
            None,
            "wall:wall:microseconds:wall:microseconds",
        ),
    ];
    for (file, spy, display_names, expected) in cases {
        let path = corpus.join("pyroscope/pkg").join(file);
        if !path.exists() {
            continue;
        }
        let bytes = plain(&path);
        let how = Ingest {
            spy,
            from: NOW,
            display_names,
        };
        let normalised = normalise(&ingest(&bytes, how), &any_time()).expect(file);
        assert!(
            totals(&normalised).contains_key(expected),
            "{file} {:?}",
            totals(&normalised)
        );
        assert!(matches!(ingest(&bytes, how).origin, Origin::Ingest(_)));
    }
}

#[test]
fn truncated_real_profiles_are_refused_and_never_panic() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for path in files_under(&fixtures) {
        if !name_of(&path).ends_with(".pb.gz") {
            continue;
        }
        let bytes = plain(&path);
        for cut in (0..bytes.len()).step_by(37) {
            if let Ok(normalised) = normalise(&push(&bytes[..cut], LABELS), &any_time()) {
                folded(&normalised);
            }
        }
    }
}

/// Stacktraces root first and their values, read as a profile of the profiler `spy`.
fn stacks_of(path: &Path, spy: &str) -> BTreeMap<String, i64> {
    let bytes = plain(path);
    let labels = [LABELS, &[("pyroscope_spy", spy)]].concat();
    let mut normalised = normalise(&push(&bytes, &labels), &unlimited()).expect("accepted");
    normalised.part.profiles.truncate(1);
    normalised.part.writes[0].profiles_end = 1;
    let end = normalised.part.profiles[0].samples_end as usize;
    normalised.part.sample_stack.truncate(end);
    normalised.part.sample_value.truncate(end);
    let lines = folded(&normalised).into_values().next().unwrap_or_default();
    let mut stacks = BTreeMap::new();
    for (stack, value) in lines.iter().filter_map(|line| line.rsplit_once(' ')) {
        let sum: &mut i64 = stacks.entry(stack.to_owned()).or_default();
        *sum += value.parse::<i64>().expect("a number");
    }
    stacks
}

fn distinct_roots(stacks: &BTreeMap<String, i64>) -> usize {
    let roots = stacks.keys().map(|stack| stack.split(';').next());
    roots.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn cut_stacktraces_are_repaired_at_least_as_well_as_expected() {
    let Some(corpus) = corpus() else {
        eprintln!("SKIPPED: no corpus on this machine");
        return;
    };
    let folder = corpus.join("pyroscope/pkg/pprof/testdata/gotruncatefix");
    for (name, least_equal) in [("cpu_go_truncated_1", 0.75), ("heap_go_truncated_1", 0.9)] {
        let ours = stacks_of(&folder.join(format!("{name}.pb.gz")), "gospy");
        // Not as Go, or it would be repaired once more.
        let expected = stacks_of(&folder.join(format!("{name}.pb.gz.fixed")), "rbspy");
        let equal = expected.keys().filter(|stack| ours.contains_key(*stack));
        let share = equal.count() as f64 / expected.len() as f64;
        // Ours goes further where samples agree, and leaves alone what is whole.
        assert!(share >= least_equal, "{name}: {share}");
        assert!(distinct_roots(&ours) <= distinct_roots(&expected), "{name}");
        let (sum, wanted): (i64, i64) = (ours.values().sum(), expected.values().sum());
        // The values of the repaired heap profile stand there doubled.
        assert!(wanted == sum || wanted == 2 * sum, "{name}: {sum} {wanted}");
    }
}
