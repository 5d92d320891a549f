//! What answers take from what was found to the text that is sent, by what the allocator says, and
//! what is asked for it before.
//!
//! A binary of its own with one test, so that nothing else allocates meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::collections::BTreeMap;
use std::hint::black_box;

use connectrpc::{CodecFormat, Encodable};
use peak_alloc::PeakAlloc;
use scoria_model::{Label, Labels, ProfileId, ProfileType, TimeRange};
use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::FunctionRow;
use scoria_proto::public::querier::v1 as wire;
use scoria_proto::public::types::v1 as types;
use scoria_querier::Merged;
use scoria_query::merge::{
    Exemplar, GroupKey, LabelsPartial, Point, SeriesPartial, SortedTexts, Subject, TreePartial,
    Value, ValuesPartial,
};
use scoria_query::render::{self, cost};
use scoria_query::request::{Aggregation, Cells};
use scoria_query::scan::{Exemplars, Scan, What};
use scoria_query::selector::Matchers;
use scoria_server::http::query::answers;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Peak bytes of the heap above what is there now.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    peak_with(|| (), |()| work())
}

/// The same of work that uses up what was found, which counts as long as it is there.
fn peak_with<F, T>(find: impl FnOnce() -> F, work: impl FnOnce(F) -> T) -> usize {
    let before = HEAP.current_usage();
    let found = find();
    HEAP.reset_peak_usage();
    let done = work(found);
    let took = HEAP.peak_usage() - before;
    drop(black_box(done));
    took
}

/// The message of an answer as it is sent, which stays beside it until it has been.
fn sent<M, A: Encodable<M>>(answer: A, codec: CodecFormat) -> (A, usize) {
    let bytes = answer.encode(codec).unwrap();
    (answer, bytes.len())
}

/// What is asked for covers what is taken in either encoding, and is not many times as much as
/// the larger of them. All are measured before any is complained about.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn check(&mut self, what: &str, asked: u64, took: impl Fn(CodecFormat) -> usize) {
        let [proto, json] = [CodecFormat::Proto, CodecFormat::Json].map(took);
        let times = asked as f64 / proto.max(json) as f64;
        let line =
            format!("{what}: {proto} bytes, in JSON {json}; {times:.2} times as many asked for");
        println!("{line}");
        if !(1.0..=8.0).contains(&times) {
            self.0.push(line);
        }
    }
}

/// Labels as a pod has them; `long` makes their values as long as they may be.
fn labels(n: usize, of: usize, long: usize) -> Labels {
    Labels::from_pairs((0..n).map(|at| (format!("label_{at}"), format!("{of:0long$}"))))
}

fn group(n: usize, of: usize) -> GroupKey {
    labels(n, of, 24).iter().cloned().collect::<Vec<Label>>()
}

fn series(told: &mut Told) {
    let build = |groups: usize, points: i64, exemplars: Option<(usize, usize)>, n_stripped| {
        let mut partial = SeriesPartial::default();
        for of in 0..groups {
            let shared = exemplars.map(|(n, long)| labels(n, of, long));
            let point = |at: i64| Point {
                sum: 123_456_789_000 + at,
                n: 3,
                n_stripped,
                exemplar: shared.clone().map(|labels| Exemplar {
                    of: Subject::Profile(ProfileId(0x1234_5678_9abc_def0 << 64 | at as u128)),
                    time_ms: 1_700_000_000_123 + at,
                    value: 123_456_789,
                    labels,
                }),
            };
            let points = (0..points).map(|at| (1_700_000_000_000 + 15_000 * at, point(at)));
            partial.groups.insert(group(2, of), points.collect());
        }
        partial
    };
    for (what, groups, points, exemplars, n_stripped) in [
        ("one long series", 1, 20_000, None, 0),
        ("many short series", 5000, 2, None, 0),
        ("series with notes", 100, 200, None, 7),
        ("exemplars of few labels", 100, 50, Some((2, 8)), 0),
        ("exemplars of many labels", 100, 50, Some((20, 24)), 0),
        ("exemplars of long labels", 20, 20, Some((20, 2048)), 7),
    ] {
        let took = |codec| {
            let find = || build(groups, points, exemplars, n_stripped);
            peak_with(find, |partial| {
                let drawn = render::series(partial, Aggregation::Sum, None);
                let series = drawn.into_iter().map(answers::series).collect();
                sent(wire::SelectSeriesResponse { series }, codec)
            })
        };
        let partial = build(groups, points, exemplars, n_stripped);
        told.check(what, partial.bytes() + cost::series(&partial), took);
    }
}

