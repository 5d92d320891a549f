//! Sampling, quotas and usage groups, and what a tenant can read of them.

use std::sync::Arc;
use std::time::Duration;

use scoria_distributor::policy::{IngestLimit, SampledOut, SamplingRule, UsageGroup};
use scoria_distributor::rejections::Treatment;
use scoria_distributor::{Outcome, RefusalKind, TenantPolicy};
use scoria_model::{DiscardReason, Limits};

use crate::support::{House, cpu_profile, incoming, tenant};

const API: [(&str, &str); 2] = [("__name__", "process_cpu"), ("service_name", "api")];

fn good(n: i64) -> Vec<u8> {
    cpu_profile(&[(&["main", "work"], n), (&["main"], 1)])
}

fn sampled(probability: f64, sampled_out: SampledOut) -> TenantPolicy {
    let mut policy = TenantPolicy::from(Limits::default());
    policy.usage_groups = vec![UsageGroup::new("apis", |labels| {
        labels.contains(&("service_name", "api"))
    })];
    policy.sampling = vec![SamplingRule {
        group: Arc::from("apis"),
        probability,
    }];
    policy.sampled_out = sampled_out;
    policy
}

#[tokio::test]
async fn what_is_sampled_out_is_counted_and_the_client_goes_on() {
    let house = House::new(Limits::default());
    house.set_policy(sampled(0.0, SampledOut::Drop));
    let other = [API[0], ("service_name", "other")];
    let profiles = vec![incoming(&API, good(7)), incoming(&other, good(8))];
    let summary = house.push(profiles).await.unwrap();
    assert_eq!(summary.outcomes, [Outcome::Empty, Outcome::Stored]);
    assert_eq!(house.discarded("dropped_by_sampling_rules"), 1);
    let group = r#"{reason="dropped_by_sampling_rules",tenant="anonymous",usage_group="apis"}"#;
    let lost = house.metric(&format!(
        "pyroscope_usage_group_discarded_bytes_total{group}"
    ));
    assert!(lost > 0);
    let told = house.distributor.rejections(&tenant());
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].reason, told[0].treatment, &*told[0].service),
        (
            DiscardReason::DroppedBySamplingRules,
            Treatment::LeftOut,
            "api"
        )
    );
}

#[tokio::test]
async fn totals_stay_if_wanted() {
    let house = House::new(Limits::default());
    house.set_policy(sampled(0.0, SampledOut::KeepTotals));
    let summary = house.push(vec![incoming(&API, good(7))]).await.unwrap();
    assert_eq!(summary.outcomes, [Outcome::Stored]);
    let stored = house.ingester.stored();
    assert!(
        stored[0].contains("__sampled__=\"true\"") && stored[0].ends_with("= 8"),
        "{stored:?}"
    );
}

#[tokio::test]
async fn a_resend_is_sampled_like_the_first_time() {
    let house = House::new(Limits::default());
    house.set_policy(sampled(0.5, SampledOut::Drop));
    for n in 0..20 {
        let once = house.push(vec![incoming(&API, good(n + 1))]).await.unwrap();
        let again = house.push(vec![incoming(&API, good(n + 1))]).await.unwrap();
        assert_eq!(
            once.outcomes == [Outcome::Empty],
            again.outcomes == [Outcome::Empty]
        );
    }
}

#[tokio::test]
async fn of_a_series_some_profiles_are_sampled_and_some_are_not() {
    let house = House::new(Limits::default());
    house.set_policy(sampled(0.5, SampledOut::Drop));
    let mut n_kept = 0;
    for n in 0..60 {
        let summary = house.push(vec![incoming(&API, good(n + 1))]).await.unwrap();
        n_kept += usize::from(summary.outcomes == [Outcome::Stored]);
    }
    assert!((15..=45).contains(&n_kept), "{n_kept} of 60");
}

