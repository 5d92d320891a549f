//! Q1, for every question there is: how profiles are spread over blocks as they were flushed, over
//! blocks that merges made of them once and twice, with roll-ups, over the datasets of a block and
//! over what no block holds yet does not show in any answer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    reason = "other tests use what this one does not of the world that they share"
)]
mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use scoria_proto::public::google::v1::Profile as Pprof;
use scoria_querier::{Answer, Merged, QueryError};
use scoria_query::render::decode_tree;
use scoria_query::request::{
    Aggregation, Diff, GetProfileStats, LabelNames, LabelValues, NameForm, ProfileFormat,
    ProfileTypes, SelectHeatmap, SelectMergeStacktraces, SelectSeries, Series,
};
use scoria_query::scan::{Exemplars, HeatmapOf};

use scoria_block::EncodedBlock;
use scoria_model::Timestamp;
use support::{
    ALLOC, CPU, Dataset, HEAP, Record, START_MS, World, dataset_of, merged as merge, stream, tenant,
};

const STACKS: [&str; 6] = [
    "main",
    "main;work",
    "main;work;leaf",
    "main;other",
    "main;work;work",
    "serve;main",
];

/// Most profiles of a case.
const MOST: usize = 40;
/// Profiles lie in the buckets of five minutes that begin 100, 400 and 700 s after the start, and
/// on both sides of them.
const N_TIMES: i64 = 56;
const TIME_MS: i64 = 20_000;

