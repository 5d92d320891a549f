//! What holds of every question alike, route by route, at the built binary: what it took, what it
//! would take, whose data it is about, and that its memory comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use scoria_proto::public::querier::v1 as querier;
use scoria_tests::connect::{Encoding, call};
use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{Reply, ServerProcess, now_ns};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const FIGURES: [&str; 4] = ["bytes-read", "blocks", "samples", "cache-hits"];
/// It is about one tenant, and so is asked apart.
const STATS: &str = "GetProfileStats";

/// A server that holds a profile of a shop for each tenant, in a block, and one more in its head.
struct Shop {
    server: ServerProcess,
    end: i64,
    _data: tempfile::TempDir,
}

impl Shop {
    fn open(tenants: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let place = data.path().join("data");
        let arguments = ["--set", "auth.multitenancy_enabled=true"];
        let now = now_ns();
        let push = |server: &ServerProcess, time_ns: i64| {
            for (at, tenant) in tenants.iter().enumerate() {
                let stack = vec!["main".to_owned(), format!("of_{tenant}")];
                let profile = TestProfile::cpu(time_ns, [(stack, 10_i64.pow(at as u32))]);
                let path = "/ingest?name=shop&format=pprof&spyName=gospy";
                let reply = server.post(path, &[("x-scope-orgid", tenant)], profile.encode());
                assert_eq!(reply.status, 200, "{tenant}");
            }
        };
        let server = ServerProcess::start(&place, &arguments);
        push(&server, now - 1_000_000_000);
        assert!(server.terminate().success());
        let server = ServerProcess::start(&place, &arguments);
        push(&server, now);
        Self {
            server,
            end: now / 1_000_000 + 60_000,
            _data: data,
        }
    }

    fn body(&self, more: &Value) -> Value {
        let mut body = json!({
            "profileTypeID": CPU,
            "labelSelector": "{service_name=\"shop\"}",
            "start": self.end - 600_000,
            "end": self.end,
        });
        let into = body.as_object_mut().expect("an object");
        into.extend(more.as_object().expect("an object").clone());
        body
    }

    /// Every method by its name, and every path that is asked by GET.
    fn questions(&self) -> (Vec<(&'static str, Value)>, Vec<String>) {
        let heatmap = json!({"step": 15, "queryType": "HEATMAP_QUERY_TYPE_INDIVIDUAL"});
        let side = self.body(&json!({}));
        let functions = "PROFILE_FORMAT_FUNCTIONS";
        let methods = vec![
            ("ProfileTypes", self.body(&json!({}))),
            ("LabelNames", self.body(&json!({}))),
            ("LabelValues", self.body(&json!({"name": "service_name"}))),
            (
                "Series",
                self.body(&json!({"labelNames": ["service_name"]})),
            ),
            ("SelectMergeStacktraces", self.body(&json!({}))),
            (
                "SelectMergeStacktraces",
                self.body(&json!({"format": functions})),
            ),
            ("SelectMergeSpanProfile", self.body(&json!({}))),
            ("SelectMergeProfile", self.body(&json!({}))),
            ("SelectSeries", self.body(&json!({"step": 15}))),
            ("SelectHeatmap", self.body(&heatmap)),
            ("Diff", json!({"left": side, "right": side})),
            (
                "Diff",
                json!({"left": side, "right": side, "format": functions}),
            ),
            (STATS, json!({})),
            ("AnalyzeQuery", self.body(&json!({"query": "{}"}))),
        ];
        let (from, until) = (self.end - 600_000, self.end);
        let query = format!("{CPU}%7Bservice_name%3D%22shop%22%7D");
        let side =
            |name: &str| format!("{name}Query={query}&{name}From={from}&{name}Until={until}");
        let range = format!("from={from}&until={until}");
        let paths = vec![
            format!("/pyroscope/render?query={query}&{range}"),
            format!("/pyroscope/render?query={query}&{range}&format=dot"),
            format!("/pyroscope/render-diff?{}&{}", side("left"), side("right")),
            format!("/pyroscope/label-values?label=service_name&{range}"),
            format!("/pprof?query={query}&{range}"),
            format!("/pgo/go?service=shop&{range}"),
            format!("/api/v1/top?query={query}&{range}"),
        ];
        (methods, paths)
    }

    fn ask(&self, method: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let path = format!("/querier.v1.QuerierService/{method}");
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        let reply = self.server.post(&path, &all, body.to_string().into_bytes());
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, 200, "{method}: {text}");
        reply
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let reply = self.server.fetch(path, headers);
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, 200, "{path}: {text}");
        reply
    }

    /// Every question's answer by what was asked.
    fn ask_all(&self, headers: &[(&str, &str)], parameters: &str) -> Vec<(String, Reply)> {
        let (methods, paths) = self.questions();
        let asked = methods.iter().map(|(method, body)| {
            let what = format!("{method} {}", body["format"]);
            (what, self.ask(method, headers, body))
        });
        let got = paths.iter().map(|path| {
            let path = format!("{path}{parameters}");
            let reply = self.get(&path, headers);
            (path, reply)
        });
        asked.chain(got).collect()
    }

    /// Queries that run or wait, and bytes of memory that they hold.
    fn held(&self) -> f64 {
        let metrics = self.server.get("/metrics").expect("metrics").body;
        let figure = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|value| value.trim().parse::<f64>().ok());
            value.unwrap_or_else(|| panic!("{name} is missing"))
        };
        figure("scoria_queries_running ")
            + figure("scoria_queries_waiting ")
            + figure("scoria_memory_used_bytes{share=\"queries\"} ")
    }
}