#[tokio::test]
async fn a_quota_that_is_used_up_tells_when_it_is_renewed() {
    let house = House::new(Limits::default());
    let resets_at = house.now().0 / 1_000_000_000 + 90;
    let mut policy = TenantPolicy::from(Limits::default());
    policy.ingest_limit = Some(IngestLimit {
        reached: true,
        limit_mib: 7,
        period: "hour".to_owned(),
        resets_at,
        groups_reached: Vec::new(),
        trickle: Some((1, Duration::from_secs(60))),
    });
    house.set_policy(policy);
    house.push(vec![incoming(&API, good(1))]).await.unwrap();
    let refused = house.push(vec![incoming(&API, good(2))]).await.unwrap_err();
    let RefusalKind::QuotaReached { retry_after } = refused.kind else {
        panic!("{refused}");
    };
    assert!(retry_after <= Duration::from_secs(90));
    assert!(refused.message.contains("limit of 7 MiB/hour"), "{refused}");
    assert_eq!(house.discarded("ingest_limit_reached"), 1);
}

#[tokio::test]
async fn refusals_are_told_by_reason_and_service_with_a_remedy() {
    let house = House::new(Limits {
        max_profile_stacktrace_samples: 1,
        ..Limits::default()
    });
    for _ in 0..3 {
        let pushed = house.push(vec![incoming(&API, good(1))]);
        pushed.await.unwrap_err();
    }
    let told = house.distributor.rejections(&tenant());
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].count, told[0].treatment), (3, Treatment::Refused));
    assert!(
        told[0]
            .message
            .contains("max_profile_stacktrace_samples, actual: 2, limit: 1")
    );
    assert!(told[0].remedy().contains("max_profile_stacktrace_samples"));
    assert!(told[0].labels.contains("service_name=\"api\""));
    assert!(house.metric("scoria_distributor_rejections_held_bytes") > 100);
}

#[tokio::test]
async fn labels_alone_never_make_a_profile_wait_for_ever() {
    let house = House::new(Limits {
        ingestion_rate_bytes: 1,
        ingestion_burst_bytes: 1,
        max_profile_size_bytes: 1024,
        ..Limits::default()
    });
    let huge = "x".repeat(3 << 20);
    let labels = [API[0], API[1], ("huge", &huge)];
    let refused = house
        .push(vec![incoming(&labels, good(1))])
        .await
        .unwrap_err();
    let reason = DiscardReason::LabelValueTooLong;
    assert_eq!(refused.kind, RefusalKind::Invalid { reason });
    let refused = house.push(vec![incoming(&API, good(1))]).await.unwrap_err();
    assert!(matches!(refused.kind, RefusalKind::RateLimited { .. }));
}

/// A group's quota concerns its profiles only, and is counted as the group's.
#[tokio::test]
async fn the_quota_of_a_usage_group_refuses_what_is_of_the_group() {
    let house = House::new(Limits::default());
    let mut policy = sampled(1.0, SampledOut::Drop);
    policy.ingest_limit = Some(IngestLimit {
        reached: false,
        limit_mib: 0,
        period: "day".to_owned(),
        resets_at: 0,
        groups_reached: vec![(Arc::from("apis"), 5)],
        trickle: None,
    });
    house.set_policy(policy);
    let other = [API[0], ("service_name", "other")];
    let profiles = vec![incoming(&API, good(7)), incoming(&other, good(8))];
    let refused = house.push(profiles).await.unwrap_err();
    let kind = RefusalKind::QuotaReached {
        retry_after: Duration::from_secs(60),
    };
    assert_eq!(refused.kind, kind);
    assert!(
        refused
            .message
            .contains("5 MiB/day reached by usage group apis"),
        "{refused}"
    );
    let stored = house.ingester.stored();
    assert!(
        stored.len() == 1 && stored[0].contains("service_name=\"other\""),
        "{stored:?}"
    );
    let group = r#"{reason="ingest_limit_reached",tenant="anonymous",usage_group="apis"}"#;
    let lost = house.metric(&format!(
        "pyroscope_usage_group_discarded_bytes_total{group}"
    ));
    let plain = good(7).len() + "__name__process_cpuservice_nameapi".len();
    assert_eq!(lost, plain as u64);
    assert_eq!(house.discarded("ingest_limit_reached"), 1);
    let told = house.distributor.rejections(&tenant());
    assert_eq!(
        (told.len(), told[0].reason.as_str()),
        (1, "ingest_limit_reached")
    );
}

