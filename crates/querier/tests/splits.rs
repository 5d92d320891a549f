//! Q1, for every question there is: how profiles are spread over blocks, over the datasets of a
//! block and over what no block holds yet does not show in any answer.

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

use support::{
    ALLOC, CPU, Dataset, HEAP, Record, START_MS, World, dataset_of, now, stream, tenant,
};

const STACKS: [&str; 6] = [
    "main",
    "main;work",
    "main;work;leaf",
    "main;other",
    "main;work;work",
    "serve;main",
];

/// A profile and the service that it is of.
type Told = (&'static str, Record);

/// Profiles in the order of their records, of two services.
fn profiles() -> impl Strategy<Value = Vec<Told>> {
    let sample = (0..STACKS.len(), 1..50i64, 0..3u64);
    let profile = (0..2usize, 0..4usize, 0..3usize, 0..60i64, vec(sample, 1..6));
    vec(profile, 1..14).prop_map(|told| {
        let told = told.into_iter().zip(1..);
        told.map(|((service, kind, pod, tenths, samples), seq)| {
            // Allocations of one process are marked as counting from its start.
            let kinds = [CPU, CPU, HEAP, ALLOC];
            let mut labels = vec![("pod", ["a", "b", "c"][pod])];
            if kinds[kind] == ALLOC && pod == 0 {
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
                ms: tenths * 1000,
                samples: samples
                    .into_iter()
                    .map(|((stack, span), value)| (STACKS[stack], value, span))
                    .collect(),
            };
            (["api", "web"][service], record)
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

/// Records up to the first cut in one block, up to the second in another, the rest in a head.
async fn world(told: &[Told], cuts: (usize, usize)) -> World {
    let world = World::new().await;
    world.open_stream(1).await;
    let n = told.len() as u64;
    for (from, to) in [(0, cuts.0), (cuts.0, cuts.1)] {
        let datasets = datasets(&told[from..to]);
        if !datasets.is_empty() {
            world.flush(1, (from as u64, to as u64), &datasets).await;
        }
    }
    let tail = datasets(&told[cuts.1..]);
    world.serve(&tail, &[(stream(1), cuts.1 as u64 + 1, n)]);
    world
}

/// What clients see of all answers, by the question.
type Answers = BTreeMap<String, String>;

fn note<T: Debug>(into: &mut Answers, question: impl Debug, answer: Result<Answer<T>, QueryError>) {
    let answer = answer.unwrap();
    assert_eq!(answer.stats.missing.n, 0);
    into.insert(format!("{question:?}"), format!("{:?}", answer.value));
}

/// The range cuts into the data at both ends.
const RANGE: (i64, i64) = (START_MS + 5_000, START_MS + 50_000);

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
        end_ms: START_MS + 60_000,
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
                    step_s: 7.0,
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
                step_s: 7.0,
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
        one in 0..14usize,
        other in 0..14usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let n = told.len();
        let (one, other) = (one.min(n), other.min(n));
        let splits = [(n, n), (0, 0), (one.min(other), one.max(other))];
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