/// A profile and the service that it is of.
type Told = (&'static str, Record);

/// Profiles in the order of their records, of two services.
fn profiles() -> impl Strategy<Value = Vec<Told>> {
    let sample = (0..STACKS.len(), 1..50i64, 0..3u64);
    // Many are alike, or there would be nothing to roll up.
    let alike = (0..4usize, 0..6usize, 0..5usize);
    let profile = (alike, 0..N_TIMES, vec(sample, 1..6));
    vec(profile, 1..MOST).prop_map(|told| {
        let told = told.into_iter().zip(1..);
        told.map(|((alike, time, samples), seq)| {
            let (service, kind, pod) = alike;
            // Allocations of one process are marked as counting from its start.
            let kinds = [CPU, CPU, CPU, CPU, HEAP, ALLOC];
            let mut labels = vec![("pod", ["a", "a", "a", "b", "c"][pod])];
            if kinds[kind] == ALLOC && pod < 3 {
                labels.push(("__cumulative__", "true"));
            }
            // A profile has each pair of stack and span once.
            let samples: BTreeMap<(usize, u64), i64> = samples
                .into_iter()
                .map(|(stack, value, span)| ((stack, span), value))
                .collect();
            let record = Record {
                seq,
                kind: kinds[kind],
                labels,
                ms: time * TIME_MS,
                samples: samples
                    .into_iter()
                    .map(|((stack, span), value)| (STACKS[stack], value, span))
                    .collect(),
            };
            (["api", "api", "api", "web"][service], record)
        })
        .collect()
    })
}

/// The datasets of these profiles, sorted by service.
fn datasets(told: &[Told]) -> Vec<Dataset> {
    ["api", "web"]
        .into_iter()
        .filter_map(|service| {
            let of = told.iter().filter(|(s, _)| *s == service);
            let records: Vec<Record> = of.map(|(_, record)| record.clone()).collect();
            (!records.is_empty()).then(|| dataset_of("one", service, &records))
        })
        .collect()
}

/// How far records lie in blocks as flushed, then in blocks merged once, then in a block merged
/// twice; the rest is in a head.
type Cuts = [usize; 3];

fn block(world: &World, told: &[Told], (from, to): (usize, usize)) -> Option<EncodedBlock> {
    let datasets = datasets(&told[from..to]);
    let records = (from as u64, to as u64);
    (!datasets.is_empty()).then(|| world.encode(1, records, &datasets))
}

/// The block that a merge makes of those that there are.
fn merged_block(
    level: u8,
    (from, to): (usize, usize),
    blocks: impl IntoIterator<Item = Option<EncodedBlock>>,
) -> Option<EncodedBlock> {
    let blocks: Vec<EncodedBlock> = blocks.into_iter().flatten().collect();
    let records = (from as u64, to as u64);
    (!blocks.is_empty()).then(|| merge(level, records, &blocks, &["pod"]))
}

/// The block merged once of the two halves of a range.
fn of_halves(world: &World, told: &[Told], (from, to): (usize, usize)) -> Option<EncodedBlock> {
    let half = from.midpoint(to);
    let halves = [(from, half), (half, to)].map(|range| block(world, told, range));
    merged_block(1, (from, to), halves)
}

async fn world(told: &[Told], [flushed, once, twice]: Cuts) -> World {
    let world = World::new().await;
    world.open_stream(1).await;
    let pieces = [(0, flushed / 2), (flushed / 2, flushed)];
    let mut blocks = pieces
        .map(|range| (range, block(&world, told, range)))
        .to_vec();
    let range = (flushed, once);
    blocks.push((range, of_halves(&world, told, range)));
    let range = (once, twice);
    let half = once.midpoint(twice);
    let halves = [(once, half), (half, twice)].map(|range| of_halves(&world, told, range));
    blocks.push((range, merged_block(2, range, halves)));
    for ((from, to), block) in blocks {
        if let Some(block) = block {
            let records = (from as u64, to as u64);
            world.flush_block(1, records, block).await;
        }
    }
    let n = told.len() as u64;
    let tail = datasets(&told[twice..]);
    world.serve(&tail, &[(stream(1), twice as u64 + 1, n)]);
    world
}

fn now() -> Timestamp {
    Timestamp::from_millis(START_MS + 3_600_000)
}

/// What clients see of all answers, by the question.
type Answers = BTreeMap<String, String>;

fn note<T: Debug>(into: &mut Answers, question: impl Debug, answer: Result<Answer<T>, QueryError>) {
    let answer = answer.unwrap();
    assert_eq!(answer.stats.missing.n, 0);
    into.insert(format!("{question:?}"), format!("{:?}", answer.value));
}

/// The range cuts into the data at both ends, and into buckets.
const RANGE: (i64, i64) = (START_MS + 50_000, START_MS + 1_050_000);

fn stacktraces() -> Vec<SelectMergeStacktraces> {
    let ask = |kind: &str, selector: &str| SelectMergeStacktraces {
        profile_type: kind.to_owned(),
        label_selector: selector.to_owned(),
        start_ms: RANGE.0,
        end_ms: RANGE.1,
        ..SelectMergeStacktraces::default()
    };
    let all = SelectMergeStacktraces {
        start_ms: START_MS,
        end_ms: START_MS + N_TIMES * TIME_MS,
        ..ask(CPU, "{}")
    };
    vec![
        ask(CPU, "{}"),
        ask(HEAP, r#"{service_name="api"}"#),
        ask(ALLOC, r#"{pod!="c"}"#),
        SelectMergeStacktraces {
            max_nodes: Some(2),
            ..ask(CPU, "{}")
        },
        SelectMergeStacktraces {
            call_site: vec!["main".to_owned(), "work".to_owned()],
            ..all.clone()
        },
        SelectMergeStacktraces {
            span_ids: vec!["0100000000000000".to_owned()],
            ..all.clone()
        },
        all,
    ]
}

/// Leaf-first stacks of a pprof with their values, and what it says of itself.
fn pprof(bytes: &[u8]) -> String {
    let profile = <Pprof as buffa::Message>::decode_from_slice(bytes).unwrap();
    let text = |at: i64| profile.string_table[at as usize].as_str();
    let mut stacks: BTreeMap<Vec<&str>, i64> = BTreeMap::new();
    for sample in &profile.sample {
        let frames = sample.location_id.iter().flat_map(|id| {
            let location = profile.location.iter().find(|l| l.id == *id).unwrap();
            location.line.iter().map(|line| {
                let function = profile.function.iter().find(|f| f.id == line.function_id);
                text(function.unwrap().name)
            })
        });
        let sum = stacks.entry(frames.collect()).or_default();
        *sum += sample.value[0];
    }
    let kinds = profile.sample_type.iter().map(|t| text(t.r#type));
    format!(
        "{stacks:?} {:?} {}",
        kinds.collect::<Vec<_>>(),
        profile.period
    )
}

fn shown(merged: Merged) -> String {
    match merged {
        Merged::Pprof(bytes) if bytes.is_empty() => "no pprof".to_owned(),
        Merged::Pprof(bytes) => pprof(&bytes),
        other => format!("{other:?}"),
    }
}

async fn labels(world: &World, into: &mut Answers) {
    let (one, now, querier) = (tenant("one"), now(), &world.querier);
    let (start_ms, end_ms) = RANGE;
    let types = ProfileTypes { start_ms, end_ms };
    note(into, types, querier.profile_types(&one, &types, now).await);
    for selector in ["{}", r#"{service_name="api"}"#, r#"{pod=~"a|b"}"#] {
        let names = LabelNames {
            matchers: vec![selector.to_owned()],
            start_ms,
            end_ms,
            names: NameForm::Any,
        };
        note(into, &names, querier.label_names(&one, &names, now).await);
        for name in ["pod", "service_name", "__profile_type__", "__cumulative__"] {
            let values = LabelValues {
                name: name.to_owned(),
                matchers: vec![selector.to_owned()],
                start_ms,
                end_ms,
            };
            note(
                into,
                &values,
                querier.label_values(&one, &values, now).await,
            );
        }
        for label_names in [&[][..], &["pod"], &["pod", "__type__", "nothing"]] {
            let series = Series {
                matchers: vec![selector.to_owned()],
                label_names: label_names.iter().map(|&name| name.to_owned()).collect(),
                start_ms,
                end_ms,
                names: NameForm::Any,
            };
            note(into, &series, querier.series(&one, &series, now).await);
        }
    }
    let stats = querier.get_profile_stats(&one, &GetProfileStats).await;
    note(into, "stats", stats);
}

async fn merged(world: &World, into: &mut Answers) {
    let (one, now, querier) = (tenant("one"), now(), &world.querier);
    for request in stacktraces() {
        for format in [
            ProfileFormat::Flamegraph,
            ProfileFormat::Tree,
            ProfileFormat::Dot,
            ProfileFormat::Pprof,
            ProfileFormat::Functions,
        ] {
            let request = SelectMergeStacktraces {
                format,
                ..request.clone()
            };
            let answer = querier.select_merge_stacktraces(&one, &request, now).await;
            let answer = answer.unwrap();
            truncation_keeps_totals(world, &request, &answer.value).await;
            into.insert(format!("{request:?}"), shown(answer.value));
        }
        note(
            into,
            ("top", &request),
            querier.top(&one, &request, now).await,
        );
        let diff = Diff {
            left: Some(request.clone()),
            right: Some(stacktraces().remove(0)),
        };
        note(into, &diff, querier.diff(&one, &diff, now).await);
    }
}

/// Q3, beside: whatever is cut, an answer has the total of the uncut tree.
async fn truncation_keeps_totals(world: &World, request: &SelectMergeStacktraces, got: &Merged) {
    let one = tenant("one");
    let uncut = world.querier.tree(&one, request, now()).await.unwrap();
    let total = uncut.value.total();
    match got {
        Merged::Flamegraph(graph) => {
            assert_eq!(graph.total, total);
            assert_eq!(graph.levels[0][1], total);
        }
        Merged::Tree(bytes) => assert_eq!(decode_tree(bytes).unwrap().total(), total),
        Merged::Functions(table) => assert_eq!(table.total, total),
        Merged::Dot(_) | Merged::Pprof(_) => {}
    }
}

async fn over_time(world: &World, into: &mut Answers) {
    let (one, now, querier) = (tenant("one"), now(), &world.querier);
    let group_bys: [&[&str]; 3] = [&[], &["pod"], &["service_name", "pod"]];
    for (kind, group_by) in [CPU, ALLOC]
        .into_iter()
        .flat_map(|k| group_bys.map(|g| (k, g)))
    {
        let group_by: Vec<String> = group_by.iter().map(|&name| name.to_owned()).collect();
        for exemplars in [Exemplars::None, Exemplars::Individual, Exemplars::Span] {
            for (call_site, limit) in [(&[][..], None), (&["main", "work"], Some(2))] {
                let request = SelectSeries {
                    profile_type: kind.to_owned(),
                    label_selector: "{}".to_owned(),
                    start_ms: RANGE.0,
                    end_ms: RANGE.1,
                    group_by: group_by.clone(),
                    step_s: 70.0,
                    aggregation: match limit {
                        None => Aggregation::default(),
                        Some(_) => Aggregation::Average,
                    },
                    call_site: call_site.iter().map(|&name| name.to_owned()).collect(),
                    limit,
                    exemplars,
                };
                note(
                    into,
                    &request,
                    querier.select_series(&one, &request, now).await,
                );
            }
        }
        for of in [HeatmapOf::Profiles, HeatmapOf::Spans] {
            let request = SelectHeatmap {
                profile_type: kind.to_owned(),
                label_selector: "{}".to_owned(),
                start_ms: RANGE.0,
                end_ms: RANGE.1,
                step_s: 70.0,
                group_by: group_by.clone(),
                of: Some(of),
                exemplars: match of {
                    HeatmapOf::Profiles => Exemplars::Individual,
                    HeatmapOf::Spans => Exemplars::Span,
                },
                limit: Some(3),
            };
            note(
                into,
                &request,
                querier.select_heatmap(&one, &request, now).await,
            );
        }
    }
}

async fn ask_everything(world: &World) -> Answers {
    let mut answers = Answers::new();
    labels(world, &mut answers).await;
    merged(world, &mut answers).await;
    over_time(world, &mut answers).await;
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn q1_no_answer_depends_on_where_profiles_lie(
        told in profiles(),
        cuts in proptest::array::uniform3(0..MOST),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let n = told.len();
        let mut cuts = cuts.map(|cut| cut.min(n));
        cuts.sort_unstable();
        // All as flushed, all in a head, all merged once and twice, and some of each.
        let splits = [[n; 3], [0; 3], [0, n, n], [0, 0, n], cuts];
        let mut expected: Option<Answers> = None;
        for cuts in splits {
            let answers = runtime.block_on(async {
                let world = world(&told, cuts).await;
                let first = ask_everything(&world).await;
                // And neither on what caches hold by now.
                assert_eq!(ask_everything(&world).await, first);
                first
            });
            let Some(expected) = &expected else {
                expected = Some(answers);
                continue;
            };
            for (question, answer) in expected {
                prop_assert_eq!(&answers[question], answer, "cut at {:?}: {}", cuts, question);
            }
        }
    }
}

/// Or the property above would say nothing about roll-ups.
#[tokio::test]
async fn merged_blocks_answer_from_their_roll_ups() {
    let told: Vec<Told> = (0..N_TIMES)
        .map(|time| {
            let record = Record {
                seq: time as u64 + 1,
                kind: CPU,
                labels: vec![("pod", "a")],
                ms: time * TIME_MS,
                samples: vec![("main;work", 1, 0)],
            };
            ("api", record)
        })
        .collect();
    let n = told.len();
    for (cuts, rolled) in [
        ([n, n, n], 0),
        ([0, n, n], 1),
        ([0, 0, n], 1),
        ([0, n / 2, n], 2),
    ] {
        let world = world(&told, cuts).await;
        let request = stacktraces().remove(0);
        let answer = world.querier.tree(&tenant("one"), &request, now()).await;
        assert_eq!(answer.unwrap().stats.rolled, rolled, "{cuts:?}");
    }
}
