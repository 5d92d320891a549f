//! Real recordings of the corpus against what Pyroscope made of them: profile types, stacktraces
//! with lines, values and labels.
//!
//! Three things are other than there, on purpose: a delay is nanoseconds and no ticks, the period
//! is the sampling period, and a profile's time and duration are those of the request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use scoria_model::ByteBudget;
use scoria_pprof::jfr::{Conversion, Recording, Snapshot};
use scoria_pprof::raw::RawProfile;
use scoria_pprof::{Decompressor, DraftTerms};

use crate::support::corpus;

/// Frames from the leaf, each a name and a line, and their value.
type Stacks = BTreeMap<Vec<(String, i64)>, i64>;

/// By labels.
type Series = BTreeMap<String, Stacks>;

fn folder() -> Option<PathBuf> {
    let folder = corpus()?.join("pyroscope/pkg/og/convert/jfr/testdata");
    folder.is_dir().then_some(folder)
}

fn plain(path: &Path) -> Vec<u8> {
    let body = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut decompressor = Decompressor::new();
    decompressor
        .decompress(&body, 64 << 20)
        .expect("it is well-formed")
        .to_vec()
}

fn stacks_of(raw: &RawProfile<'_>, kind: usize) -> BTreeMap<String, Stacks> {
    let text = |at: u32| String::from_utf8_lossy(raw.text(at)).into_owned();
    let columns = &raw.columns;
    let functions: BTreeMap<u64, u32> = columns.functions.iter().map(|f| (f.id, f.name)).collect();
    let locations: BTreeMap<u64, usize> = (0..columns.locations.len())
        .map(|at| (columns.locations.get(at).id, at))
        .collect();
    let mut series = Series::new();
    for at in 0..columns.samples.len() {
        let sample = raw.sample(at);
        let frames = columns.frames.slice(sample.frames()).iter().map(|id| {
            let line = raw.lines_of(locations[&raw.location_id(id)]).next();
            let line = line.unwrap();
            (text(functions[&line.function]), line.line)
        });
        let labels = columns.labels.slice(sample.labels());
        let labels: Vec<String> = labels
            .map(|label| format!("{}={}", text(label.key), text(label.text)))
            .collect();
        let value = columns.values.get(sample.values().start + kind);
        let stacks = series.entry(labels.join(",")).or_default();
        *stacks.entry(frames.collect()).or_default() += value;
    }
    series
}

/// Every profile type of a recording, as `name_type_unit_periodtype_periodunit`.
fn read(folder: &Path, name: &str) -> BTreeMap<String, Series> {
    let bytes = plain(&folder.join(format!("{name}.jfr.gz")));
    let labels = folder.join(format!("{name}.labels.pb.gz"));
    let labels = if labels.is_file() {
        plain(&labels)
    } else {
        Vec::new()
    };
    let memory = ByteBudget::new("test", 1 << 40);
    let recording = Recording::read(&bytes, 7, &memory).expect("it is well-formed");
    assert_eq!(recording.dropped().iter().count(), 0, "{name}");
    let steps_max = 4 * bytes.len() as u64;
    assert!(
        recording.steps() < steps_max,
        "{name}: {} steps",
        recording.steps()
    );
    let snapshot = Snapshot::read(&labels, 7, &memory).expect("it is well-formed");
    let conversion = Conversion {
        time_ns: 1,
        duration_ns: 2,
        sample_rate: 100,
        snapshot: &snapshot,
        max_samples: 0,
    };
    let terms = DraftTerms {
        seed: 7,
        memory,
        max_bytes: 0,
    };
    let mut profiles = recording.profiles(conversion, terms);
    let mut out = BTreeMap::new();
    while let Some(mut profile) = profiles.next_profile().expect("it is well-formed") {
        let raw = profile.draft.raw();
        let text = |at: u32| String::from_utf8_lossy(raw.text(at)).into_owned();
        let period = raw.columns.period_type;
        for (at, kind) in raw.columns.sample_types.iter().enumerate() {
            let words = [kind.kind, kind.unit, period.kind, period.unit].map(text);
            let id = format!("{}_{}", profile.name, words.join("_"));
            assert!(out.insert(id, stacks_of(&raw, at)).is_none());
        }
    }
    out
}

fn names(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder)
        .expect("it is well-formed")
        .flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names
        .filter_map(|name| name.strip_suffix(".jfr.gz").map(str::to_owned))
        .collect()
}

/// The hash of the selector that takes every series.
const ALL_SERIES: &str = "17241709254077376921";

/// Ticks of the clock of a recording's first chunk.
fn ticks_per_second(folder: &Path, name: &str) -> i64 {
    let bytes = plain(&folder.join(format!("{name}.jfr.gz")));
    i64::from_be_bytes(bytes[56..64].try_into().expect("it is well-formed"))
}

/// What Pyroscope made of a recording: (type id, hash of the selector, stacktraces).
fn goldens(folder: &Path, name: &str) -> Vec<(String, String, Stacks)> {
    let files = std::fs::read_dir(folder)
        .expect("it is well-formed")
        .flatten();
    files
        .filter_map(|file| {
            let file_name = file.file_name().to_string_lossy().into_owned();
            let rest = file_name.strip_prefix(&format!("{name}.jfr.gz."))?;
            let mut words = rest.split('.');
            let (id, selector) = (words.next()?.to_owned(), words.next()?.to_owned());
            let bytes = plain(&file.path());
            let raw = RawProfile::decode(&bytes).expect("it is well-formed");
            let mut stacks = stacks_of(&raw, 0).into_values().next()?;
            if id.contains("_delay_") {
                let ticks = ticks_per_second(folder, name);
                for value in stacks.values_mut() {
                    *value = (i128::from(*value) * 1_000_000_000 / i128::from(ticks)) as i64;
                }
            }
            Some((id, selector, stacks))
        })
        .collect()
}

