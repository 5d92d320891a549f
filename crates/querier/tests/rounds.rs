//! How often a question goes to the store, how many of these requests wait for others, and how many
//! bytes come back (Q5).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    reason = "other tests use what this one does not of the world that they share"
)]
mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use scoria_querier::QueryStats;
use scoria_query::request::SelectMergeStacktraces;
use scoria_storage::testing::{FaultPlan, FaultRates, FaultyStore};

use support::{CPU, HEAP, Profile, START_MS, World, dataset, stream, tenant};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const PODS: usize = 20;
const STACKS: usize = 60;
/// What every request to the store takes.
const REQUEST: Duration = Duration::from_millis(30);
/// As for a remote store.
const GAP: u64 = 256 << 10;
/// The budget of requests for a dataset that roll-ups answer: one for each table that it needs.
const REQUESTS_ROLLED: u64 = 8;
/// What may be read along with any table.
const GAPS_SMALL: u64 = 64 << 10;

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// A day of many pods; profiles of the other type are as many.
fn day() -> Vec<Profile> {
    let stacks: Vec<&str> = (0..STACKS)
        .map(|at| leaked(format!("main;work{at}")))
        .collect();
    let pods: Vec<&str> = (0..PODS).map(|at| leaked(format!("pod-{at:02}"))).collect();
    let mut profiles = Vec::new();
    let mut value: i64 = 1;
    for minute in (0..24 * 60).step_by(3) {
        for (at, pod) in pods.iter().copied().enumerate() {
            for kind in [CPU, HEAP] {
                let samples = stacks.iter().map(|stack| {
                    value = value
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (*stack, (value >> 40).abs() + 1)
                });
                let ms = minute * MINUTE_MS + at as i64 * 100;
                profiles.push((pod, kind, ms, samples.collect()));
            }
        }
    }
    profiles
}

/// The day as a merged block of its own, read with `gap`.
async fn world(profiles: &[Profile], gap: u64) -> World {
    let config = ThrottleConfig {
        wait_get_per_call: REQUEST,
        ..ThrottleConfig::default()
    };
    let store = Arc::new(ThrottledStore::new(InMemory::new(), config));
    let world = World::over(store, (1 << 30, gap), 64).await;
    world.open_stream(1).await;
    let data = dataset("acme", "api", profiles);
    world.flush_merged(1, (0, 1 << 20), (&data, &[])).await;
    world.serve(&[], &[(stream(1), (1 << 20) + 1, 1 << 20)]);
    world
}

/// What the question about a range took, and how many requests waited one for another.
async fn ask(world: &World, (from, to): (i64, i64)) -> (QueryStats, u32) {
    let request = SelectMergeStacktraces {
        profile_type: CPU.to_owned(),
        label_selector: r#"{service_name="api"}"#.to_owned(),
        start_ms: START_MS + from,
        end_ms: START_MS + to,
        ..SelectMergeStacktraces::default()
    };
    let now = scoria_model::Timestamp::from_millis(START_MS + DAY_MS);
    // The version is known: what follows are the rounds of reading.
    world
        .querier
        .tree(
            &tenant("acme"),
            &SelectMergeStacktraces {
                start_ms: START_MS - DAY_MS,
                end_ms: START_MS - DAY_MS + 1,
                ..request.clone()
            },
            now,
        )
        .await
        .unwrap();
    let before = tokio::time::Instant::now();
    let answer = world
        .querier
        .tree(&tenant("acme"), &request, now)
        .await
        .unwrap();
    let took = before.elapsed().as_millis();
    (answer.stats, (took / REQUEST.as_millis()) as u32)
}

#[tokio::test(start_paused = true)]
async fn a_day_is_read_in_two_rounds_and_its_edge_in_three() {
    let profiles = day();
    let whole = (0, DAY_MS);
    let cut = (61 * MINUTE_MS, DAY_MS);
    let (stats, rounds) = ask(&world(&profiles, GAP).await, whole).await;
    assert_eq!((stats.rolled, rounds), (1, 2));
    assert!(stats.requests <= REQUESTS_ROLLED, "{stats:?}");
    let of_day = stats.bytes_fetched;

    let (stats, rounds) = ask(&world(&profiles, GAP).await, cut).await;
    assert_eq!((stats.rolled, rounds), (1, 3));
    // Q5: not much more than the pages that hold the rows.
    let (exact, exact_rounds) = ask(&world(&profiles, 0).await, cut).await;
    assert_eq!((exact.samples, exact_rounds), (stats.samples, 3));
    let tables = REQUESTS_ROLLED + 3;
    assert!(
        stats.bytes_fetched <= exact.bytes_fetched * 6 / 5 + tables * GAPS_SMALL,
        "{} bytes where {} are needed",
        stats.bytes_fetched,
        exact.bytes_fetched
    );
    assert!(exact.bytes_fetched > of_day);
}

/// Q4: a question that is given up begins nothing more: no read of the store, wherever it stood,
/// and what it held is free at once, as long as no thread is adding up.
#[tokio::test(start_paused = true)]
async fn q4_a_question_that_is_given_up_asks_for_nothing_more() {
    const BLOCKS: u64 = 60;
    const IN_FLIGHT: usize = 2;
    let config = ThrottleConfig {
        wait_get_per_call: REQUEST,
        ..ThrottleConfig::default()
    };
    let slow = Arc::new(ThrottledStore::new(InMemory::new(), config));
    let store = FaultyStore::new(slow, FaultPlan::new(0, FaultRates::default()));
    let world = World::over(Arc::new(store.clone()), (1 << 30, 0), IN_FLIGHT).await;
    world.open_stream(1).await;
    for at in 0..BLOCKS {
        let profile = ("a", CPU, at as i64, vec![("main;work", 1)]);
        let data = dataset("acme", "api", &[profile]);
        world.flush(1, (at, at + 1), &[data]).await;
    }
    world.serve(&[], &[(stream(1), BLOCKS + 1, BLOCKS)]);
    let request = SelectMergeStacktraces {
        profile_type: CPU.to_owned(),
        label_selector: "{}".to_owned(),
        start_ms: START_MS,
        end_ms: START_MS + MINUTE_MS,
        ..SelectMergeStacktraces::default()
    };
    let now = scoria_model::Timestamp::from_millis(START_MS + MINUTE_MS);
    let acme = tenant("acme");
    // The version is known from here on.
    let earlier = SelectMergeStacktraces {
        start_ms: START_MS - DAY_MS,
        end_ms: START_MS - DAY_MS + 1,
        ..request.clone()
    };
    world.querier.tree(&acme, &earlier, now).await.unwrap();
    let idle = store.requests().len();
    for rounds in 1..7 {
        let mut question = Box::pin(world.querier.tree(&acme, &request, now));
        // Between two answers of the store, somewhere in the middle.
        let while_it_reads = tokio::time::sleep(REQUEST * rounds + REQUEST / 2);
        tokio::select! {
            _ = &mut question => panic!("it has ended after {rounds} rounds"),
            () = while_it_reads => {}
        }
        assert!(world.memory.used() > 0);
        drop(question);
        assert_eq!(world.memory.used(), 0, "after {rounds} rounds");
        let asked = store.requests();
        assert!(asked.len() > idle, "it has been reading");
        tokio::time::sleep(REQUEST * 100).await;
        assert_eq!(store.requests(), asked, "after {rounds} rounds");
    }
    let whole = world.querier.tree(&acme, &request, now).now_or_never();
    assert!(whole.is_none(), "there was more to read");
}