fn figures(what: &str, reply: &Reply) -> BTreeMap<&'static str, u64> {
    let figure = |name: &'static str| {
        let value = reply.headers.get(&format!("x-scoria-{name}"));
        let value = value.and_then(|value| value.parse().ok());
        (
            name,
            value.unwrap_or_else(|| panic!("{what}, {name}: {:?}", reply.headers)),
        )
    };
    FIGURES.map(figure).into_iter().collect()
}

#[test]
fn every_answer_says_what_it_took_and_gives_its_memory_back() {
    let shop = Shop::open(&["a"]);
    for (what, reply) in shop.ask_all(&[("x-scope-orgid", "a")], "") {
        let told = figures(&what, &reply);
        assert!(told["blocks"] >= 1, "{what}: {told:?}");
        assert!(!reply.headers.contains_key("x-scoria-missing"), "{what}");
        let free = shop.server.wait_for(PATIENCE, || shop.held() == 0.0);
        assert!(free, "{what}: {} is still held", shop.held());
    }
}

#[test]
fn every_dry_run_tells_the_plan_and_does_nothing() {
    let shop = Shop::open(&["a"]);
    let tenant = ("x-scope-orgid", "a");
    let by_header = shop.ask_all(&[tenant, ("x-scoria-dry-run", "true")], "");
    let by_parameter = shop.ask_all(&[tenant], "&dry_run=true");
    let n_methods = shop.questions().0.len();
    for (what, reply) in by_header.iter().chain(&by_parameter[n_methods..]) {
        let told = figures(what, reply);
        assert_eq!(told["bytes-read"] + told["samples"], 0, "{what}: {told:?}");
        let plan = &reply.headers["x-scoria-plan"];
        let plan: Value = serde_json::from_str(plan).expect("a plan");
        assert!(plan["blocks"].as_u64() >= Some(1), "{what}: {plan}");
        assert!(
            plan["bytes"].is_u64() && plan["memoryBytes"].is_u64(),
            "{what}: {plan}"
        );
        assert_eq!(reply.headers["x-scoria-dry-run"], "true", "{what}");
        if what.starts_with('/') {
            let body: Value = serde_json::from_slice(&reply.body).expect("a plan");
            assert_eq!(body, plan, "{what}");
        }
    }
}

/// What is told about one tenant and about the other is in what is told about both.
#[test]
fn every_question_is_about_one_tenant_or_several() {
    let shop = Shop::open(&["a", "b"]);
    let (methods, paths) = shop.questions();
    let of = |tenants: &str| {
        let headers = [("x-scope-orgid", tenants)];
        let asked = methods.iter().filter(|(method, _)| *method != STATS);
        let asked = asked.map(|(method, body)| {
            let reply = shop.ask(method, &headers, body);
            (format!("{method} {}", body["format"]), reply)
        });
        let got = paths
            .iter()
            .map(|path| (path.clone(), shop.get(path, &headers)));
        asked.chain(got).collect::<Vec<_>>()
    };
    let [one, other, both, again] = ["a", "b", "a|b", "b|a|b"].map(of);
    for (((what, one), (_, other)), ((_, both), (_, again))) in
        one.iter().zip(&other).zip(both.iter().zip(&again))
    {
        let blocks = [one, other, both].map(|reply| figures(what, reply)["blocks"]);
        assert!(
            blocks[0] >= 1 && blocks[1] >= 1 && blocks[2] >= 1,
            "{what}: {blocks:?}"
        );
        // Compressed ones differ by nothing but their time.
        if !what.starts_with("/p") || what.starts_with("/pyroscope") {
            assert_eq!(
                both.body, again.body,
                "{what}: order and doubles do not matter"
            );
        }
        let text = |reply: &Reply| String::from_utf8_lossy(&reply.body).into_owned();
        let names = ["of_a", "of_b"];
        if text(one).contains(names[0]) {
            assert!(!text(one).contains(names[1]), "{what}: a tenant of its own");
            for name in names {
                assert!(text(both).contains(name), "{what}: {name} is missing");
            }
        }
    }
    // A profile of 1 and one of 10, each in a block and in a head.
    let body = shop.body(&json!({"step": 600}));
    for (tenants, sum) in [("a", 2.0), ("b", 20.0), ("a|b", 22.0)] {
        let reply = shop.ask("SelectSeries", &[("x-scope-orgid", tenants)], &body);
        let series: Value = serde_json::from_slice(&reply.body).expect("JSON");
        let points = series["series"][0]["points"].as_array().expect("points");
        let values = points.iter().filter_map(|point| point["value"].as_f64());
        assert_eq!(values.sum::<f64>(), sum, "{tenants}: {series}");
    }
}

