//! M2 and Q1: a question that roll-ups answer gets the answer that the profiles give, to the unit,
//! wherever the range cuts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    reason = "other tests use what this one does not of the world that they share"
)]
mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use scoria_proto::public::google::v1::Profile as Pprof;
use scoria_querier::Merged;
use scoria_query::request::{ProfileFormat, SelectMergeStacktraces};

use support::{CPU, Dataset, HEAP, Profile, START_MS, World, dataset, stream, tenant};

const STACKS: [&str; 4] = ["main", "main;work", "main;work;leaf", "main;other"];
const MINUTE_MS: i64 = 60_000;

/// The same profiles twice: of tenant `raw` as flushed, of tenant `rolled` as merged.
async fn world(profiles: &[Profile]) -> World {
    let world = World::new().await;
    world.open_stream(1).await;
    let of = |name: &str| -> Dataset { dataset(name, "api", profiles) };
    let n = profiles.len() as u64;
    world.flush(1, (0, n), &[of("raw")]).await;
    world
        .flush_merged(1, (n, 2 * n), (&of("rolled"), &["pod"]))
        .await;
    world.serve(&[], &[(stream(1), 2 * n + 1, 2 * n)]);
    world
}

fn ask(kind: &str, selector: &str, (from, to): (i64, i64)) -> SelectMergeStacktraces {
    SelectMergeStacktraces {
        profile_type: kind.to_owned(),
        label_selector: selector.to_owned(),
        start_ms: START_MS + from,
        end_ms: START_MS + to,
        ..SelectMergeStacktraces::default()
    }
}

fn later() -> scoria_model::Timestamp {
    scoria_model::Timestamp::from_millis(START_MS + 600 * MINUTE_MS)
}

/// Stacks of a pprof, leaf first, with their values. Their order is that in which symbols came.
fn stacks(bytes: &[u8]) -> Vec<(Vec<String>, i64)> {
    let profile = <Pprof as buffa::Message>::decode_from_slice(bytes).unwrap();
    let name = |location: &u64| {
        let location = profile.location.iter().find(|l| l.id == *location).unwrap();
        let function = location.line[0].function_id;
        let function = profile.function.iter().find(|f| f.id == function).unwrap();
        profile.string_table[function.name as usize].to_string()
    };
    let samples = profile.sample.iter();
    let mut stacks: Vec<_> = samples
        .map(|sample| {
            (
                sample.location_id.iter().map(name).collect(),
                sample.value[0],
            )
        })
        .collect();
    stacks.sort();
    stacks
}

/// The answer as a tree and as a pprof, and how many datasets roll-ups answered.
async fn answers(world: &World, of: &str, request: &SelectMergeStacktraces) -> (String, u64, u64) {
    let tree = world.querier.tree(&tenant(of), request, later()).await;
    let tree = tree.unwrap();
    let pprof = SelectMergeStacktraces {
        format: ProfileFormat::Pprof,
        ..request.clone()
    };
    let merged = world
        .querier
        .select_merge_stacktraces(&tenant(of), &pprof, later())
        .await
        .unwrap();
    let Merged::Pprof(pprof) = merged.value else {
        panic!("a pprof was asked for");
    };
    let text = format!("{:?} {:?}", tree.value.to_folded(), stacks(&pprof));
    (text, tree.stats.rolled, tree.stats.samples)
}

