//! Profiles whose values count from the start of their process: queries answer with their mean.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::FunctionRow;
use serde_json::{Value, json};
use support::{Running, now_ns};

const TYPE: &str = "memory:alloc_space:bytes:space:bytes";

/// What had been allocated by then under `main`, directly and below `work`.
fn heap(age_s: i64, main: i64, work: i64) -> Vec<u8> {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("alloc_space", "bytes");
    profile.sample_type("inuse_space", "bytes");
    profile.period("space", "bytes", 524_288);
    profile.time(now_ns() - age_s * 1_000_000_000, 0);
    let [root, leaf] = ["main", "work"].map(|name| {
        let function = profile.function(&FunctionRow {
            name,
            ..FunctionRow::default()
        });
        profile.location(0, 0, &[(function, 1)])
    });
    profile.sample([root], &[main, 5], &[]);
    profile.sample([leaf, root], &[work, 5], &[]);
    profile.finish()
}

async fn push(server: &Running, service: &str, delta: Option<&str>, profile: &[u8]) {
    let mut labels = vec![
        json!({"name": "__name__", "value": "memory"}),
        json!({"name": "service_name", "value": service}),
    ];
    labels.extend(delta.map(|delta| json!({"name": "__delta__", "value": delta})));
    let samples = [json!({"rawProfile": STANDARD.encode(profile)})];
    let body = json!({"series": [{"labels": labels, "samples": samples}]});
    let request = server
        .post("/push.v1.PusherService/Push")
        .header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

fn question(kind: &str, service: &str) -> Value {
    let end = now_ns() / 1_000_000 + 60_000;
    json!({
        "profileTypeID": kind,
        "labelSelector": format!("{{service_name=\"{service}\"}}"),
        "start": end - 3_000_000,
        "end": end,
        "step": 1500,
    })
}

async fn total(server: &Running, kind: &str, service: &str) -> i64 {
    let question = question(kind, service).to_string();
    let (status, told) = server.query("SelectMergeStacktraces", &question).await;
    assert_eq!(status, 200, "{told}");
    told["flamegraph"]["total"]
        .as_str()
        .unwrap_or("0")
        .parse()
        .unwrap()
}

async fn point(server: &Running, kind: &str, service: &str) -> f64 {
    let question = question(kind, service).to_string();
    let (status, told) = server.query("SelectSeries", &question).await;
    assert_eq!(status, 200, "{told}");
    let points = told["series"][0]["points"].as_array().unwrap().clone();
    points
        .iter()
        .map(|point| point["value"].as_f64().unwrap())
        .sum()
}

#[tokio::test]
async fn snapshots_are_averaged_and_differences_are_added_up() {
    let server = Running::start(&[]).await;
    let snapshots = [(30, 100, 10), (20, 200, 20), (10, 300, 31)];
    for (age, main, work) in snapshots {
        let profile = heap(age, main, work);
        push(&server, "cumulative", None, &profile).await;
        push(&server, "differences", Some("false"), &profile).await;
        // A resend changes nothing.
        push(&server, "cumulative", None, &profile).await;
    }
    assert_eq!(total(&server, TYPE, "differences").await, 661);
    assert_eq!(total(&server, TYPE, "cumulative").await, 200 + 20);
    let inuse = "memory:inuse_space:bytes:space:bytes";
    assert_eq!(
        total(&server, inuse, "cumulative").await,
        30,
        "a gauge stays one"
    );

    // The snapshots are in one bucket, or in two.
    let point = point(&server, TYPE, "cumulative").await;
    assert!((110.0..=331.0 + 220.0).contains(&point), "{point}");
    let (_, told) = server
        .query(
            "SelectMergeProfile",
            &question(TYPE, "cumulative").to_string(),
        )
        .await;
    assert!(told.to_string().contains("\"200\""), "{told}");

    let labels = json!({
        "name": "service_name",
        "matchers": ["{__cumulative__=\"true\"}"],
        "start": now_ns() / 1_000_000 - 3_600_000,
        "end": now_ns() / 1_000_000 + 60_000,
    });
    let (_, marked) = server.query("LabelValues", &labels.to_string()).await;
    assert_eq!(marked["names"], json!(["cumulative"]));
    server.stop().await;
}

#[tokio::test]
async fn one_snapshot_is_what_it_says_and_both_kinds_may_stand_side_by_side() {
    let server = Running::start(&[]).await;
    push(&server, "app", None, &heap(20, 100, 10)).await;
    assert_eq!(total(&server, TYPE, "app").await, 110);
    push(&server, "app", Some("false"), &heap(15, 7, 0)).await;
    push(&server, "app", None, &heap(10, 300, 30)).await;
    assert_eq!(total(&server, TYPE, "app").await, (110 + 330) / 2 + 7);
    server.stop().await;
}

#[tokio::test]
async fn a_tenant_whose_senders_forget_the_label_is_trusted_if_told_so() {
    let server = Running::start(&["limits.trust_missing_delta=true"]).await;
    for (age, main, work) in [(20, 100, 10), (10, 200, 20)] {
        push(&server, "app", None, &heap(age, main, work)).await;
    }
    assert_eq!(total(&server, TYPE, "app").await, 330);
    server.stop().await;
}