/// A heatmap of 15 s over so many columns.
fn cells(columns: i64, exemplars: Exemplars) -> Cells {
    let first_ms = 1_700_000_000_000;
    Cells {
        scan: Scan {
            matchers: Matchers::default(),
            range: TimeRange {
                start_ms: first_ms,
                end_ms: first_ms + 15_000 * columns,
            },
            what: What::LabelNames,
        },
        first_ms,
        step_ms: 15_000,
        exemplars,
        limit: None,
    }
}

fn heatmaps(told: &mut Told) {
    let build = |groups: usize, columns: i64, values: i64, (n, long): (usize, usize)| {
        let mut partial = ValuesPartial::default();
        for of in 0..groups {
            let labels = labels(n, of, long);
            let values = (0..columns * values).map(|at| {
                let subject = Subject::Span {
                    span: 0x1234_5678_0000_0000 + at as u64,
                    trace: [7; 16],
                };
                let value = Value {
                    value: 1_000_000 * (at % values),
                    labels: labels.clone(),
                };
                ((1_700_000_000_001 + 15_000 * (at / values), subject), value)
            });
            let values: BTreeMap<_, _> = values.collect();
            partial.groups.insert(group(1, of), values);
        }
        partial
    };
    for (what, groups, columns, values, labels, exemplars) in [
        ("a thin heatmap", 1, 1000, 1, (8, 24), Exemplars::None),
        ("a full heatmap", 1, 500, 40, (8, 24), Exemplars::None),
        ("many heatmaps", 500, 20, 2, (8, 24), Exemplars::None),
        (
            "a thin heatmap with exemplars",
            1,
            1000,
            1,
            (8, 24),
            Exemplars::Span,
        ),
        (
            "a full heatmap with exemplars",
            1,
            500,
            40,
            (8, 24),
            Exemplars::Span,
        ),
        (
            "exemplars without labels",
            1,
            500,
            20,
            (0, 0),
            Exemplars::Span,
        ),
        (
            "a heatmap with long labels",
            1,
            20,
            20,
            (20, 2048),
            Exemplars::Span,
        ),
    ] {
        let cells = cells(columns, exemplars);
        let took = |codec| {
            let find = || build(groups, columns, values, labels);
            peak_with(find, |partial| {
                let drawn = render::heatmap(partial, &cells);
                let series = drawn.into_iter().map(answers::heatmap).collect();
                sent(wire::SelectHeatmapResponse { series }, codec)
            })
        };
        let partial = build(groups, columns, values, labels);
        told.check(
            what,
            partial.bytes() + cost::heatmap(&partial, &cells),
            took,
        );
    }
}

fn label_answers(told: &mut Told) {
    let texts =
        |n: usize, long: usize| SortedTexts::of((0..n).map(|at| format!("{at:0long$}")).collect());
    for (what, n, long) in [
        ("many values", 20_000, 12),
        ("long values", 200, 2048),
        ("tiny values", 1000, 1),
    ] {
        let took = |codec| {
            let texts = texts(n, long);
            peak_of(|| {
                let names = texts.iter().map(str::to_owned).collect();
                sent(types::LabelValuesResponse { names }, codec)
            })
        };
        let partial = LabelsPartial {
            texts: texts(n, long),
            ..LabelsPartial::default()
        };
        told.check(what, cost::labels(&partial), took);
    }
    for (what, n, each, long) in [
        ("sets of the landing query", 2000, 2, 30),
        ("whole sets", 1000, 20, 24),
        ("sets of long values", 50, 20, 2048),
    ] {
        let partial = || LabelsPartial {
            sets: (0..n).map(|of| labels(each, of, long)).collect(),
            ..LabelsPartial::default()
        };
        let took = |codec| {
            let sets: Vec<Labels> = partial().sets.into_iter().collect();
            peak_of(|| {
                let labels_set = sets.iter().map(answers::labels).collect();
                sent(wire::SeriesResponse { labels_set }, codec)
            })
        };
        told.check(what, cost::labels(&partial()), took);
    }
    let id = |at: usize| format!("name_{at}:inuse_space:bytes:space:bytes");
    let ids = || SortedTexts::of((0..2000).map(id).collect());
    let took = |codec| {
        let ids = ids();
        peak_of(|| {
            let kinds: Vec<ProfileType> = ids.iter().map(|id| id.parse().unwrap()).collect();
            let profile_types = kinds.iter().map(answers::profile_type).collect();
            let message = wire::ProfileTypesResponse { profile_types };
            (kinds, sent(message, codec))
        })
    };
    let partial = LabelsPartial {
        texts: ids(),
        ..LabelsPartial::default()
    };
    let asked = cost::labels(&partial) + cost::profile_types(&partial.texts);
    told.check("profile types", asked, took);
}

