//! Each limit on each way in, and limits that change while the server runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::{FunctionRow, SampleLabel};
use scoria_pprof::otlp::encode::{
    AttributeValue, ExportEncoder, Generation, ProfileHeader, SampleRow, Texts,
};
use serde_json::{Value, json};
use support::{Running, now_ns};

/// A minute in nanoseconds.
const MINUTE: i64 = 60_000_000_000;

/// Two samples with two labels each, dated so long before now.
fn profile(age_ns: i64, depth: usize) -> Vec<u8> {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("cpu", "nanoseconds");
    profile.period("cpu", "nanoseconds", 10_000_000);
    profile.time(now_ns() - age_ns, 10_000_000_000);
    let function = profile.function(&FunctionRow {
        name: "work",
        ..FunctionRow::default()
    });
    let location = profile.location(0, 0, &[(function, 1)]);
    for value in [10, 20] {
        let text = value.to_string();
        let labels = [
            SampleLabel {
                key: "worker",
                value: &text,
            },
            SampleLabel {
                key: "color",
                value: "red",
            },
        ];
        profile.sample(vec![location; depth], &[value], &labels);
    }
    profile.finish()
}

/// What an answer said: status, Retry-After, body.
#[derive(Debug)]
struct Told(u16, Option<String>, String);

async fn told(request: reqwest::RequestBuilder) -> Told {
    let answer = request.send().await.unwrap();
    let retry = answer.headers().get("retry-after");
    let retry = retry.map(|value| value.to_str().unwrap().to_owned());
    Told(
        answer.status().as_u16(),
        retry,
        answer.text().await.unwrap(),
    )
}

async fn ingest(server: &Running, profile: &[u8], labels: &str) -> Told {
    let path = format!("/ingest?name=app%7B{labels}%7D&format=pprof&spyName=gospy");
    told(server.post(&path).body(profile.to_vec())).await
}

/// The same as an export of OTLP.
async fn export(server: &Running, age_ns: i64) -> Told {
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let function = encoder.function("work", "work.c");
    let location = encoder.location(0, 0, &[(function, 1)]);
    let stack = encoder.stack(&[location]);
    let labels = ["10", "20"].map(|worker| {
        [("worker", worker), ("color", "red")]
            .map(|(key, value)| encoder.attribute(key, &AttributeValue::Text(value)))
    });
    encoder.resource(&[("service.name", AttributeValue::Text("app"))]);
    encoder.scope("test", &[]);
    let header = ProfileHeader {
        sample_type: ("cpu", "nanoseconds"),
        time_ns: (now_ns() - age_ns) as u64,
        ..ProfileHeader::default()
    };
    let samples = [(&labels[0], &[10]), (&labels[1], &[20])];
    let samples = samples.map(|(attributes, values)| SampleRow {
        stack,
        attributes,
        values,
        ..SampleRow::default()
    });
    encoder.profile(&header, &samples);
    let request = server.post("/v1development/profiles");
    let request = request.header("content-type", "application/x-protobuf");
    told(request.body(encoder.finish())).await
}

async fn push(server: &Running, profile: &[u8], labels: &[(&str, &str)]) -> Told {
    push_as(server, "", (profile, labels)).await
}

async fn push_as(
    server: &Running,
    tenant: &str,
    (profile, labels): (&[u8], &[(&str, &str)]),
) -> Told {
    let own = [("__name__", "process_cpu"), ("service_name", "app")];
    let labels: Vec<Value> = own
        .iter()
        .chain(labels)
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let samples = [json!({"rawProfile": STANDARD.encode(profile)})];
    let body = json!({"series": [{"labels": labels, "samples": samples}]});
    let request = server
        .post("/push.v1.PusherService/Push")
        .header("content-type", "application/json")
        .header("X-Scope-OrgID", tenant);
    told(request.body(body.to_string())).await
}

async fn metric(server: &Running, line: &str) -> u64 {
    let text = server.get("/metrics").await.text().await.unwrap();
    let value = text.lines().find_map(|l| l.strip_prefix(line));
    value
        .and_then(|v| v.trim().parse().ok())
        .unwrap_or_default()
}

