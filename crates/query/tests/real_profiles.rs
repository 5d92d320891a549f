//! Real profiles through the whole of a query: recordings of Go programs, and the corpus if it is
//! there. What the different answers say of the same data must agree.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use scoria_block::{ProfileRow, ProfileRows, SampleBatch};
use scoria_model::part::PartView;
use scoria_model::{Labels, Limits, ProfileType, RetryKey, TimeRange, Timestamp};
use scoria_pprof::{Decompressor, Ingest, Normaliser, Origin, RawProfile, Upload};
use scoria_query::exec::{DatasetRows, Executor};
use scoria_query::functions::UNKNOWN;
use scoria_query::merge::{Merger, Partial, ProfilePartial, TreePartial};
use scoria_query::render::{self, PprofOptions};
use scoria_query::scan::{Scan, StackFilter, What};
use scoria_query::selector::{Matcher, Matchers};
use scoria_query::wire;
use scoria_symbols::{Dictionary, InternScratch, Symbols};

/// Files of the corpus that are read; more of the same kind show nothing new.
const CORPUS_FILES: usize = 12;

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = listed(&root.join("../pprof/tests/fixtures"));
    let corpus = std::env::var_os("SCORIA_CORPUS")
        .map_or_else(|| root.join("../../../shared/corpus"), PathBuf::from);
    let go = listed(&corpus.join("go"));
    let step = (go.len() / CORPUS_FILES).max(1);
    files.extend(go.into_iter().step_by(step));
    files
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().ends_with(".pb.gz"))
        .collect();
    files.sort();
    files
}

/// One upload as a head would hold it.
struct Head {
    symbols: Symbols,
    series: Vec<Labels>,
    kinds: Vec<ProfileType>,
    rows: ProfileRows,
    samples: Vec<SampleBatch>,
}

fn head(path: &Path) -> Head {
    let body = std::fs::read(path).unwrap();
    let mut decompressor = Decompressor::new();
    let pprof = decompressor.decompress(&body, 64 << 20).unwrap();
    let limits = Limits {
        reject_older_than_ms: 0,
        reject_newer_than_ms: 0,
        max_profile_stacktrace_samples: 0,
        ..Limits::default()
    };
    let upload = Upload {
        pprof,
        labels: &[("service_name", "api")],
        origin: Origin::Ingest(Ingest {
            spy: "gospy",
            from: Timestamp(1),
            display_names: None,
        }),
        key: RetryKey([0; 16]),
        now: Timestamp(1),
    };
    let normalised = Normaliser::new(7).normalise(&upload, &limits).unwrap();
    let mut bytes = Vec::new();
    normalised.part.encode(&mut bytes);
    let part = PartView::parse(&bytes).unwrap();
    let mut dictionary = Dictionary::new();
    let mut scratch = InternScratch::default();
    dictionary.intern(&part, &mut scratch);
    let mut head = Head {
        symbols: dictionary.snapshot(),
        series: (0..part.series_end.len() as u32)
            .map(|at| part.series_labels(at))
            .collect(),
        kinds: (0..part.kinds() as u32)
            .map(|at| part.profile_type(at))
            .collect(),
        rows: ProfileRows::default(),
        samples: Vec::new(),
    };
    for profile in 0..part.profile_series.len() {
        let mut batch = SampleBatch::default();
        for sample in part.profile_samples_end.span(profile) {
            let stack = part.sample_stack.get(sample) as usize;
            batch.stack.push(scratch.stack_nodes[stack]);
            batch.value.push(part.sample_value.get(sample));
        }
        head.rows.push(ProfileRow {
            kind: part.profile_kind.get(profile),
            series: part.profile_series.get(profile),
            time_ns: part.profile_time.get(profile),
            total: batch.value.iter().sum(),
            n_samples: batch.len() as u32,
            period: part.profile_period.get(profile),
            ..ProfileRow::default()
        });
        head.samples.push(batch);
    }
    head
}

