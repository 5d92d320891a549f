//! Pushes: what is stored, what is refused and how that is told and counted.

use std::collections::HashMap;
use std::time::Duration;

use scoria_distributor::{IncomingProfile, Outcome, PushError, RefusalKind, Settings};
use scoria_model::{DiscardReason, Limits};
use tonic::Code;

use crate::support::{House, MEMORY, Mood, cpu_profile, gzip, incoming};

const API: [(&str, &str); 2] = [("__name__", "process_cpu"), ("service_name", "api")];

fn good(n: i64) -> Vec<u8> {
    cpu_profile(&[(&["main", "work"], n)])
}

fn invalid(error: &PushError, reason: DiscardReason) {
    assert_eq!(error.kind, RefusalKind::Invalid { reason }, "{error}");
}

#[tokio::test]
async fn a_profile_is_stored_with_its_labels_and_type() {
    let house = House::new(Limits::default());
    for raw in [good(7), gzip(&good(8))] {
        let summary = house.push(vec![incoming(&API, raw)]);
        assert_eq!(summary.await.unwrap().outcomes, [Outcome::Stored]);
    }
    assert_eq!(
        house.ingester.stored(),
        [7, 8].map(|total| format!(
            r#"{{__name__="process_cpu", service_name="api"}} process_cpu:cpu:nanoseconds:cpu:nanoseconds = {total}"#
        ))
    );
    assert_eq!(house.bodies.used(), 0, "all memory came back");
    let received =
        r#"pyroscope_distributor_received_samples_count{type="process_cpu",tenant="anonymous"}"#;
    assert_eq!(house.metric(received), 2);
}

#[tokio::test]
async fn all_profiles_of_a_request_travel_in_one_call() {
    let house = House::new(Limits::default());
    let profiles = (1..=40)
        .map(|n| {
            let service = format!("service-{n}");
            incoming(&[API[0], ("service_name", &service)], good(n))
        })
        .collect();
    let summary = house.push(profiles).await.unwrap();
    assert_eq!(summary.outcomes, [Outcome::Stored; 40]);
    assert_eq!(house.ingester.calls(), [40]);
}

#[tokio::test]
async fn a_bad_profile_leaves_the_good_ones_alone() {
    let house = House::new(Limits::default());
    let mut profiles = vec![
        incoming(&API, good(1)),
        incoming(&API, b"no profile".to_vec()),
        incoming(&[("service_name", "nameless")], good(2)),
        incoming(&API, good(3)),
    ];
    for (at, profile) in profiles.iter_mut().enumerate() {
        profile.series = at;
    }
    profiles[1].id = "0190c1f6-7e6d-7c3a-9f6e-0d9c1b1f6a01".to_owned();
    let error = house.push(profiles).await.unwrap_err();
    invalid(&error, DiscardReason::MalformedProfile);
    assert_eq!(error.outcomes[0], Ok(Outcome::Stored));
    assert_eq!(error.outcomes[3], Ok(Outcome::Stored));
    for told in [
        "2 errors: ",
        "\"0190c1f6-7e6d-7c3a-9f6e-0d9c1b1f6a01\" of series 1: ",
        "; profile without ID of series 2: ",
        "{service_name=\"nameless\"}",
    ] {
        assert!(error.message.contains(told), "{told} is not in {error}");
    }
    assert_eq!(house.ingester.calls(), [2]);
    assert_eq!(house.discarded("malformed_profile"), 1);
    assert_eq!(house.discarded("invalid_labels"), 1);
}

#[tokio::test]
async fn nothing_is_an_error_and_a_profile_without_samples_is_not() {
    let house = House::new(Limits::default());
    let error = house.push(Vec::new()).await.unwrap_err();
    assert!(error.message.starts_with("no profiles received"));
    let empty = vec![
        incoming(&API, cpu_profile(&[])),
        incoming(&API, cpu_profile(&[(&["main"], 0)])),
    ];
    let summary = house.push(empty).await.unwrap();
    assert_eq!(summary.outcomes, [Outcome::Empty; 2]);
    assert!(house.ingester.calls().is_empty());
    assert_eq!(house.discarded("empty_profile"), 2);
    assert_eq!(house.dropped("zero_value"), 1);
}

