use proptest::prelude::*;
use scoria_block::ProfileRow;
use scoria_model::TimeRange;
use scoria_model::part::{Function, Line};
use scoria_symbols::SymbolTables;

use super::*;
use crate::merge::{GroupKey, SeriesPartial, Subject, Value};
use crate::scan::{Buckets, Exemplars, Heatmap, HeatmapOf, StackFilter, Stripped, TimeSeries};
use crate::selector::Matchers;

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

/// A dataset in memory; each profile is (series, time in ms, samples as (node, value, span)).
struct Data {
    symbols: Symbols,
    series: Vec<Labels>,
    kinds: Vec<ProfileType>,
    rows: ProfileRows,
    samples: Vec<Vec<(u32, i64, u64)>>,
}

type Profile = (u32, i64, Vec<(u32, i64, u64)>);

/// Nodes: 1 main, 2 main;a, 3 main;b, 4 main;a;b.
fn data(profiles: &[Profile]) -> Data {
    let mut tables = SymbolTables::default();
    for (at, name) in ["main", "a", "b"].into_iter().enumerate() {
        let name = tables.strings.push(name);
        tables.functions.push(Function {
            name,
            ..Function::default()
        });
        tables.location_mapping.push(u32::MAX);
        tables.location_address.push(at as u64);
        tables.lines.push(Line {
            function: at as u32,
            line: 1,
        });
        tables.location_lines_end.push(at as u32 + 1);
    }
    tables.node_parent = vec![u32::MAX, 0, 1, 1, 2];
    tables.node_location = vec![u32::MAX, 0, 1, 2, 2];
    let mut rows = ProfileRows::default();
    for (at, (series, ms, samples)) in profiles.iter().enumerate() {
        rows.push(ProfileRow {
            series: *series,
            time_ns: ms * 1_000_000,
            total: samples.iter().map(|s| s.1).sum(),
            n_samples: samples.len() as u32,
            period: 100,
            seq: at as u64 / 2,
            ..ProfileRow::default()
        });
    }
    Data {
        symbols: Symbols::from_tables(tables).unwrap(),
        series: ["x", "y"]
            .map(|pod| Labels::from_pairs([("service_name", "api"), ("pod", pod)]))
            .to_vec(),
        kinds: vec![CPU.parse().unwrap()],
        rows,
        samples: profiles.iter().map(|p| p.2.clone()).collect(),
    }
}

fn scan(selector: &str, what: What) -> Scan {
    Scan {
        matchers: Matchers::parse(selector).unwrap(),
        range: TimeRange {
            start_ms: 0,
            end_ms: 1000,
        },
        what,
    }
}

fn run(scan: &Scan, data: &Data) -> (Partial, ScanStats) {
    let mut executor = Executor::new(scan.clone());
    executor
        .add_rows(&DatasetRows {
            symbols: &data.symbols,
            functions: None,
            series: &data.series,
            kinds: &data.kinds,
            rows: &data.rows,
            streams: &[1],
            samples: &|row, batch| {
                for &(stack, value, span) in &data.samples[row] {
                    batch.stack.push(stack);
                    batch.value.push(value);
                    batch.span.push(span);
                }
                Ok(())
            },
        })
        .unwrap();
    executor.finish().unwrap()
}

fn folded(partial: &Partial) -> Vec<(String, i64)> {
    match partial {
        Partial::Tree(tree) => tree.to_folded(),
        other => panic!("{other:?}"),
    }
}

fn some() -> Data {
    data(&[
        (0, 10, vec![(2, 1, 0), (4, 2, 7)]),
        (1, 10, vec![(3, 4, 7)]),
        (0, 500, vec![(2, 8, 0)]),
        (0, 1001, vec![(2, 100, 0)]),
    ])
}

fn tree(selector: &str, filter: StackFilter) -> Vec<(String, i64)> {
    folded(&run(&scan(selector, What::Tree(filter)), &some()).0)
}

fn stacks<const N: usize>(stacks: [(&str, i64); N]) -> Vec<(String, i64)> {
    stacks.map(|(s, v)| (s.to_owned(), v)).to_vec()
}