/// The answer of some heads to a scan, each having travelled.
fn answer(heads: &[&Head], kind: &ProfileType, what: What) -> Partial {
    let mut matchers = Matchers::default();
    matchers.push(Matcher::equal("__profile_type__", &kind.to_string()));
    let scan = Scan {
        matchers,
        range: TimeRange::ALL,
        what,
    };
    let mut merger = Merger::new(&scan.what);
    for head in heads {
        let mut executor = Executor::new(scan.clone());
        let samples = |row: usize, batch: &mut SampleBatch| {
            batch.stack.extend_from_slice(&head.samples[row].stack);
            batch.value.extend_from_slice(&head.samples[row].value);
            Ok(())
        };
        executor
            .add_rows(&DatasetRows {
                symbols: &head.symbols,
                functions: None,
                series: &head.series,
                kinds: &head.kinds,
                rows: &head.rows,
                streams: &[0],
                samples: &samples,
            })
            .unwrap();
        let bytes = wire::encode_partial(&executor.finish().unwrap().0).unwrap();
        merger.add(wire::decode_partial(&bytes).unwrap()).unwrap();
    }
    merger.finish().unwrap()
}

fn tree(heads: &[&Head], kind: &ProfileType) -> TreePartial {
    match answer(heads, kind, What::Tree(StackFilter::default())) {
        Partial::Tree(tree) => tree,
        other => panic!("{other:?}"),
    }
}

fn profile(heads: &[&Head], kind: &ProfileType) -> ProfilePartial {
    match answer(heads, kind, What::Profile(StackFilter::default())) {
        Partial::Profile(profile) => profile,
        other => panic!("{other:?}"),
    }
}

/// Values by function names, root first, of pprof bytes.
fn folded(bytes: &[u8]) -> Vec<(String, i64)> {
    let raw = RawProfile::decode(bytes).unwrap();
    let columns = &raw.columns;
    let (mut frames, mut values) = (0, 0);
    let mut stacks: BTreeMap<String, i64> = BTreeMap::new();
    for sample in columns.samples.iter() {
        let mut names = Vec::new();
        for id in columns.frames.slice(frames..sample.frames as usize) {
            let at = id as usize - 1;
            for line in raw.lines_of(at) {
                let function = columns.functions.get(line.function as usize - 1);
                names.push(String::from_utf8_lossy(raw.text(function.name)).into_owned());
            }
        }
        names.reverse();
        if names.is_empty() {
            names.push(UNKNOWN.to_owned());
        }
        *stacks.entry(names.join(";")).or_default() += columns.values.get(values);
        frames = sample.frames as usize;
        values = sample.values as usize;
    }
    stacks.into_iter().collect()
}

#[test]
fn tree_profile_graph_and_top_agree() {
    for path in files() {
        let head = head(&path);
        for kind in &head.kinds {
            let tree = tree(&[&head], kind);
            let stored: i64 = head
                .rows
                .kind
                .iter()
                .zip(&head.rows.total)
                .filter(|(at, _)| head.kinds[**at as usize] == *kind)
                .map(|(_, total)| total)
                .sum();
            assert_eq!(tree.total(), stored, "{} {kind}", path.display());
            let options = PprofOptions {
                kind,
                end_ms: 1,
                max_nodes: 0,
                go_pgo: None,
            };
            let bytes = render::pprof(&profile(&[&head], kind), &options);
            if stored != 0 {
                assert_eq!(
                    folded(&bytes),
                    tree.to_folded(),
                    "{} {kind}",
                    path.display()
                );
            }
            let graph = render::flamegraph(&render::truncate(tree.clone(), 100), 0);
            assert_eq!(graph.total, stored);
            assert_eq!(graph.levels[0][..3], [0, stored, 0], "the root has no self");
            let own: i64 = render::top(&tree).iter().map(|row| row.own).sum();
            assert_eq!(own, stored);
            let back = render::decode_tree(&render::tree_bytes(&tree, 0)).unwrap();
            assert_eq!(back.to_folded(), tree.to_folded());
        }
    }
}

#[test]
fn two_heads_add_up() {
    let files = files();
    let (one, two) = (head(&files[0]), head(&files[files.len() - 1]));
    for kind in &one.kinds {
        let both = tree(&[&one, &two], kind);
        let sum = tree(&[&one], kind).total() + tree(&[&two], kind).total();
        assert_eq!(both.total(), sum);
        let doubled = tree(&[&one, &one], kind).to_folded();
        let single = tree(&[&one], kind).to_folded();
        let expected: Vec<(String, i64)> = single.into_iter().map(|(s, v)| (s, 2 * v)).collect();
        assert_eq!(doubled, expected);
        assert_eq!(profile(&[&one, &two], kind).total(), sum);
    }
}