#[tokio::test]
async fn a_resend_is_stored_once() {
    let house = House::new(Limits::default());
    let push = |profile| house.push(vec![profile]);
    assert_eq!(
        push(incoming(&API, good(1))).await.unwrap().outcomes,
        [Outcome::Stored]
    );
    assert_eq!(
        push(incoming(&API, good(1))).await.unwrap().outcomes,
        [Outcome::Duplicate]
    );
    assert_eq!(house.discarded("duplicate"), 1);
    let other = [API[0], ("service_name", "web")];
    assert_eq!(
        push(incoming(&other, good(1))).await.unwrap().outcomes,
        [Outcome::Stored]
    );

    let with_id = || IncomingProfile {
        id: "0190c1f6-7e6d-7c3a-9f6e-0d9c1b1f6a01".to_owned(),
        ..incoming(&API, good(1))
    };
    for outcome in [Outcome::Stored, Outcome::Duplicate] {
        assert_eq!(push(with_id()).await.unwrap().outcomes, [outcome]);
    }
}

#[tokio::test]
async fn a_tenant_can_opt_out_of_recognising_content() {
    let house = House::new(Limits {
        deduplicate_by_content: false,
        ..Limits::default()
    });
    for _ in 0..2 {
        let summary = house.push(vec![incoming(&API, good(1))]);
        assert_eq!(summary.await.unwrap().outcomes, [Outcome::Stored]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_durable_is_not_acknowledged() {
    let house = House::new(Limits::default());
    let push = || house.push(vec![incoming(&API, good(1))]);
    let retry_after = Duration::from_secs(3);
    let moods = [
        (Mood::Refuses(Code::Unavailable), RefusalKind::Unavailable),
        (Mood::Refuses(Code::Internal), RefusalKind::Unavailable),
        (
            Mood::Refuses(Code::ResourceExhausted),
            RefusalKind::Overloaded { retry_after },
        ),
        (Mood::Hangs, RefusalKind::Unavailable),
        (Mood::AnswersForOneLess, RefusalKind::Unavailable),
    ];
    for (mood, kind) in moods {
        *house.ingester.mood.lock() = mood;
        let error = push().await.unwrap_err();
        assert_eq!(error.kind, kind, "{mood:?}: {error}");
        assert!(error.message.contains("ingester ingester-0"), "{error}");
    }
    assert_eq!(house.discarded("unavailable"), 4);
    assert_eq!(house.discarded("overloaded"), 1);
    assert_eq!(house.bodies.used(), 0);
    *house.ingester.mood.lock() = Mood::Stores;
    // The one whose answer was cut short had been stored: its key says so.
    assert_eq!(push().await.unwrap().outcomes, [Outcome::Duplicate]);
}

#[tokio::test]
async fn our_fault_leads_over_the_clients() {
    let house = House::new(Limits::default());
    *house.ingester.mood.lock() = Mood::Refuses(Code::Unavailable);
    let profiles = vec![incoming(&API, b"bad".to_vec()), incoming(&API, good(1))];
    let error = house.push(profiles).await.unwrap_err();
    assert_eq!(error.kind, RefusalKind::Unavailable);
}

#[tokio::test]
async fn one_profile_over_its_limit_is_refused_before_it_is_decompressed() {
    let limits = Limits {
        max_profile_size_bytes: 10_000,
        ..Limits::default()
    };
    // No memory for more than the limit: a larger one is refused by what its trailer claims.
    let house = House::with_memory(limits, 10_000);
    let name = "x".repeat(10_000);
    let large = cpu_profile(&[(&[&name], 1)]);
    for raw in [gzip(&large), large] {
        let error = house.push(vec![incoming(&API, raw)]);
        let error = error.await.unwrap_err();
        invalid(&error, DiscardReason::ProfileSizeLimit);
        assert!(error.message.contains("max_profile_size_bytes"), "{error}");
    }
    assert_eq!(house.discarded("profile_size_limit"), 2);
}

#[tokio::test]
async fn a_trailer_that_lies_buys_nothing() {
    let house = House::new(Limits::default());
    let mut lying = gzip(&good(1));
    let trailer = lying.len() - 4;
    lying[trailer..].copy_from_slice(&3u32.to_le_bytes());
    let error = house.push(vec![incoming(&API, lying)]);
    let error = error.await.unwrap_err();
    invalid(&error, DiscardReason::MalformedProfile);
    assert!(
        error
            .message
            .contains("more than the 3 bytes that it claims"),
        "{error}"
    );
    let mut several = gzip(&good(1)[..20]);
    several.extend(gzip(&good(1)[20..]));
    let summary = house.push(vec![incoming(&API, several)]);
    assert_eq!(summary.await.unwrap().outcomes, [Outcome::Stored]);
}

#[tokio::test]
async fn a_request_over_the_body_limit_is_refused_as_a_whole() {
    let one = good(1).len() as u64;
    let house = House::new(Limits {
        ingestion_body_limit_bytes: 3 * one,
        ..Limits::default()
    });
    let profiles = (1..=4).map(|n| incoming(&API, gzip(&good(n)))).collect();
    let error = house.push(profiles).await.unwrap_err();
    invalid(&error, DiscardReason::BodySizeLimitExceeded);
    assert!(house.ingester.calls().is_empty());
    assert_eq!(house.discarded("body_size_limit_exceeded"), 4);
    assert_eq!(house.bodies.used(), 0);
}

#[tokio::test]
async fn the_rate_is_charged_before_validation_and_comes_back_with_time() {
    let house = House::new(Limits {
        ingestion_rate_bytes: 1 << 20,
        ingestion_burst_bytes: 0,
        max_profile_size_bytes: 1 << 20,
        ..Limits::default()
    });
    // The burst is the largest profile and a bit: 2 MiB.
    let invalid_mib = || incoming(&API, vec![0xff; (1 << 20) - 100]);
    for _ in 0..2 {
        let error = house.push(vec![invalid_mib()]).await;
        invalid(&error.unwrap_err(), DiscardReason::MalformedProfile);
    }
    let push = || house.push(vec![incoming(&API, good(1))]);
    let error = push().await.unwrap_err();
    let RefusalKind::RateLimited { retry_after } = error.kind else {
        panic!("{error}");
    };
    assert!(error.message.contains("ingestion_rate_bytes"), "{error}");
    assert_eq!(house.discarded("rate_limited"), 1);
    house.clock.advance(retry_after + Duration::from_millis(1));
    assert_eq!(push().await.unwrap().outcomes, [Outcome::Stored]);
}

/// A profile of about 900 KiB, decompressed.
fn large(n: usize) -> Vec<u8> {
    let names: Vec<String> = (0..15)
        .map(|at| format!("{n}.{at}.{}", "x".repeat(60_000)))
        .collect();
    let stacks: Vec<[&str; 1]> = names.iter().map(|name| [&**name]).collect();
    let stacks: Vec<(&[&str], i64)> = stacks.iter().map(|stack| (&stack[..], 1)).collect();
    cpu_profile(&stacks)
}

#[tokio::test]
async fn a_request_larger_than_the_burst_is_stored_in_the_end_if_it_is_sent_again() {
    let house = House::new(Limits {
        ingestion_rate_bytes: 1 << 20,
        ingestion_burst_bytes: 0,
        max_profile_size_bytes: 1 << 20,
        ..Limits::default()
    });
    // Two of them are in the bucket at a time.
    let profiles = || (0..6).map(|n| incoming(&API, large(n))).collect();
    let mut stored = Vec::new();
    for _ in 0..8 {
        match house.push(profiles()).await {
            Ok(summary) => {
                let is_there = |outcome| matches!(outcome, Outcome::Stored | Outcome::Duplicate);
                assert!(summary.outcomes.into_iter().all(is_there));
                assert_eq!(stored, [2, 4], "as many more each time");
                return;
            }
            Err(error) => {
                let RefusalKind::RateLimited { .. } = error.kind else {
                    panic!("{error}");
                };
                stored.push(
                    error
                        .outcomes
                        .iter()
                        .filter(|outcome| outcome.is_ok())
                        .count(),
                );
                house.clock.advance(Duration::from_secs(2));
            }
        }
    }
    panic!("never stored whole: {stored:?}");
}

#[tokio::test]
async fn without_memory_a_profile_waits_outside() {
    let house = House::with_memory(Limits::default(), 100);
    let never = house.push(vec![incoming(&API, gzip(&good(1)))]).await;
    let never = never.unwrap_err();
    assert_eq!(never.kind, RefusalKind::TooLarge, "no waiting helps");
    assert!(never.message.contains("more memory"), "{never}");
    let house = House::with_memory(Limits::default(), 100_000);
    let _others = house.bodies.try_acquire(99_900).unwrap();
    let error = house.push(vec![incoming(&API, gzip(&good(1)))]);
    let error = error.await.unwrap_err();
    let retry_after = Duration::from_secs(1);
    assert_eq!(error.kind, RefusalKind::Overloaded { retry_after });
    assert!(error.message.contains("bodies"), "{error}");
    assert_eq!(house.discarded("overloaded"), 1);
}

#[tokio::test]
async fn large_requests_are_decoded_on_the_blocking_pool_with_the_same_result() {
    let house = House::new(Limits::default());
    let names: Vec<String> = (0..8000).map(|n| format!("function_{n}")).collect();
    let stacks: Vec<[&str; 2]> = names.iter().map(|name| ["main", name]).collect();
    let stacks: Vec<(&[&str], i64)> = stacks.iter().map(|stack| (&stack[..], 1)).collect();
    let large = cpu_profile(&stacks);
    assert!(large.len() as u64 > scoria_distributor::Settings::default().inline_bytes_max);
    let profiles = vec![incoming(&API, large), incoming(&API, b"bad".to_vec())];
    let error = house.push(profiles).await.unwrap_err();
    assert_eq!(error.outcomes[0], Ok(Outcome::Stored));
    let rows = house.ingester.rows();
    assert_eq!((rows.len(), rows[0].total), (1, 8000));
    assert_eq!(rows[0].functions.len(), 8001);
}

#[tokio::test]
async fn label_rules_name_what_they_refuse() {
    let house = House::new(Limits::default());
    let long_name = "n".repeat(1025);
    let long_value = "v".repeat(2049);
    let many: Vec<(String, String)> = (0..31).map(|n| (format!("l{n}"), n.to_string())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (&**n, &**v)).collect();
    let table: [(&[(&str, &str)], DiscardReason); 6] = [
        (&[("service_name", "api")], DiscardReason::InvalidLabels),
        (&[("__name__", "")], DiscardReason::InvalidLabels),
        (
            &[API[0], (&long_name, "x")],
            DiscardReason::LabelNameTooLong,
        ),
        (
            &[API[0], ("x", &long_value)],
            DiscardReason::LabelValueTooLong,
        ),
        (
            &[API[0], ("a", "1"), ("a", "2")],
            DiscardReason::DuplicateLabelNames,
        ),
        (&many, DiscardReason::MaxLabelNamesPerSeries),
    ];
    for (labels, reason) in table {
        let error = house.push(vec![incoming(labels, good(1))]);
        invalid(&error.await.unwrap_err(), reason);
        assert!(house.discarded(reason.as_str()) > 0, "{reason:?}");
    }
    assert!(house.ingester.calls().is_empty());
}

#[tokio::test]
async fn each_service_has_its_ingester_and_a_broken_one_fails_alone() {
    let names = ["ingester-0", "ingester-1", "ingester-2"];
    let house = House::with_ingesters(Limits::default(), MEMORY, Settings::default(), &names);
    let services: Vec<String> = (0..60).map(|n| format!("service-{}", n % 30)).collect();
    let profiles = || {
        let labels = services.iter().zip(1..);
        labels
            .map(|(service, n)| incoming(&[API[0], ("service_name", service)], good(n)))
            .collect()
    };
    house.push(profiles()).await.unwrap();
    let mut home = HashMap::new();
    for (at, ingester) in house.ingesters.iter().enumerate() {
        assert_eq!(ingester.calls().len(), 1, "one call each");
        for row in ingester.rows() {
            let service = row.labels.clone();
            assert_eq!(*home.entry(service).or_insert(at), at, "{}", row.labels);
        }
    }
    assert_eq!(home.len(), 30);

    *house.ingester.mood.lock() = Mood::Refuses(Code::Unavailable);
    let error = house.push(profiles()).await.unwrap_err();
    assert_eq!(error.kind, RefusalKind::Unavailable);
    for (service, outcome) in services.iter().zip(&error.outcomes) {
        let labels = format!(r#"{{__name__="process_cpu", service_name="{service}"}}"#);
        assert_eq!(
            outcome.is_err(),
            home[&labels] == 0,
            "{service}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_large_service_spreads_over_its_neighbours() {
    let names = ["ingester-0", "ingester-1", "ingester-2", "ingester-3"];
    let settings = Settings {
        neighbours: 2,
        ..Settings::default()
    };
    let house = House::with_ingesters(Limits::default(), MEMORY, settings, &names);
    let pods: Vec<String> = (0..40).map(|n| format!("pod-{n}")).collect();
    let profiles = pods.iter().zip(1..);
    let profiles = profiles.map(|(pod, n)| incoming(&[API[0], API[1], ("pod", pod)], good(n)));
    house.push(profiles.collect()).await.unwrap();
    let counts: Vec<usize> = house.ingesters.iter().map(|i| i.rows().len()).collect();
    let used: Vec<usize> = counts.into_iter().filter(|&n| n > 0).collect();
    assert!(used.len() == 2 && used.iter().all(|&n| n > 8), "{used:?}");
}
