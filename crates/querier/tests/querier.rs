//! The querier over a store in memory and an ingester in the same process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    reason = "other tests use what this one does not of the world that they share"
)]
mod support;

use object_store::ObjectStoreExt;
use scoria_block::Table;
use scoria_querier::{ErrorKind, Merged, Mode, Progress, QueryError};
use scoria_query::request::{
    AnalyzeQuery, Diff, GetProfileStats, LabelNames, LabelValues, ProfileFormat, ProfileTypes,
    SelectHeatmap, SelectMergeStacktraces, SelectSeries, Series,
};
use scoria_query::scan::{Exemplars, HeatmapOf};
use scoria_storage::keys;

use support::{CPU, Dataset, HEAP, START_MS, World, dataset, now, stream, tenant};

fn ask(kind: &str, selector: &str) -> SelectMergeStacktraces {
    SelectMergeStacktraces {
        profile_type: kind.to_owned(),
        label_selector: selector.to_owned(),
        start_ms: START_MS,
        end_ms: START_MS + 600_000,
        ..SelectMergeStacktraces::default()
    }
}

async fn folded(world: &World, tenants: &str, request: &SelectMergeStacktraces) -> String {
    let answer = world.querier.tree(&tenant(tenants), request, now()).await;
    let stacks = answer.unwrap().value.to_folded();
    let lines: Vec<String> = stacks.iter().map(|(s, v)| format!("{s} {v}")).collect();
    lines.join(", ")
}

fn api() -> Dataset {
    dataset(
        "one",
        "api",
        &[
            ("a", CPU, 1000, vec![("main;work", 10), ("main", 1)]),
            ("b", CPU, 2000, vec![("main;work;leaf", 5)]),
            ("a", HEAP, 3000, vec![("main;alloc", 4096)]),
            ("a", HEAP, 4000, vec![("main;alloc", 1024), ("main", 8)]),
        ],
    )
}

fn recent() -> Dataset {
    dataset(
        "one",
        "api",
        &[(
            "c",
            CPU,
            20_000,
            vec![("main;other_work", 7), ("main;work", 100)],
        )],
    )
}

/// A block with records up to 4 and an ingester with what came after.
async fn world() -> World {
    let world = World::new().await;
    world.open_stream(1).await;
    let web = dataset("one", "web", &[("a", CPU, 1000, vec![("serve", 50)])]);
    let two = dataset("two", "api", &[("z", CPU, 1000, vec![("main;two", 3)])]);
    world.flush(1, (0, 4), &[api(), web, two]).await;
    world.serve(&[recent()], &[(stream(1), 5, 5)]);
    world
}