#[test]
fn trees_by_series_span_and_call_site() {
    let all = StackFilter::default();
    assert_eq!(
        tree("{}", all.clone()),
        stacks([("main;a", 9), ("main;a;b", 2), ("main;b", 4)])
    );
    assert_eq!(tree(r#"{pod="y"}"#, all), stacks([("main;b", 4)]));
    let spans = StackFilter {
        spans: vec![7],
        ..StackFilter::default()
    };
    assert_eq!(tree("{}", spans), stacks([("main;a;b", 2), ("main;b", 4)]));
    let site = |names: &[&str]| StackFilter {
        call_site: names.iter().copied().map(Arc::from).collect(),
        ..StackFilter::default()
    };
    assert_eq!(
        tree("{}", site(&["main", "a"])),
        stacks([("main;a", 9), ("main;a;b", 2)])
    );
    assert_eq!(tree("{}", site(&["a"])), stacks([]));
}

#[test]
fn profiles_keep_locations_and_agree_on_the_period() {
    let (partial, stats) = run(&scan("{}", What::Profile(StackFilter::default())), &some());
    let Partial::Profile(profile) = partial else {
        panic!("{partial:?}");
    };
    assert_eq!(profile.total(), 15);
    assert_eq!(profile.period(), Period::Known(100));
    assert_eq!(profile.symbols().locations_len(), 3);
    assert_eq!((stats.profiles, stats.samples), (3, 4));
}

fn series(group_by: &[&str], exemplars: Exemplars, call_site: &[&str]) -> SeriesPartial {
    let range = TimeRange {
        start_ms: 10,
        end_ms: 1000,
    };
    let what = What::TimeSeries(TimeSeries {
        buckets: Buckets::new(range, 490),
        group_by: group_by.iter().copied().map(Arc::from).collect(),
        exemplars,
        stripped: Stripped::LeftOut,
        filter: StackFilter {
            call_site: call_site.iter().copied().map(Arc::from).collect(),
            ..StackFilter::default()
        },
    });
    match run(&scan("{}", what), &some()).0 {
        Partial::Series(series) => series,
        other => panic!("{other:?}"),
    }
}

fn sums(series: &SeriesPartial) -> Vec<Vec<(i64, i64)>> {
    let points = series.groups.values();
    points
        .map(|points| points.iter().map(|(&edge, p)| (edge, p.sum)).collect())
        .collect()
}

#[test]
fn series_sum_whole_profiles_or_those_under_a_call_site() {
    let all = series(&[], Exemplars::None, &[]);
    assert_eq!(sums(&all), [[(10, 7), (500, 8)]]);
    let by_pod = series(&["pod", "nothing"], Exemplars::None, &[]);
    assert_eq!(sums(&by_pod), [vec![(10, 3), (500, 8)], vec![(10, 4)]]);
    let keys: Vec<&GroupKey> = by_pod.groups.keys().collect();
    assert_eq!((keys[0].len(), &*keys[0][0].value), (1, "x"));
    let site = series(&["pod"], Exemplars::None, &["main", "a", "b"]);
    assert_eq!(sums(&site), [[(10, 2)]]);
}

#[test]
fn an_exemplar_is_the_whole_profile_with_the_labels_its_series_share() {
    // Both profiles at 10 ms are parts of one: the same record and place.
    let all = series(&[], Exemplars::Individual, &[]);
    let point = &all.groups[&Vec::new()][&10];
    let exemplar = point.exemplar.as_ref().unwrap();
    assert_eq!((exemplar.value, exemplar.time_ms), (7, 10));
    assert_eq!(exemplar.labels.to_string(), r#"{service_name="api"}"#);
    let grouped = series(&["service_name"], Exemplars::Individual, &[]);
    let points = grouped.groups.values().next().unwrap();
    let exemplar = points[&500].exemplar.as_ref().unwrap();
    assert_eq!(exemplar.labels.to_string(), r#"{pod="x"}"#);
}

#[test]
fn a_span_stands_for_a_point_with_what_it_took_in_one_profile() {
    let all = series(&[], Exemplars::Span, &[]);
    assert_eq!(sums(&all), [[(10, 7), (500, 8)]]);
    let points = &all.groups[&Vec::new()];
    let exemplar = points[&10].exemplar.as_ref().unwrap();
    let of = Subject::Span {
        span: 7,
        trace: [0; 16],
    };
    assert_eq!((exemplar.of, exemplar.value, exemplar.time_ms), (of, 6, 10));
    assert_eq!(exemplar.labels.to_string(), r#"{service_name="api"}"#);
    // The sample at 500 ms has no span.
    assert_eq!(points[&500].exemplar, None);
}

fn values(of: HeatmapOf, group_by: &[&str]) -> Vec<(usize, i64, i64)> {
    let what = What::Heatmap(Heatmap {
        group_by: group_by.iter().copied().map(Arc::from).collect(),
        of,
    });
    let Partial::Values(values) = run(&scan("{}", what), &some()).0 else {
        panic!("not values");
    };
    let of_groups = values.groups.values().enumerate();
    of_groups
        .flat_map(|(at, values)| {
            let row = move |(&(ms, _), value): (&(i64, Subject), &Value)| (at, ms, value.value);
            values.iter().map(row)
        })
        .collect()
}

#[test]
fn heatmaps_have_a_value_per_profile_or_per_span_in_a_profile() {
    // The first two rows are one profile unless a label of its series tells them apart.
    assert_eq!(values(HeatmapOf::Profiles, &[]), [(0, 10, 7), (0, 500, 8)]);
    assert_eq!(
        values(HeatmapOf::Profiles, &["pod"]),
        [(0, 10, 3), (0, 500, 8), (1, 10, 4)]
    );
    assert_eq!(values(HeatmapOf::Spans, &[]), [(0, 10, 6)]);
    assert_eq!(values(HeatmapOf::Spans, &["pod"]), [(0, 10, 2), (1, 10, 4)]);
}

#[test]
fn stripped_profiles_count_in_series_alone_and_stand_for_nothing() {
    let mut data = some();
    data.series[1] = Labels::from_pairs([("service_name", "api"), ("__sampled__", "true")]);
    let range = TimeRange {
        start_ms: 10,
        end_ms: 1000,
    };
    let series = |stripped| {
        let what = What::TimeSeries(TimeSeries {
            buckets: Buckets::new(range, 490),
            group_by: Vec::new(),
            exemplars: Exemplars::Individual,
            filter: StackFilter::default(),
            stripped,
        });
        match run(&scan("{}", what), &data).0 {
            Partial::Series(series) => series.groups[&Vec::new()][&10].clone(),
            other => panic!("{other:?}"),
        }
    };
    let without = series(Stripped::LeftOut);
    assert_eq!((without.sum, without.n, without.n_stripped), (3, 1, 0));
    let with = series(Stripped::Counted);
    assert_eq!((with.sum, with.n, with.n_stripped), (7, 2, 1));
    assert_eq!(with.exemplar, without.exemplar);
    let tree = run(&scan("{}", What::Tree(StackFilter::default())), &data).0;
    assert_eq!(folded(&tree), stacks([("main;a", 9), ("main;a;b", 2)]));
}

#[test]
fn samples_that_cannot_be_read_are_an_error_that_says_why() {
    let data = some();
    let mut executor = Executor::new(scan("{}", What::Tree(StackFilter::default())));
    let error = executor.add_rows(&DatasetRows {
        symbols: &data.symbols,
        functions: None,
        series: &data.series,
        kinds: &data.kinds,
        rows: &data.rows,
        streams: &[1],
        samples: &|_, _| Err("a link is outside its table".to_owned()),
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("a link is outside its table"), "{error}");
}

fn texts(what: What) -> Vec<String> {
    match run(&scan("{}", what), &some()).0 {
        Partial::Labels(labels) => labels.texts.iter().map(|t| t.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn labels_include_those_that_follow_from_the_type() {
    assert_eq!(
        texts(What::LabelNames),
        [
            "__period_type__",
            "__period_unit__",
            "__profile_type__",
            "__service_name__",
            "__type__",
            "__unit__",
            "pod",
            "service_name"
        ]
    );
    assert_eq!(texts(What::LabelValues(Arc::from("pod"))), ["x", "y"]);
    assert_eq!(
        texts(What::LabelValues(Arc::from("__profile_type__"))),
        [CPU]
    );
    assert!(texts(What::LabelValues(Arc::from("nope"))).is_empty());
}

#[test]
fn the_catalogue_answers_as_the_rows_do() {
    let names = |names: &[&str]| What::Series(names.iter().copied().map(Arc::from).collect());
    let data = some();
    for (selector, what) in [
        ("{}", names(&["service_name", "__profile_type__"])),
        (r#"{__type__="cpu"}"#, names(&["__unit__"])),
        (r#"{service_name="nope"}"#, names(&["service_name"])),
        ("{}", What::LabelValues(Arc::from("service_name"))),
        (
            "{}",
            names(&[
                "__name__",
                "__profile_type__",
                "__type__",
                "pyroscope_app",
                "service_name",
            ]),
        ),
    ] {
        let scan = scan(selector, what);
        let quick = labels_without_series(&scan, "api", &data.kinds).expect(selector);
        assert_eq!(run(&scan, &data).0, Partial::Labels(quick), "{scan:?}");
    }
    assert_eq!(
        labels_without_series(&scan("{}", names(&["pod"])), "api", &data.kinds),
        None
    );
    assert_eq!(
        labels_without_series(&scan(r#"{pod="x"}"#, names(&["service_name"])), "api", &[]),
        None
    );
    assert_eq!(
        labels_without_series(&scan("{}", What::LabelNames), "api", &[]),
        None
    );
}

#[test]
fn stats_are_the_oldest_and_the_newest() {
    let everything = Scan {
        range: TimeRange::ALL,
        ..scan("{}", What::Stats)
    };
    let (partial, _) = run(&everything, &some());
    let Partial::Stats(stats) = partial else {
        panic!("{partial:?}");
    };
    let ms = stats.times.map(|(a, b)| (a.millis(), b.millis()));
    assert_eq!(ms, Some((10, 1001)));
}

#[test]
fn too_few_samples_are_an_error_and_so_are_unknown_stacks() {
    let data = some();
    let view = DatasetView {
        series: &data.series,
        kinds: &data.kinds,
        rows: &data.rows,
        streams: &[1],
    };
    let functions = FunctionTree::of(&data.symbols);
    let stacks = Stacks {
        symbols: &data.symbols,
        functions: &functions,
        nodes: Some(&[2, 3]),
        function_of: &[2, 3].map(|node| functions.node_of()[node]),
    };
    let mut executor = Executor::new(scan("{}", What::Tree(StackFilter::default())));
    let mut run = executor.start(&view, &[0], &stacks);
    let batch = |stack: u32| SampleBatch {
        stack: vec![stack],
        value: vec![1],
        ..SampleBatch::default()
    };
    assert!(run.add(&batch(2)).is_err());
    let mut run = executor.start(&view, &[0], &stacks);
    run.add(&batch(1)).unwrap();
    assert_eq!(
        executor.finish_run(run, &view, &[0], &stacks),
        Err(ExecError::SampleCount {
            expected: 2,
            seen: 1
        })
    );
}

fn profiles() -> impl Strategy<Value = Vec<Profile>> {
    let sample = (1..5u32, 1..50i64, 0..3u64);
    let profile = (0..2u32, 0..1100i64, proptest::collection::vec(sample, 0..6));
    proptest::collection::vec(profile, 0..12)
}

fn whats() -> Vec<What> {
    let range = TimeRange {
        start_ms: 100,
        end_ms: 900,
    };
    let time_series = |call_site: &[&str]| TimeSeries {
        buckets: Buckets::new(range, 70),
        group_by: vec![Arc::from("pod")],
        exemplars: Exemplars::None,
        stripped: Stripped::LeftOut,
        filter: StackFilter {
            call_site: call_site.iter().copied().map(Arc::from).collect(),
            ..StackFilter::default()
        },
    };
    vec![
        What::LabelNames,
        What::LabelValues(Arc::from("pod")),
        What::Series(Vec::new()),
        What::Tree(StackFilter {
            spans: vec![1],
            ..StackFilter::default()
        }),
        What::Tree(StackFilter::default()),
        What::TimeSeries(time_series(&[])),
        What::TimeSeries(time_series(&["main", "a"])),
        What::TimeSeries(TimeSeries {
            exemplars: Exemplars::Span,
            ..time_series(&[])
        }),
        What::Heatmap(Heatmap {
            group_by: vec![Arc::from("pod")],
            of: HeatmapOf::Spans,
        }),
        What::Stats,
    ]
}

/// One profile per record, numbered from `first`, so that no split cuts a profile in two.
fn records(profiles: &[Profile], first: usize) -> Data {
    let mut data = data(profiles);
    data.rows.seq = (first..)
        .map(|seq| seq as u64)
        .take(profiles.len())
        .collect();
    data
}

#[test]
fn a_span_in_two_profiles_of_one_time_stands_for_a_point_once() {
    let profile = (0, 595, vec![(1, 1, 2)]);
    let spans = whats().into_iter().nth(7).unwrap();
    let (partial, _) = run(&scan("{}", spans), &records(&[profile.clone(), profile], 0));
    let Partial::Series(series) = partial else {
        panic!("{partial:?}");
    };
    let points = series.groups.values().next().unwrap();
    let exemplar = points.values().next().unwrap().exemplar.as_ref();
    assert_eq!(exemplar.unwrap().value, 1);
}

proptest! {
    #[test]
    fn any_split_of_the_data_gives_the_same_answer(profiles in profiles(), cut in 0..12usize) {
        let cut = cut.min(profiles.len());
        for what in whats() {
            let scan = scan("{}", what);
            let whole = run(&scan, &records(&profiles, 0)).0;
            let mut merger = Merger::new(&scan.what);
            for (piece, first) in [(&profiles[cut..], cut), (&profiles[..cut], 0)] {
                let partial = run(&scan, &records(piece, first)).0;
                let travelled = crate::wire::encode_partial(&partial).unwrap();
                merger.add(crate::wire::decode_partial(&travelled).unwrap()).unwrap();
            }
            match (merger.finish().unwrap(), whole) {
                (Partial::Tree(merged), Partial::Tree(whole)) => {
                    prop_assert_eq!(merged.to_folded(), whole.to_folded());
                }
                (merged, whole) => prop_assert_eq!(merged, whole),
            }
        }
    }
}
