//! What the query service answers beyond flame graphs: exemplars, heatmaps, plans and what queries
//! took.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use reqwest::Response;
use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::{FunctionRow, MappingRow, SampleLabel};
use serde_json::{Value, json};
use support::{Running, now_ns};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const SPAN: &str = "00f067aa0ba902b7";
const OTHER_SPAN: &str = "0000000000000001";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// `main;work` 20 ms and `main` 5 ms in one span, `main` 10 ms in another, `main` 1 ms in none.
fn traced() -> Vec<u8> {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("cpu", "nanoseconds");
    profile.period("cpu", "nanoseconds", 10_000_000);
    profile.time(now_ns(), 10_000_000_000);
    let mut location = |name: &str| {
        let function = profile.function(&FunctionRow {
            name,
            ..FunctionRow::default()
        });
        profile.location(0, 0, &[(function, 1)])
    };
    let (main, work) = (location("main"), location("work"));
    let span =
        |id| [("span_id", id), ("trace_id", TRACE)].map(|(key, value)| SampleLabel { key, value });
    profile.sample([work, main], &[20_000_000], &span(SPAN));
    profile.sample([main], &[5_000_000], &span(SPAN));
    profile.sample([main], &[10_000_000], &span(OTHER_SPAN));
    profile.sample([main], &[1_000_000], &[]);
    profile.finish()
}

async fn pushed() -> Running {
    let server = Running::start(&[]).await;
    let request = server.post("/ingest?name=shop&format=pprof&spyName=gospy");
    let answer = request.body(traced()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    server
}

fn question(more: Value) -> Value {
    let now = now_ns() / 1_000_000;
    let mut all = json!({
        "profileTypeID": CPU,
        "labelSelector": "{service_name=\"shop\"}",
        "start": now - 3_600_000,
        "end": now + 60_000,
    });
    let more = more.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(more);
    all
}

async fn ask(server: &Running, method: &str, headers: &[(&str, &str)], body: &Value) -> Response {
    let path = format!("/querier.v1.QuerierService/{method}");
    let mut request = server
        .post(&path)
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.to_string()).send().await.unwrap()
}

async fn answer(server: &Running, method: &str, more: Value) -> Value {
    let response = ask(server, method, &[], &question(more)).await;
    let status = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!(status, 200, "{method}: {body}");
    body
}

#[tokio::test]
async fn exemplars_of_profiles_and_of_spans() {
    let server = pushed().await;
    let step = json!({ "step": 3600, "exemplarType": "EXEMPLAR_TYPE_INDIVIDUAL" });
    let body = answer(&server, "SelectSeries", step).await;
    let exemplar = body["series"][0]["points"][0]["exemplars"][0].clone();
    assert_eq!(exemplar["value"], "36000000");
    let id = exemplar["profileId"].as_str().unwrap().to_owned();
    let step = json!({ "step": 3600, "exemplarType": "EXEMPLAR_TYPE_SPAN" });
    let body = answer(&server, "SelectSeries", step).await;
    let point = &body["series"][0]["points"][0];
    assert_eq!(point["value"], 36_000_000.0);
    let exemplar = &point["exemplars"][0];
    assert_eq!(exemplar["spanId"], SPAN);
    assert_eq!(exemplar["traceId"], TRACE);
    assert_eq!(exemplar["value"], "25000000");

    // The ids lead back to what they name.
    let total = |body: &Value| body["flamegraph"]["total"].as_str().map(str::to_owned);
    for (more, value) in [
        (json!({ "profileIdSelector": [id] }), "36000000"),
        (json!({ "spanSelector": [SPAN] }), "25000000"),
        (json!({ "traceIdSelector": [TRACE] }), "35000000"),
    ] {
        let body = answer(&server, "SelectMergeStacktraces", more).await;
        assert_eq!(total(&body).as_deref(), Some(value));
    }
    server.stop().await;
}

