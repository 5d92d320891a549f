//! Status codes and error bodies of every route, as a table.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use support::{Running, now_ns, pprof};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

/// The last hour and a little of the next, in Unix milliseconds.
fn range() -> (i64, i64) {
    let now = now_ns() / 1_000_000;
    (now - 3_600_000, now + 60_000)
}

#[tokio::test]
async fn own_routes() {
    let server = Running::start(&[]).await;
    let ready = server.get("/ready").await;
    assert_eq!(ready.status(), 200);
    assert_eq!(ready.text().await.unwrap(), "ready\n");

    let build: serde_json::Value = server
        .get("/api/v1/status/buildinfo")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(build["status"], "success");
    assert_eq!(build["data"]["version"], env!("CARGO_PKG_VERSION"));
    let fields: Vec<&String> = build["data"].as_object().unwrap().keys().collect();
    let known = [
        "branch",
        "buildDate",
        "buildUser",
        "goVersion",
        "revision",
        "version",
    ];
    assert_eq!(fields, known);
    let direct = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let ui = format!("{}/ui", server.url);
    let moved = direct.build().unwrap().get(ui).send().await.unwrap();
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (302, &"/".parse().unwrap())
    );

    let config = server
        .get("/api/v1/status/config")
        .await
        .text()
        .await
        .unwrap();
    assert!(config.contains("multitenancy_enabled: false"), "{config}");

    // Where bookmarks of Pyroscope's own pages lead.
    for path in [
        "/",
        "/ui",
        "/explore",
        "/comparison?query=x",
        "/comparison-diff",
    ] {
        let page = server.get(path).await;
        assert_eq!(page.status(), 200, "{path}");
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(
            page.url().path() == "/",
            path == "/" || path == "/ui",
            "{path}"
        );
    }

    server.push("metrics").await;
    let metrics = server.get("/metrics").await.text().await.unwrap();
    let series = "pyroscope_request_duration_seconds_count{method=\"POST\",route=\"ingest\",status_code=\"200\",ws=\"false\"} 1";
    assert!(metrics.contains(series), "{metrics}");
    assert!(metrics.contains("pyroscope_build_info"));

    let missing = server.get("/nowhere").await;
    assert_eq!(missing.status(), 404);
    let body: serde_json::Value = missing.json().await.unwrap();
    assert_eq!(body["code"], "unimplemented");
    server.stop().await;
}

#[tokio::test]
async fn methods_and_types() {
    let server = Running::start(&[]).await;
    for (path, allowed) in [
        ("/push.v1.PusherService/Push", "POST"),
        ("/querier.v1.QuerierService/ProfileTypes", "POST"),
        ("/ingest", "POST"),
    ] {
        for method in [
            reqwest::Method::GET,
            reqwest::Method::HEAD,
            reqwest::Method::PUT,
        ] {
            let request = server.http.request(method, format!("{}{path}", server.url));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 405, "{path}");
            assert_eq!(answer.headers()["allow"], allowed);
        }
    }
    let render = server.post("/pyroscope/render").send().await.unwrap();
    assert_eq!(
        (render.status().as_u16(), &render.headers()["allow"]),
        (405, &"GET".parse().unwrap())
    );

    let text = server
        .post("/push.v1.PusherService/Push")
        .header("content-type", "text/plain");
    let answer = text.body("x").send().await.unwrap();
    assert_eq!(answer.status(), 415);
    assert!(answer.headers().contains_key("accept-post"));
    server.stop().await;
}