async fn rejections(server: &Running) -> Vec<Value> {
    let answer = server.get("/api/v1/tenant/rejections").await;
    let told: Value = answer.json().await.unwrap();
    told["rejections"].as_array().unwrap().clone()
}

/// Setting, its value, what is said of it, the reason that is counted, age of the profile.
const LIMITS: [(&str, &str, &str, &str, i64); 8] = [
    (
        "max_profile_size_bytes",
        "100",
        "limit: 100",
        "profile_size_limit",
        0,
    ),
    (
        "max_profile_stacktrace_samples",
        "1",
        "actual: 2, limit: 1",
        "samples_limit",
        0,
    ),
    (
        "max_profile_stacktrace_sample_labels",
        "1",
        "actual: 2, limit: 1",
        "sample_labels_limit",
        0,
    ),
    (
        "max_label_name_length",
        "3",
        "limit: 3",
        "label_name_too_long",
        0,
    ),
    (
        "max_label_value_length",
        "2",
        "actual: ",
        "label_value_too_long",
        0,
    ),
    (
        "max_label_names_per_series",
        "1",
        "label names; limit 1",
        "max_label_names_per_series",
        0,
    ),
    (
        "reject_older_than",
        "1m",
        "limit: 60000 ms",
        "not_in_ingestion_window",
        10 * MINUTE,
    ),
    (
        "reject_newer_than",
        "1m",
        "limit: 60000 ms",
        "not_in_ingestion_window",
        -10 * MINUTE,
    ),
];

#[tokio::test]
async fn each_limit_says_its_name_value_and_actual_on_each_route() {
    for (limit, value, says, reason, age) in LIMITS {
        let server = Running::start(&[&format!("limits.{limit}={value}")]).await;
        let profile = profile(age, 1);
        for (told, status) in [
            (ingest(&server, &profile, "").await, 422),
            (push(&server, &profile, &[]).await, 400),
            (export(&server, age).await, 400),
        ] {
            let Told(got, retry, body) = &told;
            assert_eq!((*got, retry), (status, &None), "{limit}: {body}");
            assert!(
                body.contains(limit) && body.contains(says),
                "{limit}: {body}"
            );
        }
        let line = format!(
            "pyroscope_discarded_samples_total{{reason=\"{reason}\",tenant=\"anonymous\"}}"
        );
        assert_eq!(metric(&server, &line).await, 3, "{limit}");
        let seen = rejections(&server).await;
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(
            (&seen[0]["reason"], &seen[0]["count"]),
            (&json!(reason), &json!(3))
        );
        assert!(
            seen[0]["message"].as_str().unwrap().contains(limit),
            "{seen:?}"
        );
        assert!(
            seen[0]["example_labels"]
                .as_str()
                .unwrap()
                .contains("service_name=\"app\"")
        );
        assert!(!seen[0]["remedy"].as_str().unwrap().is_empty());
        server.stop().await;
    }
}