#[tokio::test]
async fn blocks_and_tails_are_one_answer() {
    let world = world().await;
    assert_eq!(
        folded(&world, "one", &ask(CPU, r#"{service_name="api"}"#)).await,
        "main 1, main;other_work 7, main;work 110, main;work;leaf 5"
    );
    assert_eq!(
        folded(&world, "one", &ask(HEAP, "{}")).await,
        "main 8, main;alloc 5120"
    );
    assert_eq!(
        folded(&world, "one", &ask(CPU, r#"{pod="b"}"#)).await,
        "main;work;leaf 5"
    );
    let mut early = ask(CPU, "{}");
    early.end_ms = START_MS + 1000;
    assert_eq!(
        folded(&world, "one", &early).await,
        "main 1, main;work 10, serve 50"
    );
    assert_eq!(
        folded(&world, "two|one", &early).await,
        "main 1, main;two 3, main;work 10, serve 50"
    );
    assert_eq!(folded(&world, "none", &early).await, "");
}

#[tokio::test]
async fn every_format_and_what_it_took() {
    let world = world().await;
    let mut request = ask(CPU, r#"{service_name="api"}"#);
    for format in [
        ProfileFormat::Flamegraph,
        ProfileFormat::Tree,
        ProfileFormat::Dot,
        ProfileFormat::Functions,
        ProfileFormat::Pprof,
    ] {
        request.format = format;
        let one = tenant("one");
        let ask = world
            .querier
            .select_merge_stacktraces(&one, &request, now());
        let answer = ask.await.unwrap();
        match answer.value {
            Merged::Flamegraph(graph) => assert_eq!((graph.total, graph.names.len()), (123, 5)),
            Merged::Tree(bytes) => {
                assert_eq!(
                    scoria_query::render::decode_tree(&bytes).unwrap().total(),
                    123
                );
            }
            Merged::Dot(text) => assert!(text.contains("main"), "{text}"),
            Merged::Functions(table) => assert_eq!((table.total, table.n), (123, 4)),
            Merged::Pprof(bytes) => assert!(bytes.len() > 50),
        }
        assert_eq!((answer.stats.blocks, answer.stats.datasets), (1, 1));
        // A flame graph leaves the dataset's answer behind for what else is made of the same.
        let kept = !matches!(format, ProfileFormat::Flamegraph | ProfileFormat::Pprof);
        let took = if kept { (1, 2, 1) } else { (3, 5, 0) };
        let stats = &answer.stats;
        assert_eq!((stats.profiles, stats.samples, stats.result_hits), took);
        assert_eq!(answer.stats.ingesters, 1);
    }
    let again = world
        .querier
        .tree(&tenant("one"), &request, now())
        .await
        .unwrap();
    assert_eq!((again.stats.requests, again.stats.bytes_fetched), (0, 0));
    assert_eq!(again.stats.result_hits, 1);
    // A range that cuts into the dataset has to look at it again, and finds it decoded.
    request.end_ms = START_MS + 1000;
    let cut = world
        .querier
        .tree(&tenant("one"), &request, now())
        .await
        .unwrap();
    assert_eq!((cut.value.total(), cut.stats.result_hits), (11, 0));
    assert_eq!((cut.stats.decoded_hits, cut.stats.requests), (2, 0));
    drop((again, cut));
    world.all_memory_came_back().await;
}

#[tokio::test]
async fn labels_types_series_and_stats() {
    let world = world().await;
    let one = tenant("one");
    let (start_ms, end_ms) = (START_MS, START_MS + 600_000);
    let types = ProfileTypes { start_ms, end_ms };
    let types = world
        .querier
        .profile_types(&one, &types, now())
        .await
        .unwrap()
        .value;
    let ids: Vec<String> = types.iter().map(ToString::to_string).collect();
    assert_eq!(ids, [HEAP, CPU]);
    let names = LabelNames {
        matchers: vec![r#"{service_name="web"}"#.to_owned()],
        start_ms,
        end_ms,
        ..LabelNames::default()
    };
    let names = world
        .querier
        .label_names(&one, &names, now())
        .await
        .unwrap()
        .value;
    assert!(names.contains(&"pod".to_owned()) && names.contains(&"__type__".to_owned()));
    let pods = LabelValues {
        name: "pod".to_owned(),
        start_ms,
        end_ms,
        ..LabelValues::default()
    };
    let pods = world
        .querier
        .label_values(&one, &pods, now())
        .await
        .unwrap()
        .value;
    assert_eq!(pods, ["a", "b", "c"]);
    let series = Series {
        label_names: vec!["service_name".to_owned(), "__profile_type__".to_owned()],
        start_ms,
        end_ms,
        ..Series::default()
    };
    let landing = world.querier.series(&one, &series, now()).await.unwrap();
    let sets: Vec<String> = landing.value.iter().map(ToString::to_string).collect();
    assert_eq!(sets.len(), 3, "{sets:?}");
    // The catalogue knows them all, also of blocks that the range cuts.
    assert_eq!(landing.stats.requests, 0);
    let cut = Series {
        end_ms: START_MS + 1000,
        ..series
    };
    let cut = world.querier.series(&one, &cut, now()).await.unwrap();
    assert_eq!((cut.value.len(), cut.stats.requests), (3, 0));
    let stats = world
        .querier
        .get_profile_stats(&one, &GetProfileStats)
        .await
        .unwrap();
    assert!(stats.value.data_ingested);
    assert_eq!(stats.value.oldest_ms, START_MS + 1000);
    assert_eq!(stats.value.newest_ms, START_MS + 20_000);
    let both = world
        .querier
        .get_profile_stats(&tenant("one|two"), &GetProfileStats)
        .await;
    assert_eq!(both.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn points_over_time_and_under_a_call_site() {
    let world = world().await;
    let mut request = SelectSeries {
        profile_type: CPU.to_owned(),
        label_selector: r#"{service_name="api"}"#.to_owned(),
        start_ms: START_MS,
        end_ms: START_MS + 60_000,
        step_s: 10.0,
        group_by: vec!["pod".to_owned()],
        ..SelectSeries::default()
    };
    let ask = |request: SelectSeries| {
        let querier = world.querier.clone();
        async move {
            let answer = querier.select_series(&tenant("one"), &request, now()).await;
            let series = answer.unwrap().value.into_iter();
            let points = series.map(|s| {
                let points = s.points.iter();
                let points = points.map(|p| (p.timestamp_ms - START_MS, p.value));
                (s.labels[0].value.to_string(), points.collect::<Vec<_>>())
            });
            points.collect::<Vec<_>>()
        }
    };
    assert_eq!(
        ask(request.clone()).await,
        [
            ("c".to_owned(), vec![(20_000, 107.0)]),
            ("a".to_owned(), vec![(10_000, 11.0)]),
            ("b".to_owned(), vec![(10_000, 5.0)]),
        ]
    );
    request.call_site = ["main", "work"].map(str::to_owned).to_vec();
    request.limit = Some(2);
    assert_eq!(
        ask(request).await,
        [
            ("c".to_owned(), vec![(20_000, 100.0)]),
            ("a".to_owned(), vec![(10_000, 10.0)]),
        ]
    );
}

#[tokio::test]
async fn two_sides() {
    let world = world().await;
    let request = Diff {
        left: Some(ask(CPU, r#"{pod="b"}"#)),
        right: Some(ask(CPU, r#"{pod="c"}"#)),
    };
    let diff = world
        .querier
        .diff(&tenant("one"), &request, now())
        .await
        .unwrap()
        .value;
    assert_eq!((diff.left_ticks, diff.right_ticks), (5, 107));
    let half = Diff {
        left: None,
        ..request
    };
    let error = world
        .querier
        .diff(&tenant("one"), &half, now())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_flush_between_pin_and_question_is_noticed() {
    let world = world().await;
    let request = ask(CPU, r#"{service_name="api"}"#);
    let before = folded(&world, "one", &request).await;
    // The ingester flushes and drops what the querier's version of the catalogue still needs.
    world.flush(1, (4, 5), &[recent()]).await;
    world.serve(&[], &[(stream(1), 6, 5)]);
    assert_eq!(folded(&world, "one", &request).await, before);
    // It opens another stream that the querier does not know yet.
    world.open_stream(2).await;
    let more = dataset("one", "api", &[("d", CPU, 30_000, vec![("main", 1000)])]);
    world.serve(&[more], &[(stream(1), 6, 5), (stream(2), 1, 1)]);
    assert!(
        folded(&world, "one", &request)
            .await
            .starts_with("main 1001, ")
    );
}

#[tokio::test]
async fn what_is_missing_is_an_error_that_names_it() {
    let world = world().await;
    let request = ask(CPU, "{}");
    let failed = || async {
        let answer = world.querier.tree(&tenant("one"), &request, now()).await;
        let error = answer.unwrap_err();
        (error.kind(), error.to_string())
    };
    world.serve(&[recent()], &[]);
    let (kind, text) = failed().await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains(&stream(1).to_string()), "{text}");

    world.serve(&[recent()], &[(stream(1), 9, 9)]);
    let (kind, text) = failed().await;
    assert_eq!(kind, ErrorKind::Unavailable, "{text}");

    world.ingester.0.lock().down = true;
    let (kind, text) = failed().await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("ingester node"), "{text}");
    world.all_memory_came_back().await;
}

#[tokio::test]
async fn a_block_that_is_damaged_or_lost_is_named() {
    for damage in ["flip", "delete"] {
        let world = World::new().await;
        world.open_stream(1).await;
        let id = world.flush(1, (0, 4), &[api()]).await;
        world.serve(&[], &[(stream(1), 5, 4)]);
        let key = keys::table(id, Table::Samples);
        if damage == "flip" {
            let bytes = world.store.get(&key).await.unwrap().bytes().await.unwrap();
            let mut bytes = bytes.to_vec();
            bytes[20] ^= 1;
            world.store.put(&key, bytes.into()).await.unwrap();
        } else {
            world.store.delete(&key).await.unwrap();
        }
        let request = ask(CPU, "{}");
        let error = world
            .querier
            .tree(&tenant("one"), &request, now())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataCorrupt, "{error}");
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
}

#[tokio::test]
async fn memory_is_asked_for_before_anything_is_read() {
    let world = World::with_memory(64).await;
    world.open_stream(1).await;
    world.flush(1, (0, 4), &[api()]).await;
    world.serve(&[], &[(stream(1), 5, 4)]);
    let request = ask(CPU, "{}");
    // The querier's handle has not seen the block yet; the refusal of its tail makes it look.
    let error = world
        .querier
        .tree(&tenant("one"), &request, now())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let text = error.to_string();
    assert!(
        text.contains("queries") && text.contains("of 64 in use"),
        "{text}"
    );
    world.all_memory_came_back().await;
}

#[tokio::test]
async fn queries_can_be_spawned() {
    let world = world().await;
    let querier = world.querier.clone();
    let request = ask(CPU, "{}");
    let task = tokio::spawn(async move {
        let tenants = tenant("one");
        querier.top(&tenants, &request, now()).await
    });
    let rows = task.await.unwrap().unwrap().value;
    assert_eq!(
        (rows[0].name.as_str(), rows[0].own, rows[0].total),
        ("work", 110, 115)
    );
}

#[tokio::test]
async fn a_plan_costs_nothing_and_says_what_the_answer_would() {
    let world = world().await;
    let request = ask(CPU, r#"{service_name="api"}"#);
    let one = tenant("one");
    let plans = world.querier.in_mode(Mode::Plan);
    // The handle on the catalogue sees the block once a query has asked for news.
    world.querier.tree(&one, &request, now()).await.unwrap();
    world.all_memory_came_back().await;
    let planned = plans.tree(&one, &request, now()).await.unwrap();
    assert!(planned.value.is_empty());
    let cost = planned.stats.plan.unwrap();
    assert_eq!((cost.blocks, cost.datasets, cost.ingesters), (1, 1, 1));
    // A series is one label set, and the name of the type is among the labels.
    assert_eq!((cost.series, cost.profiles), (3, 4));
    assert!(cost.samples >= 3 && cost.bytes() > 0 && cost.memory_bytes > 0);
    assert_eq!((planned.stats.requests, planned.stats.samples), (0, 0));
    world.all_memory_came_back().await;
    let both = Diff {
        left: Some(request.clone()),
        right: Some(request.clone()),
    };
    let both = plans.diff(&one, &both, now()).await.unwrap();
    assert_eq!(both.stats.plan.unwrap().datasets, 2);
    let analysis = AnalyzeQuery {
        query: CPU.to_owned(),
        start_ms: request.start_ms,
        end_ms: request.end_ms,
    };
    let analysis = world.querier.analyze(&one, &analysis, now()).unwrap().value;
    assert_eq!((analysis.blocks, analysis.datasets), (1, 2));
}

#[tokio::test]
async fn a_partial_answer_is_asked_for_and_names_what_it_lacks() {
    let world = world().await;
    let request = ask(CPU, r#"{service_name="api"}"#);
    let one = tenant("one");
    let partial = world.querier.in_mode(Mode::Partial);
    let whole = partial.tree(&one, &request, now()).await.unwrap();
    assert_eq!((whole.value.total(), whole.stats.missing.n), (123, 0));

    world.ingester.0.lock().down = true;
    let answer = partial.tree(&one, &request, now()).await.unwrap();
    assert_eq!(answer.value.total(), 16);
    let named = &answer.stats.missing.named;
    assert!(
        named.iter().any(|m| m.contains("ingester node")),
        "{named:?}"
    );
    assert!(
        named.iter().any(|m| m.contains(&stream(1).to_string())),
        "{named:?}"
    );
}

#[tokio::test]
async fn heatmaps_count_profiles() {
    let world = world().await;
    let request = SelectHeatmap {
        profile_type: CPU.to_owned(),
        label_selector: "{}".to_owned(),
        start_ms: START_MS,
        end_ms: START_MS + 60_000,
        step_s: 30.0,
        group_by: vec!["service_name".to_owned()],
        of: Some(HeatmapOf::Profiles),
        exemplars: Exemplars::Individual,
        limit: None,
    };
    let answer = world
        .querier
        .select_heatmap(&tenant("one"), &request, now())
        .await
        .unwrap();
    let series = &answer.value;
    assert_eq!(&*series[0].labels[0].value, "api");
    let slot = &series[0].slots[0];
    assert_eq!(slot.timestamp_ms, START_MS + 30_000);
    assert_eq!(slot.counts.iter().sum::<i32>(), 3);
    assert_eq!(slot.exemplars.last().unwrap().value, 107);
    // Profile rows are enough.
    assert_eq!(answer.stats.samples, 0);
}

#[tokio::test]
async fn a_query_whose_client_goes_away_gives_everything_back() {
    let world = world().await;
    let request = ask(CPU, "{}");
    for polls in 0..40 {
        let one = tenant("one");
        let mut query = Box::pin(world.querier.tree(&one, &request, now()));
        // Somewhere on its way, each time a little further.
        for _ in 0..polls {
            if futures::poll!(&mut query).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(query);
        world.all_memory_came_back().await;
    }
    assert_eq!(
        folded(&world, "one", &ask(HEAP, "{}")).await,
        "main 8, main;alloc 5120"
    );
}

/// A service with so many distinct stacktraces that drawing them takes more than finding them.
async fn wide() -> World {
    const STACKS: usize = 20_000;
    let leaked = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let stacks = (0..STACKS).map(|at| (leaked(format!("main;f{};g{at}", at % 100)), 1 + at as i64));
    let data = dataset("one", "api", &[("a", CPU, 1000, stacks.collect())]);
    let world = World::new().await;
    world.open_stream(1).await;
    world.flush(1, (0, 1), &[data]).await;
    world.serve(&[], &[(stream(1), 2, 1)]);
    world
}

/// A question by its name: what its answer holds while it is there.
async fn held_by(world: &World, question: &str) -> Result<u64, QueryError> {
    let one = tenant("one");
    let mut request = ask(CPU, "{}");
    let querier = &world.querier;
    let held = || world.memory.used();
    let format = match question {
        "tree" => {
            return querier
                .tree(&one, &request, now())
                .await
                .map(|_answer| held());
        }
        "top" => {
            return querier
                .top(&one, &request, now())
                .await
                .map(|_answer| held());
        }
        "diff" => {
            let sides = Diff {
                left: Some(request.clone()),
                right: Some(request),
            };
            return querier
                .diff(&one, &sides, now())
                .await
                .map(|_answer| held());
        }
        "flame graph" => ProfileFormat::Flamegraph,
        "tree bytes" => ProfileFormat::Tree,
        "dot" => ProfileFormat::Dot,
        _ => ProfileFormat::Pprof,
    };
    request.format = format;
    let answer = querier
        .select_merge_stacktraces(&one, &request, now())
        .await;
    answer.map(|_answer| held())
}

/// What has begun on a thread of its own holds its memory until it ends, which may be a moment after
/// the question has ended.
async fn all_is_given_back(world: &World, question: &str) {
    for _ in 0..1000 {
        if world.memory.used() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{question} keeps {} bytes", world.memory.used());
}

#[tokio::test]
async fn what_an_answer_is_drawn_with_is_accounted_for_and_can_be_refused() {
    let world = wide().await;
    let of_tree = held_by(&world, "tree").await.unwrap();
    assert!(of_tree > 0);
    let plan = world.querier.in_mode(Mode::Plan);
    let plan = plan.tree(&tenant("one"), &ask(CPU, "{}"), now()).await;
    let scanned = plan.unwrap().stats.plan.unwrap().memory_bytes;
    for question in ["top", "diff", "flame graph", "tree bytes", "dot", "pprof"] {
        let held = held_by(&world, question).await.unwrap();
        assert!(held > of_tree * 3 / 2, "{question}: {held} of {of_tree}");
        all_is_given_back(&world, question).await;
        // All that scanning takes is there, and less than the answer would hold.
        let sides = if question == "diff" { 2 } else { 1 };
        let enough = sides * scanned.max(of_tree) + 4096;
        assert!(enough < held, "{question}: {enough} for {held}");
        let rest = world.memory.try_acquire((1 << 30) - enough).unwrap();
        let refused = held_by(&world, question).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{question}");
        assert!(refused.to_string().contains("queries"), "{refused}");
        drop(rest);
        all_is_given_back(&world, question).await;
    }
}

/// An answer that waits to be fetched has a room of its own; what is fetched of it is paid for like
/// any other.
#[tokio::test]
async fn what_is_fetched_from_the_background_is_accounted_for_and_can_be_refused() {
    let world = wide().await;
    let one = tenant("one");
    for format in [ProfileFormat::Flamegraph, ProfileFormat::Pprof] {
        let mut request = ask(CPU, "{}");
        request.format = format;
        let started = world
            .querier
            .start_select_merge_stacktraces(&one, &request, now());
        let id = started.unwrap();
        let answer = loop {
            match world.querier.poll(&one, &id).unwrap() {
                Progress::Answered(answer) => break answer,
                Progress::Failed(error) => panic!("{error}"),
                Progress::Running => tokio::task::yield_now().await,
            }
        };
        drop(answer);
        all_is_given_back(&world, "fetching").await;
        let Ok(Progress::Answered(answer)) = world.querier.poll(&one, &id) else {
            panic!("it is kept");
        };
        let size = match &answer.value {
            Merged::Pprof(bytes) => bytes.len(),
            Merged::Flamegraph(graph) => 8 * graph.levels.iter().map(Vec::len).sum::<usize>(),
            other => panic!("{other:?}"),
        };
        assert!(world.memory.used() > 3 * size as u64, "{format:?}");
        drop(answer);
        assert_eq!(world.memory.used(), 0, "{format:?}");
        let rest = world.memory.try_acquire((1 << 30) - 1000).unwrap();
        let refused = world.querier.poll(&one, &id).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{refused}");
        drop(rest);
    }
}