fn profiles() -> impl Strategy<Value = Vec<Profile>> {
    let sample = (0..STACKS.len(), -5..50i64);
    let profile = (
        (0..3usize, 0..4usize),
        (0..140i64, 0..MINUTE_MS),
        vec(sample, 1..4),
    );
    vec(profile, 1..80).prop_map(|profiles| {
        let profiles = profiles
            .into_iter()
            .map(|((pod, kind), (minute, ms), samples)| {
                let samples = samples.into_iter().map(|(at, value)| (STACKS[at], value));
                (
                    ["a", "b", "c"][pod],
                    [CPU, CPU, CPU, HEAP][kind],
                    // Some lie on the edge of a bucket.
                    minute * MINUTE_MS + if ms < MINUTE_MS / 3 { 0 } else { ms },
                    samples.collect(),
                )
            });
        profiles.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn roll_ups_answer_as_profiles_do(
        profiles in profiles(),
        ranges in vec((-10..150i64, 0..150i64, -1..2i64), 4..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = world(&profiles).await;
            for (from, minutes, ms) in ranges {
                let from = from * MINUTE_MS + ms;
                let range = (from, from + minutes * MINUTE_MS);
                for selector in [
                    "{}",
                    r#"{service_name="api"}"#,
                    r#"{__service_name__="api",pod="a"}"#,
                    r#"{pod!="a"}"#,
                    r#"{pod=""}"#,
                    r#"{__name__="process_cpu",nothing=""}"#,
                ] {
                    for kind in [CPU, HEAP] {
                        let mut request = ask(kind, selector, range);
                        if from % 2 == 0 {
                            request.call_site = vec!["main".into(), "work".into()];
                        }
                        let raw = answers(&world, "raw", &request).await;
                        let rolled = answers(&world, "rolled", &request).await;
                        assert_eq!(raw.0, rolled.0, "{request:?}");
                        assert_eq!(raw.1, 0);
                    }
                }
            }
        });
    }
}

/// An hour and a half of a profile a minute, from the start of a bucket of five minutes on.
fn steady() -> Vec<Profile> {
    // 1.7e12 ms is 13 minutes and 20 seconds after an hour.
    let first = 100_000;
    (0..90)
        .map(|minute| {
            let samples = STACKS.iter().map(|stack| (*stack, 1 + minute)).collect();
            ("a", CPU, first + minute * MINUTE_MS, samples)
        })
        .collect()
}

#[tokio::test]
async fn a_range_reads_hours_then_minutes_then_profiles() {
    let world = world(&steady()).await;
    let samples = async |selector: &str, range| {
        let request = ask(CPU, selector, range);
        let raw = answers(&world, "raw", &request).await;
        let (text, rolled, samples) = answers(&world, "rolled", &request).await;
        assert_eq!(text, raw.0);
        (rolled, samples, raw.2)
    };
    let all = (0, 120 * MINUTE_MS);
    // Two hours of four stacks each, or three of them: 13:20 + 1:40 is a quarter past.
    let (rolled, of_hours, raw) = samples("{}", all).await;
    assert_eq!((rolled, raw), (1, 90 * 4));
    assert_eq!(of_hours, 2 * 4);
    // Ten minutes that begin on an edge: two buckets, and a profile at the very end.
    let ten = (100_000, 100_000 + 10 * MINUTE_MS);
    assert_eq!(samples("{}", ten).await, (1, 2 * 4 + 4, 11 * 4));
    // A minute later at both ends: one whole bucket, and profiles beside it.
    let moved = (ten.0 + MINUTE_MS, ten.1 + MINUTE_MS);
    assert_eq!(samples("{}", moved).await, (1, 4 + 6 * 4, 11 * 4));
    // No whole bucket.
    let short = (ten.0 + MINUTE_MS, ten.0 + 4 * MINUTE_MS);
    assert_eq!(samples("{}", short).await.0, 0);
    // By a label that roll-ups keep, and by one that they do not, even where no series has it.
    assert_eq!(samples(r#"{pod="a"}"#, all).await.0, 1);
    assert_eq!(samples(r#"{zone=""}"#, all).await.0, 0);
}

#[tokio::test]
async fn values_that_cancel_each_other_out_leave_their_stacks() {
    let profiles = [
        ("a", HEAP, 0, vec![("main;work;leaf", -5)]),
        ("a", HEAP, MINUTE_MS, vec![("main;work", 5)]),
    ];
    let world = world(&profiles).await;
    let request = ask(HEAP, "{}", (0, 2 * MINUTE_MS));
    let raw = answers(&world, "raw", &request).await;
    assert_eq!(answers(&world, "rolled", &request).await.0, raw.0);
}