#[tokio::test]
async fn what_may_be_sent_again_is_429_with_a_time_on_each_route() {
    let dir = tempfile::tempdir().unwrap();
    let quota = "overrides:\n  anonymous:\n    ingestion_limit: {limit_reached: true, period_limit_mb: 3, period_type: hour}\n";
    let file = dir.path().join("quota.yaml");
    std::fs::write(&file, quota).unwrap();
    let quota = format!("runtime_config.file={}", file.display());
    let rate: &[&str] = &[
        "limits.ingestion_rate_mb=0.000001",
        "limits.ingestion_burst_size_mb=0",
        "limits.max_profile_size_bytes=10KiB",
    ];
    for (sets, reason, name) in [
        (rate, "rate_limited", "ingestion_rate_bytes"),
        (&[&*quota], "ingest_limit_reached", "ingestion_limit"),
    ] {
        let server = Running::start(sets).await;
        // Uses up whatever burst there is; refused for its label, it is charged all the same.
        let huge = "x".repeat(2 << 20);
        push(&server, &profile(0, 1), &[("huge", &huge)]).await;
        for Told(status, retry, body) in [
            ingest(&server, &profile(0, 1), "").await,
            push(&server, &profile(0, 1), &[]).await,
            export(&server, 0).await,
        ] {
            assert_eq!(status, 429, "{body}");
            let retry: u64 = retry.unwrap().parse().unwrap();
            assert!(retry > 0 && body.contains(name), "{body}");
        }
        let Told(_, _, body) = push(&server, &profile(0, 1), &[]).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["code"], "resource_exhausted");
        assert_eq!(body["details"][0]["type"], "google.rpc.RetryInfo");
        let seen = rejections(&server).await;
        assert!(seen.iter().any(|seen| seen["reason"] == reason), "{seen:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused_at_the_edge_and_told() {
    let server = Running::start(&["limits.ingestion_body_limit_bytes=1KiB"]).await;
    let large = profile(0, 4000);
    let exported = server.post("/v1development/profiles");
    let exported = exported.header("content-type", "application/x-protobuf");
    for Told(status, _, body) in [
        ingest(&server, &large, "").await,
        push(&server, &large, &[]).await,
        told(exported.body(large.clone())).await,
    ] {
        assert_eq!(status, 413, "{body}");
        assert!(body.contains("ingestion_body_limit_bytes") && body.contains("limit: 1024"));
    }
    let seen = rejections(&server).await;
    assert_eq!(seen[0]["reason"], "body_size_limit_exceeded");
    assert_eq!(seen[0]["count"], 3);
    server.stop().await;
}

#[tokio::test]
async fn what_is_cut_or_left_out_is_told_though_the_answer_is_200() {
    let rules = r#"limits.sample_type_relabeling_rules=[{source_labels: [__type__], regex: cpu, action: keep}]"#;
    let server = Running::start(&[
        "limits.max_profile_stacktrace_depth=3",
        "limits.promoted_labels_deny=work.*,nothing",
        "limits.distributor_usage_groups={apps: '{service_name=\"app\"}'}",
        rules,
    ])
    .await;
    let Told(status, _, body) = push(&server, &profile(0, 5), &[]).await;
    assert_eq!(status, 200, "{body}");
    let mut reasons: Vec<String> = rejections(&server)
        .await
        .iter()
        .inspect(|seen| assert_eq!(seen["treatment"], "left out"))
        .map(|seen| seen["reason"].as_str().unwrap().to_owned())
        .collect();
    reasons.sort();
    assert_eq!(reasons, ["depth_truncated", "label_demoted"]);
    let group = "pyroscope_usage_group_received_decompressed_total{type=\"process_cpu\",tenant=\"anonymous\",usage_group=\"apps\"}";
    assert!(metric(&server, group).await > 0);
    server.stop().await;
}

#[tokio::test]
async fn what_rules_drop_is_counted_once() {
    let rules = "limits.ingestion_relabeling_rules=[{source_labels: [service_name], regex: app, action: drop}]";
    let server = Running::start(&[rules]).await;
    let Told(status, _, body) = push(&server, &profile(0, 1), &[]).await;
    assert_eq!(status, 200, "{body}");
    let seen = rejections(&server).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0]["reason"], "dropped_by_relabel_rules");
    assert_eq!(seen[0]["count"], 2, "samples");
    server.stop().await;
}