/// The same stacktraces with the same values, but for what was rounded in each of some events.
fn same(ours: &Stacks, golden: &Stacks, rounded: i64) -> bool {
    ours.len() == golden.len()
        && golden.iter().all(|(stack, value)| {
            let ours = ours.get(stack);
            ours.is_some_and(|ours| (value - rounded..=*value).contains(ours))
        })
}

#[test]
fn the_profiles_are_those_that_pyroscope_makes() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no corpus of JFR recordings");
        return;
    };
    let mut n_compared = 0;
    for name in names(&folder) {
        let ours = read(&folder, &name);
        let goldens = goldens(&folder, &name);
        let kinds: BTreeSet<&String> = goldens.iter().map(|(id, ..)| id).collect();
        assert_eq!(ours.keys().collect::<BTreeSet<_>>(), kinds, "{name}");
        for (id, selector, golden) in &goldens {
            let mut all = Stacks::new();
            for (stack, value) in ours[id].values().flatten() {
                *all.entry(stack.clone()).or_default() += value;
            }
            let rounded = if id.contains("_delay_") { 1_000 } else { 0 };
            let found = if selector == ALL_SERIES {
                same(&all, golden, rounded)
            } else {
                ours[id]
                    .values()
                    .any(|stacks| same(stacks, golden, rounded))
            };
            assert!(found, "{name} {id} {selector}");
            n_compared += 1;
        }
    }
    eprintln!("{n_compared} profiles are as expected");
}

#[test]
fn contexts_are_labels() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no corpus of JFR recordings");
        return;
    };
    let ours = read(&folder, "dump1");
    let series = &ours["process_cpu_cpu_nanoseconds_cpu_nanoseconds"];
    let totals: BTreeMap<&str, i64> = series
        .iter()
        .map(|(labels, stacks)| (&**labels, stacks.values().sum::<i64>() / 10_000_000))
        .collect();
    let expected = [
        ("", 1230),
        ("thread_name=pool-2-thread-1", 471),
        ("thread_name=pool-2-thread-3", 168),
        ("thread_name=pool-2-thread-5", 104),
        ("thread_name=pool-2-thread-7", 215),
    ];
    assert_eq!(totals, BTreeMap::from(expected));
}

/// The types of this server for the applications that Pyroscope's first form made of a recording:
/// the end of the name, the type, what one unit of the values is in ours.
const APPLICATIONS: [(&str, &str, i64); 9] = [
    ("cpu", CPU, 10_000_000),
    ("itimer", CPU, 10_000_000),
    (
        "alloc_in_new_tlab_bytes",
        "memory_alloc_in_new_tlab_bytes_bytes_space_bytes",
        1,
    ),
    (
        "alloc_in_new_tlab_objects",
        "memory_alloc_in_new_tlab_objects_count_space_bytes",
        1,
    ),
    (
        "alloc_outside_tlab_bytes",
        "memory_alloc_outside_tlab_bytes_bytes_space_bytes",
        1,
    ),
    (
        "alloc_outside_tlab_objects",
        "memory_alloc_outside_tlab_objects_count_space_bytes",
        1,
    ),
    ("lock_count", "mutex_contentions_count_mutex_count", 1),
    (
        "thread_park_count",
        "block_contentions_count_block_count",
        1,
    ),
    // Of the durations, whose unit is another one, `_delay_` above is compared.
    ("_duration", "", 0),
];
const CPU: &str = "process_cpu_cpu_nanoseconds_cpu_nanoseconds";

/// Stacktraces root first, without lines, and with dots in the names of classes.
fn folded(stacks: &Stacks) -> BTreeMap<String, i64> {
    let mut folded = BTreeMap::new();
    for (frames, value) in stacks {
        let names = frames.iter().rev().map(|(name, _)| name.replace('/', "."));
        *folded
            .entry(names.collect::<Vec<_>>().join(";"))
            .or_default() += value;
    }
    folded
}

#[test]
fn the_flame_graphs_are_those_of_the_older_form() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no corpus of JFR recordings");
        return;
    };
    let mut n_compared = 0;
    for name in names(&folder) {
        let ours = read(&folder, &name);
        let golden = plain(&folder.join(format!("{name}.json.gz")));
        let golden: BTreeMap<String, String> =
            serde_json::from_slice(&golden).expect("it is well-formed");
        for (app, lines) in &golden {
            let (app, labels) = app.split_once('{').expect("it is well-formed");
            let mut known = APPLICATIONS.iter();
            let found = known.find(|(end, ..)| app.ends_with(end));
            let &(_, id, unit) = found.unwrap_or_else(|| panic!("{app} has no type"));
            if id.is_empty() {
                continue;
            }
            let mut expected = BTreeMap::new();
            for line in lines.lines() {
                let (stack, count) = line.rsplit_once(' ').expect("it is well-formed");
                let count: i64 = count.parse().expect("it is well-formed");
                // Numbers of lambdas went with the dollar before them in the newer form.
                let stack = stack.replace('/', ".").replace("Lambda$_", "Lambda_");
                *expected.entry(stack).or_default() += count * unit;
            }
            let series = &ours[id][labels.trim_end_matches('}')];
            assert_eq!(folded(series), expected, "{name} {app}{{{labels}");
            n_compared += 1;
        }
    }
    assert!(n_compared > 0, "the corpus holds recordings");
    eprintln!("{n_compared} flame graphs are as expected");
}