/// A profile's bytes: `n` stacktraces of `deep` frames, the functions with names of some length.
fn profile(n: usize, deep: usize, name: usize) -> Vec<u8> {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("cpu", "nanoseconds");
    let locations: Vec<u64> = (0..1000)
        .map(|at| {
            let function = profile.function(&FunctionRow {
                name: &format!("{at:0name$}"),
                filename: "shop.go",
                ..FunctionRow::default()
            });
            profile.location(0, 0, &[(function, at)])
        })
        .collect();
    for at in 0..n {
        let frames = (0..deep).map(|frame| locations[(at * 31 + frame * 7) % 1000]);
        profile.sample(frames, &[1_000_000 + at as i64], &[]);
    }
    profile.finish()
}

fn profiles(told: &mut Told) {
    for (what, n, deep, name) in [
        ("shallow stacks", 20_000, 1, 20),
        ("stacks of twenty", 5000, 20, 20),
        ("deep stacks", 200, 500, 20),
        ("symbols alone", 10, 1, 20),
        ("long names", 10, 1, 2000),
    ] {
        let bytes = profile(n, deep, name);
        let asked = cost::pprof_in_json(bytes.len() as u64);
        let merged = Merged::Pprof(bytes);
        let took = |_| {
            let merged = merged.clone();
            peak_of(|| sent(answers::stacktraces(merged), CodecFormat::Json))
        };
        told.check(what, asked, took);
        let took = |_| {
            let merged = merged.clone();
            peak_of(|| sent(answers::profile(merged), CodecFormat::Json))
        };
        told.check(what, asked, took);
    }
}

/// Trees in the forms that are messages.
fn trees(told: &mut Told) {
    let deep = |n: usize| {
        let stack = |at: usize| {
            let frames = (0..20).map(|frame| format!("function_{}", (at >> (frame / 2)) + frame));
            (frames.collect::<Vec<_>>().join(";"), 1_000_000 + at as i64)
        };
        let stacks: Vec<(String, i64)> = (0..n).map(stack).collect();
        TreePartial::from_folded(stacks.iter().map(|(stack, value)| (stack.as_str(), *value)))
    };
    let wide = |n: usize| {
        let names: Vec<String> = (0..n).map(|at| format!("function_{at}")).collect();
        TreePartial::from_folded(names.iter().map(|name| (name.as_str(), 1_000_000_000)))
    };
    for (what, tree) in [("deep", deep(1000)), ("wide", wide(20_000))] {
        let graph = |codec| {
            peak_of(|| {
                let graph = Merged::Flamegraph(render::flamegraph(&tree, 0));
                sent(answers::stacktraces(graph), codec)
            })
        };
        told.check(
            &format!("{what}, flame graph"),
            cost::flamegraph(&tree),
            graph,
        );
        let bytes = |codec| {
            peak_of(|| {
                let bytes = Merged::Tree(render::tree_bytes(&tree, 0));
                sent(answers::stacktraces(bytes), codec)
            })
        };
        told.check(&format!("{what}, tree"), cost::tree_bytes(&tree), bytes);
        let table = |codec| {
            peak_of(|| {
                let table = Merged::Functions(render::functions(&tree, 0));
                sent(answers::stacktraces(table), codec)
            })
        };
        told.check(&format!("{what}, functions"), cost::top(&tree), table);
        let both = |codec| {
            peak_of(|| {
                let graph = render::diff(&tree, &tree, 0).unwrap();
                sent(answers::diff(graph), codec)
            })
        };
        told.check(&format!("{what}, diff"), cost::diff(&tree, &tree), both);
        let tables = |codec| {
            peak_of(|| {
                sent(
                    answers::functions_diff(render::functions_diff(&tree, &tree, 0)),
                    codec,
                )
            })
        };
        told.check(
            &format!("{what}, functions of both"),
            2 * cost::top(&tree),
            tables,
        );
    }
}

#[test]
fn an_answer_takes_no_more_than_is_asked_for_it() {
    let mut told = Told::default();
    series(&mut told);
    heatmaps(&mut told);
    label_answers(&mut told);
    profiles(&mut told);
    trees(&mut told);
    assert!(told.0.is_empty(), "{:#?}", told.0);
}