/// Waits until the server shows what is expected of its runtime file.
async fn until(server: &Running, expected: impl Fn(&Value) -> bool) {
    for _ in 0..3000 {
        let answer = server.get("/api/v1/status/runtime_config").await;
        let told: Value = answer.json().await.unwrap();
        if expected(&told["data"]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the runtime file was not taken over in time");
}

/// As an operator's tool writes it: whole, or not at all.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn limits_change_under_load_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("runtime.yaml");
    let limited = |samples: u64| {
        format!(
            "overrides:\n  a:\n    max_profile_stacktrace_samples: {samples}\n    max_query_length: 1h\n"
        )
    };
    write(&file, &limited(1));
    let server = Running::start(&[
        "auth.multitenancy_enabled=true",
        "runtime_config.period=10ms",
        &format!("runtime_config.file={}", file.display()),
    ])
    .await;
    let status = async |tenant: &str| {
        let Told(status, _, body) = push_as(&server, tenant, (&profile(0, 1), &[])).await;
        let known =
            status == 200 || body.contains("max_profile_stacktrace_samples, actual: 2, limit: 1");
        assert!(known, "{body}");
        status
    };
    assert_eq!((status("a").await, status("b").await), (400, 200));

    let load = async {
        let mut answers = 0;
        for _ in 0..60 {
            status("a").await;
            assert_eq!(
                status("b").await,
                200,
                "another tenant's limits are its own"
            );
            answers += 1;
        }
        answers
    };
    let changes = async {
        for round in 0..6_u64 {
            write(&file, &limited(round % 2 * 5));
            until(&server, |told| told["last_reload_successful"] == true).await;
            write(
                &file,
                "overrides: {a: {max_profile_stacktrace_samples: many}}",
            );
            until(&server, |told| told["last_reload_successful"] == false).await;
        }
    };
    let (answers, ()) = tokio::join!(load, changes);
    assert_eq!(answers, 60);

    write(&file, &limited(1));
    until(&server, |told| told["last_reload_successful"] == true).await;
    assert_eq!(status("a").await, 400);
    write(
        &file,
        "overrides: {a: {no_such_limit: 1}, b: {max_profile_stacktrace_samples: 1}}",
    );
    until(&server, |told| told["last_reload_successful"] == false).await;
    assert_eq!((status("a").await, status("b").await), (400, 200));
    let line = "pyroscope_runtime_config_last_reload_successful";
    assert_eq!(metric(&server, line).await, 0);
    assert_eq!(server.get("/ready").await.status(), 200);
    let told = server
        .get("/api/v1/status/runtime_config")
        .await
        .text()
        .await
        .unwrap();
    assert!(told.contains("overrides.a.no_such_limit"), "{told}");

    write(&file, &limited(2));
    until(&server, |told| told["last_reload_successful"] == true).await;
    assert_eq!(status("a").await, 200);
    assert_eq!(metric(&server, line).await, 1);
    server.stop().await;
}

#[tokio::test]
async fn read_limits_are_a_tenants_own_too_and_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("runtime.yaml");
    write(
        &file,
        "overrides:\n  a:\n    max_query_length: 10m\n    ingestion_rate_mb: 16\n",
    );
    let server = Running::start(&[
        "auth.multitenancy_enabled=true",
        &format!("runtime_config.file={}", file.display()),
    ])
    .await;
    let query = async |tenant: &str| {
        let end = now_ns() / 1_000_000;
        let body = json!({
            "profileTypeID": "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
            "labelSelector": "{}",
            "start": end - 3_600_000,
            "end": end,
        });
        let request = server
            .post("/querier.v1.QuerierService/SelectMergeStacktraces")
            .header("content-type", "application/json")
            .header("X-Scope-OrgID", tenant);
        told(request.body(body.to_string())).await
    };
    let Told(status, _, body) = query("a").await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("max_query_length"), "{body}");
    assert_eq!(query("b").await.0, 200);
    assert_eq!(
        query("a|b").await.0,
        400,
        "the smallest limit holds for several"
    );

    let diff = server
        .get("/runtime_config?mode=diff")
        .await
        .text()
        .await
        .unwrap();
    assert!(diff.contains("ingestion_rate_bytes: 16MiB"), "{diff}");
    assert!(!diff.contains("max_label_names_per_series"), "{diff}");
    let all = server.get("/runtime_config").await.text().await.unwrap();
    assert!(all.contains("max_label_names_per_series: 30"), "{all}");
    assert_eq!(server.get("/runtime_config?mode=all").await.status(), 400);

    let url = format!("{}/api/v1/tenant_limits", server.url);
    let own = server.http.get(url).header("X-Scope-OrgID", "a");
    let own: Value = own.send().await.unwrap().json().await.unwrap();
    assert_eq!(own["ingestion_rate"], 16.0);
    assert_eq!(own["limits"]["max_query_length_ms"], "10m");
    server.stop().await;
}