/// In this order: the tenant's quota, the rate, the group's quota. What the first refuses costs
/// nothing, what the last refuses has been paid for.
#[tokio::test]
async fn what_a_quota_refuses_costs_rate_only_if_it_is_a_groups() {
    let size = good(1).len() as u64 + 34;
    let limits = Limits {
        ingestion_rate_bytes: 1,
        max_profile_size_bytes: size,
        ingestion_burst_bytes: 0,
        ..Limits::default()
    };
    let burst = (1 << 20) + size;
    let quota = |reached| IngestLimit {
        reached,
        limit_mib: 1,
        period: "hour".to_owned(),
        resets_at: 0,
        groups_reached: vec![(Arc::from("apis"), 1)],
        trickle: None,
    };
    for (reached, is_paid) in [(true, false), (false, true)] {
        let house = House::new(limits.clone());
        let policy = |ingest_limit| {
            let mut policy = TenantPolicy::from(limits.clone());
            policy.usage_groups = sampled(1.0, SampledOut::Drop).usage_groups;
            policy.ingest_limit = ingest_limit;
            policy
        };
        house.set_policy(policy(Some(quota(reached))));
        let huge = "x".repeat((1 << 20) - 1024);
        let labels = [API[0], API[1], ("huge", &huge)];
        let refused = house.push(vec![incoming(&labels, good(1))]).await;
        let kind = refused.unwrap_err().kind;
        assert!(matches!(kind, RefusalKind::QuotaReached { .. }), "{kind:?}");
        house.set_policy(policy(None));
        // Nearly all of the burst: refused for its label if it is let in at all.
        let refused = house.push(vec![incoming(&labels, good(1))]).await;
        let kind = refused.unwrap_err().kind;
        let is_limited = matches!(kind, RefusalKind::RateLimited { .. });
        assert_eq!(is_limited, is_paid, "{kind:?}, burst {burst}");
    }
}

#[tokio::test]
async fn sizes_are_counted_at_each_stage_that_a_profile_comes_to() {
    let stages = |house: &House| {
        ["received", "sampled", "normalized"].map(|stage| {
            let name = "pyroscope_distributor_received_decompressed_bytes_total_count";
            house.metric(&format!("{name}{{tenant=\"anonymous\",stage=\"{stage}\"}}"))
        })
    };
    let house = House::new(Limits::default());
    house.set_policy(sampled(0.0, SampledOut::Drop));
    house.push(vec![incoming(&API, good(1))]).await.unwrap();
    assert_eq!(stages(&house), [1, 0, 0]);
    let other = [API[0], ("service_name", "other")];
    house.push(vec![incoming(&other, good(2))]).await.unwrap();
    assert_eq!(stages(&house), [2, 1, 1]);
    let nameless = [("service_name", "other")];
    house
        .push(vec![incoming(&nameless, good(3))])
        .await
        .unwrap_err();
    assert_eq!(stages(&house), [3, 2, 1]);
    let received = house.metric(
        "pyroscope_distributor_received_decompressed_bytes_total_sum{tenant=\"anonymous\",stage=\"received\"}",
    );
    let labels = [
        "__name__process_cpuservice_nameapi",
        "__name__process_cpuservice_nameother",
        "service_nameother",
    ];
    let labels: usize = labels.map(str::len).iter().sum();
    let bodies: usize = (1..=3).map(|n| good(n).len()).sum();
    assert_eq!(received, (bodies + labels) as u64);
}

#[tokio::test(start_paused = true)]
async fn answers_to_writes_are_held_back_if_wanted() {
    let delay = Duration::from_millis(300);
    let house = House::new(Limits::default());
    let push = async || {
        let started = tokio::time::Instant::now();
        house.push(vec![incoming(&API, good(1))]).await.unwrap();
        started.elapsed()
    };
    assert!(push().await < delay);
    let mut policy = TenantPolicy::default();
    policy.artificial_delay = delay;
    house.set_policy(policy);
    assert!(push().await >= delay);
}