/// The mean of the profiles of a bucket, where somebody asks for it.
#[tokio::test]
async fn points_may_be_means() {
    let server = pushed().await;
    server.push("shop").await;
    for (aggregation, value) in [("SUM", 66_000_000.0), ("AVERAGE", 33_000_000.0)] {
        let aggregation = format!("TIME_SERIES_AGGREGATION_TYPE_{aggregation}");
        let step = json!({ "step": 3600, "aggregation": aggregation });
        let body = answer(&server, "SelectSeries", step).await;
        assert_eq!(body["series"][0]["points"][0]["value"], value, "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn heatmaps_of_profiles_and_of_spans() {
    let server = pushed().await;
    let step = json!({
        "step": 60,
        "queryType": "HEATMAP_QUERY_TYPE_SPAN",
        "exemplarType": "EXEMPLAR_TYPE_SPAN",
    });
    let body = answer(&server, "SelectHeatmap", step).await;
    let slot = &body["series"][0]["slots"][0];
    assert_eq!(slot["yMin"].as_array().unwrap().len(), 20);
    let counts: Vec<i64> = serde_json::from_value(slot["counts"].clone()).unwrap();
    assert_eq!(
        (counts[0], counts[19], counts.iter().sum::<i64>()),
        (1, 1, 2)
    );
    assert_eq!(slot["exemplars"][1]["spanId"], SPAN);
    assert_eq!(slot["exemplars"][1]["traceId"], TRACE);
    let step = json!({ "step": 60, "queryType": "HEATMAP_QUERY_TYPE_INDIVIDUAL" });
    let body = answer(&server, "SelectHeatmap", step).await;
    let slot = &body["series"][0]["slots"][0];
    assert!(slot.get("exemplars").is_none(), "{slot}");
    for bad in [
        json!({ "step": 60 }),
        json!({ "step": 0, "queryType": "HEATMAP_QUERY_TYPE_SPAN" }),
        json!({ "step": 60, "limit": -1, "queryType": "HEATMAP_QUERY_TYPE_SPAN" }),
        json!({
            "step": 60,
            "queryType": "HEATMAP_QUERY_TYPE_SPAN",
            "exemplarType": "EXEMPLAR_TYPE_INDIVIDUAL",
        }),
    ] {
        let response = ask(&server, "SelectHeatmap", &[], &question(bad.clone())).await;
        assert_eq!(response.status(), 400, "{bad}");
    }
    server.stop().await;
}

#[tokio::test]
async fn answers_say_what_they_took_and_plans_what_they_would() {
    let server = pushed().await;
    for (method, more) in [
        ("ProfileTypes", json!({})),
        ("LabelNames", json!({})),
        ("LabelValues", json!({ "name": "service_name" })),
        ("Series", json!({})),
        ("SelectMergeStacktraces", json!({})),
        ("SelectMergeSpanProfile", json!({ "spanSelector": [SPAN] })),
        ("SelectMergeProfile", json!({})),
        ("SelectSeries", json!({ "step": 15 })),
        (
            "SelectHeatmap",
            json!({ "step": 15, "queryType": "HEATMAP_QUERY_TYPE_SPAN" }),
        ),
        (
            "Diff",
            json!({ "left": question(json!({})), "right": question(json!({})) }),
        ),
        ("GetProfileStats", json!({})),
    ] {
        let response = ask(&server, method, &[], &question(more.clone())).await;
        assert_eq!(response.status(), 200, "{method}");
        for name in ["bytes-read", "blocks", "samples", "cache-hits"] {
            let name = format!("x-scoria-{name}");
            assert!(response.headers().contains_key(&name), "{method} {name}");
        }
        let dry = [("x-scoria-dry-run", "true")];
        let response = ask(&server, method, &dry, &question(more)).await;
        assert_eq!(response.status(), 200, "{method}");
        assert_eq!(response.headers()["x-scoria-samples"], "0", "{method}");
        let plan = response.headers()["x-scoria-plan"].to_str().unwrap();
        let plan: Value = serde_json::from_str(plan).unwrap();
        assert!(plan["bytes"].is_u64() && plan["ingesters"] == 1, "{plan}");
    }
    let odd = [("x-scoria-dry-run", "perhaps")];
    let response = ask(&server, "ProfileTypes", &odd, &json!({})).await;
    assert_eq!(response.status(), 400);
    let analysis = answer(&server, "AnalyzeQuery", json!({ "query": CPU })).await;
    let scopes = analysis["queryScopes"].as_array().unwrap();
    assert_eq!(scopes[1]["componentType"], "Short term storage");
    server.stop().await;
}

#[tokio::test]
async fn answers_that_are_fetched_later() {
    let server = pushed().await;
    for format in ["FLAMEGRAPH", "PPROF"] {
        let format = format!("PROFILE_FORMAT_{format}");
        let force = json!({ "format": format, "async": { "type": "ASYNC_QUERY_TYPE_FORCE" } });
        let started = answer(&server, "SelectMergeStacktraces", force).await;
        assert!(started.get("flamegraph").is_none());
        assert_eq!(started["async"]["status"], "ASYNC_QUERY_STATUS_IN_PROGRESS");
        let id = started["async"]["requestId"].as_str().unwrap();
        let poll = json!({ "async": { "requestId": id } });
        let done = loop {
            let path = "/querier.v1.QuerierService/SelectMergeStacktraces";
            let request = server.post(path).header("content-type", "application/json");
            let response = request.body(poll.to_string()).send().await.unwrap();
            let body: Value = response.json().await.unwrap();
            if body["async"]["status"] != "ASYNC_QUERY_STATUS_IN_PROGRESS" {
                break body;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(done["async"]["status"], "ASYNC_QUERY_STATUS_SUCCESS");
        let some = done["flamegraph"]["total"] == "36000000"
            || done["pprof"]["profile"]["sample"].is_array();
        assert!(some, "{done}");
    }
    let unknown = json!({ "async": { "requestId": "nothing" } });
    let response = ask(&server, "SelectMergeStacktraces", &[], &unknown).await;
    assert_eq!(response.status(), 404);
    let bad = json!({ "async": { "type": "ASYNC_QUERY_TYPE_FORCE" } });
    let response = ask(&server, "SelectMergeStacktraces", &[], &bad).await;
    assert_eq!(response.status(), 400);
    server.stop().await;
}

#[tokio::test]
async fn a_span_without_samples_says_why() {
    let server = pushed().await;
    server.push("untraced").await;
    let selector = |service: &str| format!("{{service_name=\"{service}\"}}");
    for (service, span, says) in [
        ("nobody", SPAN, "no profile of type"),
        ("untraced", SPAN, "has a span id: this service"),
        ("shop", "00000000000000aa", "but none is of this span"),
    ] {
        let more = json!({ "labelSelector": selector(service), "spanSelector": [span] });
        let body = question(more);
        let response = ask(&server, "SelectMergeSpanProfile", &[], &body).await;
        assert_eq!(response.status(), 200);
        let reason = response.headers()["x-scoria-empty-reason"]
            .to_str()
            .unwrap();
        assert!(reason.contains(says), "{reason}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["flamegraph"]["names"], json!(["total"]));
    }
    let body = question(json!({ "spanSelector": [SPAN] }));
    let response = ask(&server, "SelectMergeSpanProfile", &[], &body).await;
    assert!(!response.headers().contains_key("x-scoria-empty-reason"));
    server.stop().await;
}

#[tokio::test]
async fn json_of_newer_and_older_clients_is_read() {
    let server = pushed().await;
    let now = now_ns() / 1_000_000;
    let text = |ms: i64| ms.to_string();
    let newer = question(json!({
        "format": "PROFILE_FORMAT_SANDWICH",
        "frameFilter": { "unknown": [1, { "deep": null }] },
        "stackTraceSelector": { "callSite": [{ "name": "main" }], "frames": ["x"] },
        "maxNodes": null,
    }));
    let older = json!({
        "profile_typeID": CPU,
        "label_selector": "{service_name=\"shop\",}",
        "start": text(now - 3_600_000),
        "end": text(now + 60_000),
        "format": 1,
        "max_nodes": "16384",
    });
    for body in [newer.clone(), older] {
        let response = ask(&server, "SelectMergeStacktraces", &[], &body).await;
        assert_eq!(response.status(), 200, "{body}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["flamegraph"]["total"], "36000000", "{answer}");
        assert_eq!(
            answer["flamegraph"]["levels"][0]["values"],
            json!(["0", "36000000", "0", "0"])
        );
    }
    let diff = json!({
        "left": newer.clone(),
        "right": newer,
        "format": "PROFILE_FORMAT_SANDWICH",
        "maxNodes": 500,
    });
    let response = ask(&server, "Diff", &[], &diff).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["flamegraph"]["leftTicks"], "36000000");
    server.stop().await;
}

/// Kept totals of profiles that were sampled out: nowhere by default, in time series alone if the
/// tenant wants it, and the points say so.
#[tokio::test]
async fn totals_of_what_was_sampled_out_count_in_series_with_a_note() {
    let groups = r#"limits.distributor_usage_groups={"all": "{service_name=~\".+\"}"}"#;
    let sampling = r#"limits.distributor_sampling={"keep_stripped_profiles": true, "usage_groups": {"all": {"probability": 0}}}"#;
    for include in [false, true] {
        let include_set = format!("limits.include_stripped_profiles={include}");
        let server = Running::start(&[groups, sampling, &include_set]).await;
        server.push("shop").await;
        let series = json!({ "step": 15, "exemplarType": "EXEMPLAR_TYPE_INDIVIDUAL" });
        let series = answer(&server, "SelectSeries", series).await;
        let point = &series["series"][0]["points"][0];
        if include {
            assert_eq!(point["value"], 30_000_000.0, "{series}");
            let note = &point["annotations"][0];
            assert_eq!(note["key"], "pyroscope.ingest.sampled", "{series}");
            let value: Value = serde_json::from_str(note["value"].as_str().unwrap()).unwrap();
            assert!(
                value["body"].as_str().unwrap().starts_with("1 profiles"),
                "{value}"
            );
            assert!(point.get("exemplars").is_none(), "{series}");
        } else {
            assert_eq!(series, json!({}));
        }
        let tree = answer(&server, "SelectMergeStacktraces", json!({})).await;
        assert_eq!(tree["flamegraph"]["names"], json!(["total"]));
        let heatmap = json!({ "step": 15, "queryType": "HEATMAP_QUERY_TYPE_INDIVIDUAL" });
        assert_eq!(answer(&server, "SelectHeatmap", heatmap).await, json!({}));
        let values = answer(&server, "LabelValues", json!({ "name": "__sampled__" })).await;
        assert_eq!(values["names"], json!(["true"]));
        server.stop().await;
    }
}

/// A profile as a tracer that wraps a profiler labels it: the root span by its older name, its name
/// beside, and a number.
fn labelled() -> Vec<u8> {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("cpu", "nanoseconds");
    profile.period("cpu", "nanoseconds", 10_000_000);
    profile.time(now_ns(), 10_000_000_000);
    let mut location = |name: &str| {
        let function = profile.function(&FunctionRow {
            name,
            ..FunctionRow::default()
        });
        profile.location(0, 0, &[(function, 1)])
    };
    let (main, get, put) = (location("main"), location("get"), location("put"));
    let labels = |span, name| {
        [
            ("profile_id", span),
            ("trace_id", TRACE),
            ("span_name", name),
        ]
        .map(|(key, value)| SampleLabel { key, value })
    };
    profile.sample([get, main], &[20_000_000], &labels(SPAN, "GET /"));
    profile.sample([put, main], &[5_000_000], &labels(OTHER_SPAN, "PUT /"));
    profile.sample([main], &[1_000_000], &[]);
    profile.finish()
}

/// Names of spans are labels of series, their ids are not; the series are one profile all the same.
#[tokio::test]
async fn names_of_spans_are_labels_and_their_ids_are_not() {
    let server = Running::start(&[]).await;
    let path = "/ingest?name=shop%7Bpod%3Da%7D&format=pprof&spyName=gospy";
    let pushed = server.post(path).body(labelled()).send().await.unwrap();
    assert_eq!(pushed.status(), 200);
    let texts = async |method: &str, more| -> Vec<String> {
        let body = answer(&server, method, more).await;
        serde_json::from_value(body["names"].clone()).unwrap()
    };
    let names = texts("LabelNames", json!({})).await;
    assert!(names.contains(&"span_name".to_owned()), "{names:?}");
    for id in ["span_id", "trace_id", "profile_id"] {
        assert!(!names.contains(&id.to_owned()), "{names:?}");
    }
    let values = texts("LabelValues", json!({ "name": "span_name" })).await;
    assert_eq!(values, ["GET /", "PUT /"]);

    let step = json!({ "step": 3600, "exemplarType": "EXEMPLAR_TYPE_INDIVIDUAL" });
    let body = answer(&server, "SelectSeries", step).await;
    let exemplars = body["series"][0]["points"][0]["exemplars"].as_array();
    let exemplars = exemplars.unwrap();
    assert_eq!(
        exemplars.len(),
        1,
        "three series, one profile: {exemplars:?}"
    );
    assert_eq!(exemplars[0]["value"], "26000000");
    let labels = exemplars[0]["labels"].as_array().unwrap();
    let has = |name: &str| labels.iter().any(|label| label["name"] == name);
    assert!(
        has("pod") && !has("span_name"),
        "what all share: {labels:?}"
    );
    let heatmap = json!({ "step": 3600, "queryType": "HEATMAP_QUERY_TYPE_INDIVIDUAL" });
    let heatmap = answer(&server, "SelectHeatmap", heatmap).await;
    let counts = heatmap["series"][0]["slots"][0]["counts"].as_array();
    let counted: i64 = counts.unwrap().iter().filter_map(Value::as_i64).sum();
    assert_eq!(counted, 1, "one profile: {heatmap}");
    let whole = json!({ "profileIdSelector": [exemplars[0]["profileId"]] });
    let of_span = |span: &str| json!({ "spanSelector": [span], "maxNodes": "0" });
    for (method, more, total) in [
        ("SelectMergeStacktraces", whole, "26000000"),
        ("SelectMergeSpanProfile", of_span(SPAN), "20000000"),
        ("SelectMergeSpanProfile", of_span(OTHER_SPAN), "5000000"),
        (
            "SelectMergeStacktraces",
            json!({ "labelSelector": "{span_name=\"PUT /\"}" }),
            "5000000",
        ),
    ] {
        let body = answer(&server, method, more.clone()).await;
        assert_eq!(body["flamegraph"]["total"], total, "{method} {more}");
    }
    server.stop().await;
}

/// What the details of a function are read from: its lines apart, and whose source they are in.
#[tokio::test]
async fn lines_and_their_repository_come_back() {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("cpu", "nanoseconds");
    profile.period("cpu", "nanoseconds", 10_000_000);
    profile.time(now_ns(), 10_000_000_000);
    let repository =
        r#"{"repository":"https://github.com/a/shop","git_ref":"v1.2","root_path":"src"}"#;
    let mapping = profile.mapping(&MappingRow {
        filename: "/bin/shop",
        build_id: repository,
        flags: 1,
        ..MappingRow::default()
    });
    let mut function = |name: &str| {
        profile.function(&FunctionRow {
            name,
            filename: "shop.go",
            start_line: 3,
            ..FunctionRow::default()
        })
    };
    let (main, work) = (function("main"), function("work"));
    let main = profile.location(mapping, 0, &[(main, 9)]);
    let lines = [7, 8].map(|line| profile.location(mapping, 0, &[(work, line)]));
    profile.sample([lines[0], main], &[20_000_000], &[]);
    profile.sample([lines[1], main], &[5_000_000], &[]);
    let server = Running::start(&[]).await;
    let path = "/ingest?name=shop&format=pprof&spyName=gospy";
    let pushed = server.post(path).body(profile.finish()).send().await;
    assert_eq!(pushed.unwrap().status(), 200);
    let site = json!([{ "name": "main" }, { "name": "work" }]);
    let details = json!({ "maxNodes": 500, "stackTraceSelector": { "callSite": site } });
    let body = answer(&server, "SelectMergeProfile", details).await;
    let strings = body["stringTable"].as_array().unwrap();
    let number = |value: &Value| value.as_str().unwrap().parse::<usize>().unwrap();
    assert_eq!(strings[number(&body["mapping"][0]["buildId"])], repository);
    let location = |id: &Value| {
        let mut all = body["location"].as_array().unwrap().iter();
        all.find(|location| location["id"] == *id).unwrap().clone()
    };
    let samples = body["sample"].as_array().unwrap().iter();
    let mut by_line: Vec<(usize, usize)> = samples
        .map(|sample| {
            let leaf = location(&sample["locationId"][0]);
            (
                number(&leaf["line"][0]["line"]),
                number(&sample["value"][0]),
            )
        })
        .collect();
    by_line.sort_unstable();
    assert_eq!(by_line, [(7, 20_000_000), (8, 5_000_000)]);
    let function = &body["function"][0];
    assert_eq!(strings[number(&function["filename"])], "shop.go");
    assert_eq!(function["startLine"], "3");
    server.stop().await;
}