#[tokio::test]
async fn ingest_answers() {
    let server = Running::start(&["limits.ingestion_body_limit_bytes=66KiB"]).await;
    let table: [(&str, Vec<u8>, u16, &str); 15] = [
        ("name=app&format=pprof", pprof(), 200, ""),
        ("name=app", pprof(), 200, ""),
        ("name=app&format=folded", b"main;work 7\n".to_vec(), 200, ""),
        (
            "name=my.app",
            b"main;work 7\n".to_vec(),
            400,
            "unknown profile type: app",
        ),
        (
            "name=app&from=1000000000",
            b"main 7\n".to_vec(),
            400,
            "ingestion window",
        ),
        ("name=app", b"main;work x\n".to_vec(), 422, "line 1: "),
        (
            "name=app&format=lines",
            vec![b'f'; 65_537],
            422,
            "line 1: it has 65537 bytes",
        ),
        (
            "name=app&format=speedscope",
            b"{}".to_vec(),
            422,
            "speedscope",
        ),
        ("format=pprof", pprof(), 400, "name: "),
        ("name=a%20b&format=pprof", pprof(), 400, "name: "),
        ("name=app&format=pprof", b"nonsense".to_vec(), 422, ""),
        ("name=app&format=pprof", vec![0x1f, 0x8b, 8, 0, 1], 422, ""),
        ("name=app&format=jfr", b"FLR\0".to_vec(), 422, "JFR"),
        (
            "name=app&format=pprof",
            vec![0; 70_000],
            413,
            "ingestion_body_limit_bytes",
        ),
        ("name=app&format=pprof", Vec::new(), 200, ""),
    ];
    for path in ["/ingest", "/pyroscope/ingest"] {
        for (query, body, status, says) in &table {
            let request = server.post(&format!("{path}?{query}")).body(body.clone());
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), *status, "{query}");
            if *status == 200 {
                assert_eq!(answer.text().await.unwrap(), "");
                continue;
            }
            assert_eq!(answer.headers()["content-type"], "application/json");
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            let body: serde_json::Value = answer.json().await.unwrap();
            let message = body["message"].as_str().unwrap();
            assert!(message.contains(says), "{message}");
            let code = if *status == 422 {
                "unknown"
            } else {
                "invalid_argument"
            };
            assert_eq!(body["code"], code, "{message}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_was_decompressed_on_its_way_is_taken() {
    let server = Running::start(&[]).await;
    for (encoding, status) in [("gzip", 200), ("identity", 200), ("br", 422)] {
        let request = server
            .post("/ingest?name=app&format=pprof")
            .header("content-encoding", encoding);
        let answer = request.body(pprof()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{encoding}");
    }
    server.stop().await;
}

#[tokio::test]
async fn push_answers() {
    let server = Running::start(&["limits.max_profile_size_bytes=64KiB"]).await;
    use base64::Engine;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let series = |raw: &[u8]| {
        json!({"series": [{
            "labels": [{"name": "__name__", "value": "process_cpu"}, {"name": "service_name", "value": "p"}],
            "samples": [{"rawProfile": base64(raw), "ID": ""}],
            "unheardOf": {"x": [1, null]},
        }]})
        .to_string()
    };
    let large = vec![0_u8; 70_000];
    let table = [
        (series(&pprof()), 200, ""),
        (series(b"nonsense"), 400, ""),
        (series(&large), 400, "max_profile_size_bytes"),
        ("{}".to_owned(), 400, "no profiles received"),
        (r#"{"series": []}"#.to_owned(), 400, "no profiles received"),
        (String::new(), 400, ""),
        ("{".to_owned(), 400, ""),
    ];
    for (body, status, says) in table {
        let request = server
            .post("/push.v1.PusherService/Push")
            .header("content-type", "application/json")
            .body(body.clone());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body:.200}");
        let text = answer.text().await.unwrap();
        if status == 200 {
            assert_eq!(text, "{}");
        } else {
            let told: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(told["code"], "invalid_argument", "{text}");
            assert!(told["message"].as_str().unwrap().contains(says), "{text}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_push_without_profiles_says_what_it_holds() {
    let server = Running::start(&[]).await;
    let table: [(&[u8], &[&str]); 7] = [
        (b"", &["no profiles received", "has no series"]),
        // A series without samples.
        (
            &[0x0a, 0],
            &[
                "no profiles received",
                "the 1 series of the request have no samples",
            ],
        ),
        // Only fields of some other message.
        (
            &[0x18, 5, 0x22, 1, 0],
            &[
                "no profiles received",
                "field 3 (a number), field 4 (bytes)",
            ],
        ),
        (&[0x08, 1], &["field 1"]),
        (b"nonsense", &["wire type"]),
        (&[0x0a, 9, 1], &["unexpected end"]),
        // A pprof without the request around it.
        (&pprof(), &["field 1"]),
    ];
    for (body, says) in table {
        let request = server
            .post("/push.v1.PusherService/Push")
            .header("content-type", "application/proto");
        let answer = request.body(body.to_vec()).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{body:x?}");
        let told: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(told["code"], "invalid_argument", "{told}");
        for says in says {
            assert!(told["message"].as_str().unwrap().contains(says), "{told}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_is_ten_digits_at_most() {
    let server = Running::start(&[]).await;
    for (timeout, status) in [
        ("1000", 200),
        ("9999999999", 200),
        ("10000000000", 400),
        ("-1", 400),
        ("1.5", 400),
        ("soon", 400),
    ] {
        for path in [
            "/querier.v1.QuerierService/ProfileTypes",
            "/push.v1.PusherService/Push",
        ] {
            let request = server
                .post(path)
                .header("content-type", "application/json")
                .header("connect-timeout-ms", timeout);
            let answer = request.body("{}").send().await.unwrap();
            let told: serde_json::Value = answer.json().await.unwrap();
            let message = told["message"].as_str().unwrap_or_default();
            // The push that gets through has no profiles.
            let refused = message.contains("Connect-Timeout-Ms");
            assert_eq!(refused, status == 400, "{path} {timeout}: {told}");
            if refused {
                assert_eq!(told["code"], "invalid_argument", "{timeout}: {told}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn queries_answer_what_was_pushed() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let (start, end) = range();
    let selector = r#"{service_name="shop"}"#;

    let (status, types) = server.query("ProfileTypes", "{}").await;
    assert_eq!(
        (status, &types["profileTypes"][0]["ID"]),
        (200, &json!(CPU))
    );

    let body = json!({"profile_typeID": CPU, "label_selector": selector, "start": start.to_string(), "end": end});
    let (status, stacks) = server
        .query("SelectMergeStacktraces", &body.to_string())
        .await;
    assert_eq!(status, 200, "{stacks}");
    let graph = &stacks["flamegraph"];
    assert_eq!(graph["total"], "30000000");
    assert_eq!(
        graph["levels"][0]["values"],
        json!(["0", "30000000", "0", "0"])
    );

    // A format of the future, and fields of the future, do not matter.
    let newer = json!({"profileTypeID": CPU, "labelSelector": selector, "start": start, "end": end,
        "format": "PROFILE_FORMAT_SANDWICH", "frames": {"a": 1}});
    let (status, newer) = server
        .query("SelectMergeStacktraces", &newer.to_string())
        .await;
    assert_eq!(
        (status, &newer["flamegraph"]["total"]),
        (200, &json!("30000000"))
    );

    let (status, profile) = server.query("SelectMergeProfile", &body.to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(profile["stringTable"][0], "");
    assert_eq!(profile["sample"].as_array().unwrap().len(), 2);

    let body = json!({"profileTypeID": CPU, "labelSelector": selector, "start": start, "end": end,
        "step": 15, "groupBy": ["service_name"]});
    let (status, points) = server.query("SelectSeries", &body.to_string()).await;
    assert_eq!(status, 200, "{points}");
    assert_eq!(
        points["series"][0]["labels"],
        json!([{"name": "service_name", "value": "shop"}])
    );
    assert_eq!(points["series"][0]["points"][0]["value"], 30_000_000.0);

    let side = json!({"profileTypeID": CPU, "labelSelector": selector, "start": start, "end": end});
    let body = json!({"left": side, "right": side}).to_string();
    let (status, diff) = server.query("Diff", &body).await;
    assert_eq!(
        (status, &diff["flamegraph"]["total"]),
        (200, &json!("60000000"))
    );

    let (status, stats) = server.query("GetProfileStats", "{}").await;
    assert_eq!((status, &stats["dataIngested"]), (200, &json!(true)));

    let query = format!("query={CPU}%7Bservice_name%3D%22shop%22%7D&from=now-1h&until=now%2B1m");
    let render = server.get(&format!("/pyroscope/render?{query}")).await;
    assert_eq!(render.status(), 200);
    let render: serde_json::Value = render.json().await.unwrap();
    assert_eq!(render["flamebearer"]["numTicks"], 30_000_000);
    let dot = server
        .get(&format!("/pyroscope/render?{query}&format=dot"))
        .await;
    assert!(dot.text().await.unwrap().starts_with("digraph"));
    server.stop().await;
}

#[tokio::test]
async fn queries_are_refused_by_rule() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let (start, end) = range();
    let ask = |extra: serde_json::Value| {
        let mut body = json!({"profileTypeID": CPU, "labelSelector": "{}", "start": start, "end": end, "step": 15});
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        body.to_string()
    };
    let table = [
        ("ProfileTypes", json!({}), 200),
        ("ProfileTypes", json!({"start": -5, "end": -1}), 200),
        ("ProfileTypes", json!({"start": end, "end": start}), 400),
        ("ProfileTypes", json!({"start": 0}), 400),
        ("LabelNames", json!({}), 200),
        ("LabelNames", json!({"start": 0, "end": 0}), 400),
        ("LabelNames", json!({"matchers": ["{a="]}), 400),
        ("Series", json!({"matchers": []}), 200),
        ("Series", json!({"matchers": ["{}"]}), 200),
        ("Series", json!({"start": end, "end": start}), 400),
        ("LabelValues", json!({"name": "nobody_has_it"}), 200),
        ("LabelValues", json!({}), 400),
        (
            "SelectMergeStacktraces",
            json!({"labelSelector": "{nobody=\"x\"}"}),
            200,
        ),
        ("SelectMergeStacktraces", json!({"labelSelector": ""}), 400),
        (
            "SelectMergeStacktraces",
            json!({"profileTypeID": "cpu"}),
            400,
        ),
        (
            "SelectMergeStacktraces",
            json!({"maxNodes": 1_048_577}),
            400,
        ),
        (
            "SelectMergeStacktraces",
            json!({"spanSelector": ["xyz"]}),
            400,
        ),
        ("SelectMergeProfile", json!({"profileTypeID": ""}), 400),
        ("SelectMergeSpanProfile", json!({}), 200),
        ("SelectSeries", json!({"step": 0}), 400),
        (
            "SelectSeries",
            json!({"exemplarType": "EXEMPLAR_TYPE_SPAN"}),
            200,
        ),
        ("SelectSeries", json!({"start": "soon"}), 400),
        ("SelectHeatmap", json!({}), 400),
        ("AnalyzeQuery", json!({}), 200),
        ("Diff", json!({}), 400),
    ];
    for (method, extra, status) in table {
        let (answered, body) = server.query(method, &ask(extra.clone())).await;
        assert_eq!(answered, status, "{method} {extra}: {body}");
        let code = match status {
            400 => json!("invalid_argument"),
            _ => json!(null),
        };
        assert_eq!(body["code"], code, "{method} {extra}: {body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_message_and_answers_that_hold_nothing() {
    let server = Running::start(&[]).await;
    let (start, end) = range();
    for (method, body) in [
        ("ProfileTypes", ""),
        ("ProfileTypes", "{"),
        ("ProfileTypes", "[]"),
        ("ProfileTypes", " [0, 0]"),
        ("GetProfileStats", "[]"),
        ("GetProfileStats", "null"),
        ("GetProfileStats", " \n"),
        ("Diff", r#"{"left": ["cpu"]}"#),
        (
            "SelectMergeProfile",
            r#"{"stackTraceSelector": {"callSite": [["main"]]}}"#,
        ),
    ] {
        assert_eq!(server.query(method, body).await.0, 400, "{method} {body:?}");
    }
    let empty =
        json!({"profileTypeID": CPU, "labelSelector": "{a=\"b\"}", "start": start, "end": end});
    let graph = json!({"names": ["total"], "levels": [{"values": ["0", "0", "0", "0"]}]});
    for (format, answer) in [
        ("FLAMEGRAPH", json!({"flamegraph": graph})),
        ("NOBODY_KNOWS", json!({"flamegraph": graph})),
        ("TREE", json!({})),
        ("DOT", json!({})),
        ("PPROF", json!({"pprof": {"profile": {}}})),
        ("FUNCTIONS", json!({"functions": {}})),
    ] {
        let mut body = empty.clone();
        body["format"] = json!(format!("PROFILE_FORMAT_{format}"));
        let body = body.to_string();
        let answered = server.query("SelectMergeStacktraces", &body).await;
        assert_eq!(answered, (200, answer), "{format}");
    }
    let body = empty.to_string();
    let answered = server.query("SelectMergeProfile", &body).await;
    assert_eq!(answered, (200, json!({})));
    let bars = json!([{"values": ["0", "0", "0", "0", "0", "0", "0"]}]);
    let both = json!({"left": empty, "right": empty}).to_string();
    let answered = server.query("Diff", &both).await;
    let graph = json!({"flamegraph": {"names": ["total"], "levels": bars}});
    assert_eq!(answered, (200, graph));
    server.stop().await;
}

#[tokio::test]
async fn label_names_beyond_the_plain_ones_need_the_capability() {
    let server = Running::start(&[]).await;
    let path = "/ingest?name=shop%7Botel.scope.name%3Dx%7D&format=pprof";
    let pushed = server.post(path).body(pprof()).send().await.unwrap();
    assert_eq!(pushed.status(), 200);
    let (start, end) = range();
    let body = json!({"start": start, "end": end}).to_string();
    for (accept, status, shown) in [
        ("*/*", 200, false),
        ("*/*; allow-utf8-labelnames=true", 200, true),
        ("nonsense", 400, false),
    ] {
        let request = server
            .post("/querier.v1.QuerierService/LabelNames")
            .header("content-type", "application/json")
            .header("accept", accept);
        let answer = request.body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{accept}");
        assert_eq!(
            answer.text().await.unwrap().contains("otel.scope.name"),
            shown,
            "{accept}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn without_memory_writes_are_told_to_come_back_and_reads_go_on() {
    // Any process holds more than a hundredth of this.
    let server = Running::start(&["memory.limit=64MiB", "memory.shed_percent=1"]).await;
    let path = "/ingest?name=app&format=pprof";
    let shed = server.post(path).body(pprof()).send().await.unwrap();
    assert_eq!(shed.status(), 503);
    assert!(shed.headers().contains_key("retry-after"));
    let told: serde_json::Value = shed.json().await.unwrap();
    assert_eq!(told["code"], "unavailable");
    let pushed = server
        .post("/push.v1.PusherService/Push")
        .header("content-type", "application/json");
    let answer = pushed.body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(server.query("ProfileTypes", "{}").await.0, 200);
    assert_eq!(server.get("/ready").await.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn render_by_its_parameters() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let query = format!("query={CPU}%7Bservice_name%3D%22shop%22%7D");
    let table = [
        (format!("{query}&from=now-1h&until=now"), 200),
        (query.clone(), 200),
        (format!("{query}&from=now-1h&max-nodes=0"), 200),
        (format!("{query}&from=now-1h&max-nodes=invalid"), 200),
        (format!("{query}&from=now-1h&aggregation=invalid"), 200),
        (
            format!("{query}&from=now-1h&groupBy=service_name&groupBy=x"),
            200,
        ),
        (format!("{query}&from=now-1h&max-nodes=2000000"), 400),
        (format!("{query}&from=0"), 400),
        (format!("{query}&from=now-1h&until=0"), 400),
        (format!("{query}&from=now&until=now-1h"), 400),
        ("from=now-1h".to_owned(), 400),
        ("query=%7B%7D&from=now-1h".to_owned(), 400),
        ("query=cpu%7B%7D&from=now-1h".to_owned(), 400),
        (format!("query={CPU}%7Ba%3D&from=now-1h"), 400),
    ];
    for (query, status) in table {
        let answer = server.get(&format!("/pyroscope/render?{query}")).await;
        assert_eq!(answer.status().as_u16(), status, "{query}");
        let body: serde_json::Value = answer.json().await.unwrap();
        if status == 400 {
            assert_eq!(body["code"], "invalid_argument", "{query}");
        } else {
            assert_eq!(body["flamebearer"]["names"][0], "total", "{query}");
            assert_eq!(body["metadata"]["units"], "samples");
        }
    }
    server.stop().await;
}