/// What ready-made dashboards select, as far as it means something here: no rings, no Raft.
#[test]
fn metrics_by_the_names_of_dashboards() {
    let shop = Shop::open(&["a"]);
    shop.ask_all(&[("x-scope-orgid", "a")], "");
    let name = format!(
        "/ingest?name=shop%7B{}%3Dx%7D&format=pprof",
        "l".repeat(2000)
    );
    let long = TestProfile::cpu(now_ns(), [(vec!["main".to_owned()], 1)]).encode();
    let refused = shop.server.post(&name, &[("x-scope-orgid", "a")], long);
    assert_eq!(refused.status, 422);
    let types = querier::ProfileTypesRequest::default();
    let path = "/querier.v1.QuerierService/ProfileTypes";
    // Without a tenant, over gRPC.
    let refused =
        call::<_, querier::ProfileTypesResponse>(&shop.server, Encoding::Grpc, path, &types);
    assert!(refused.is_err(), "{refused:?}");
    let metrics = shop.server.get("/metrics").expect("metrics").body;
    let has = |line: &str| metrics.lines().any(|of| of.starts_with(line));
    let route = "querier_v1_querierservice_selectmergestacktraces";
    let requests = format!(
        "pyroscope_request_duration_seconds_count{{method=\"POST\",route=\"{route}\",status_code=\"200\",ws=\"false\"}} "
    );
    let received = [
        "compressed_bytes",
        "decompressed_bytes",
        "samples",
        "samples_bytes",
        "symbols_bytes",
    ]
    .map(|what| format!("pyroscope_distributor_received_{what}_bucket{{"));
    let over_grpc =
        format!("pyroscope_request_duration_seconds_count{{method=\"gRPC\",route=\"{path}\",");
    let rest = [
        requests,
        over_grpc,
        "pyroscope_build_info{".to_owned(),
        "pyroscope_discarded_samples_total{".to_owned(),
        "objstore_bucket_operations_total{".to_owned(),
        "objstore_bucket_operation_duration_seconds_bucket{".to_owned(),
        "process_".to_owned(),
    ];
    for line in received.iter().chain(&rest) {
        assert!(has(line), "{line} is missing:\n{metrics}");
    }
}

/// Totals of profiles that were sampled out count where the tenant wants it, with a note.
#[test]
fn points_carry_notes() {
    let data = tempfile::tempdir().expect("a directory");
    let sets = [
        r#"limits.distributor_usage_groups={"all": "{service_name=~\".+\"}"}"#,
        r#"limits.distributor_sampling={"keep_stripped_profiles": true, "usage_groups": {"all": {"probability": 0}}}"#,
        "limits.include_stripped_profiles=true",
    ];
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let server = ServerProcess::start(&data.path().join("data"), &arguments);
    let now = now_ns();
    let profile = TestProfile::cpu(now, [(vec!["main".to_owned()], 7)]);
    assert_eq!(
        server.ingest("shop", &profile).expect("an answer").status,
        200
    );
    let body = json!({
        "profileTypeID": CPU,
        "labelSelector": "{}",
        "start": now / 1_000_000 - 60_000,
        "end": now / 1_000_000 + 60_000,
        "step": 15,
    });
    let (status, answer) = server.call("SelectSeries", &body);
    assert_eq!(status, 200, "{answer}");
    let point = &answer["series"][0]["points"][0];
    assert_eq!(point["value"], 7.0, "{answer}");
    let note = &point["annotations"][0];
    assert_eq!(note["key"], "pyroscope.ingest.sampled", "{answer}");
    let value = note["value"].as_str().expect("JSON in a text");
    let value: Value = serde_json::from_str(value).expect("JSON");
    assert!(value["body"].is_string(), "{value}");
}
