//! The matrix of statuses that Pyroscope's own integration test demands, cell by cell: which
//! requests are answered and which are the client's fault. Nothing of it is ever a 500.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Map, Value, json};
use support::{Running, now_ns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const SELECTOR: &str = "{service_name=\"shop\"}";

/// Methods that select profiles of one type.
const SELECTING: [&str; 4] = [
    "SelectMergeStacktraces",
    "SelectMergeProfile",
    "SelectMergeSpanProfile",
    "SelectSeries",
];

/// A range that holds the profile, in Unix milliseconds.
fn range() -> (i64, i64) {
    let now = now_ns() / 1_000_000;
    (now - 600_000, now + 60_000)
}

/// A request that every method answers.
fn valid(method: &str) -> Map<String, Value> {
    let (start, end) = range();
    let selecting = json!({
        "profileTypeID": CPU, "labelSelector": SELECTOR, "start": start, "end": end,
    });
    let request = match method {
        "ProfileTypes" => json!({ "start": start, "end": end }),
        "LabelNames" | "Series" => json!({ "matchers": [SELECTOR], "start": start, "end": end }),
        "LabelValues" => {
            json!({ "name": "service_name", "matchers": [SELECTOR], "start": start, "end": end })
        }
        "Diff" => json!({ "left": selecting, "right": selecting }),
        _ => selecting,
    };
    let mut request = request.as_object().unwrap().clone();
    if method == "SelectSeries" || method == "SelectHeatmap" {
        request.insert("step".to_owned(), json!(15));
    }
    request
}

/// The valid request with fields replaced; null takes a field away.
fn with(method: &str, changes: &Value) -> Value {
    let mut request = valid(method);
    let sides: Vec<&mut Map<String, Value>> = match method {
        // Both sides take the change.
        "Diff" => request
            .values_mut()
            .filter_map(Value::as_object_mut)
            .collect(),
        _ => vec![&mut request],
    };
    for side in sides {
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(side.remove(name)),
                value => drop(side.insert(name.clone(), value.clone())),
            }
        }
    }
    Value::Object(request)
}

async fn check(server: &Running, method: &str, body: &str, status: u16) {
    let (answered, answer) = server.query(method, body).await;
    assert_eq!(answered, status, "{method} {body}: {answer}");
    let code = if status == 200 {
        Value::Null
    } else {
        json!("invalid_argument")
    };
    assert_eq!(answer["code"], code, "{method} {body}: {answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let server = Running::start(&["server.read_timeout=50ms"]).await;
    let address = server.url.strip_prefix("http://").unwrap();
    for path in [
        "/ingest?name=shop",
        "/v1development/profiles",
        "/push.v1.PusherService/Push",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ncontent-length: 1000\r\n\r\nhalf"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408", "{path}");
    }
    server.stop().await;
}

/// Sends all of a request before it reads a byte of the answer, as many clients do; the answer's
/// first line.
async fn answer_after_all(address: &str, head: String, body: Vec<u8>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("POST {head}host: x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let sets = [
        "limits.ingestion_body_limit_bytes=1MiB",
        "auth.multitenancy_enabled=true",
        "debug_info.max_upload_size=1MiB",
    ];
    let server = Running::start(&sets).await;
    let address = server.url.strip_prefix("http://").unwrap();
    let upload = "/debuginfo.v1alpha1.DebuginfoService/Upload/";
    let proto = "content-type: application/proto\r\n";
    let tenant = "x-scope-orgid: a\r\n";
    for (path, headers, status) in [
        ("/ingest?name=shop", tenant.to_owned(), 413),
        ("/ingest?name=shop", String::new(), 401),
        (
            "/push.v1.PusherService/Push",
            format!("{tenant}{proto}"),
            413,
        ),
        ("/push.v1.PusherService/Push", proto.to_owned(), 401),
        (
            "/v1development/profiles",
            "x-scope-orgid: ../x\r\n".to_owned(),
            400,
        ),
        (&format!("{upload}abcdef12"), tenant.to_owned(), 412),
        (&format!("{upload}no-hex"), tenant.to_owned(), 400),
        (&format!("{upload}aabb/x"), tenant.to_owned(), 400),
        (upload, tenant.to_owned(), 400),
    ] {
        let head = format!("{path} HTTP/1.1\r\n{headers}");
        let answer = answer_after_all(address, head, vec![7; 20 << 20]).await;
        assert_eq!(answer, format!("HTTP/1.1 {status}"), "{path} {headers}");
    }
    // One that is refused half way, though it waited to be asked.
    let ask = server.post("/debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload");
    let ask = ask
        .header("x-scope-orgid", "a")
        .header("content-type", "application/json");
    let ask = ask.body(r#"{"file":{"gnuBuildId":"abcdef12"}}"#);
    assert_eq!(ask.send().await.unwrap().status(), 200);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {upload}abcdef12 HTTP/1.1\r\nhost: x\r\n{tenant}expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        20 << 20
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&vec![7; 20 << 20]).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // Who asks first is told at once.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /ingest?name=shop HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    server.stop().await;
}

#[tokio::test]
async fn a_push_that_is_no_message_is_counted_and_told() {
    let server = Running::start(&[]).await;
    for (kind, body) in [
        ("application/proto", "\u{1}\u{2}"),
        ("application/json", "{"),
    ] {
        let push = server.post("/push.v1.PusherService/Push");
        let push = push.header("content-type", kind).body(body);
        assert_eq!(push.send().await.unwrap().status(), 400, "{kind}");
    }
    let told = server.get("/api/v1/tenant/rejections").await;
    let told: serde_json::Value = told.json().await.unwrap();
    let told = told.to_string();
    assert!(
        told.contains("malformed_profile") && told.contains(r#""count":2"#),
        "{told}"
    );
    server.push("shop").await;
    let again = server.get("/api/v1/tenant/rejections").await;
    assert_eq!(
        again.json::<serde_json::Value>().await.unwrap().to_string(),
        told
    );
    server.stop().await;
}

#[tokio::test]
async fn profile_types() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let (start, end) = range();
    for (body, status) in [
        (json!({ "start": start, "end": end }), 200),
        (json!({ "start": 0, "end": 0 }), 200),
        (json!({ "start": -10, "end": -1 }), 200),
        (json!({}), 200),
        (json!({ "start": end, "end": start }), 400),
        (json!({ "start": 0, "end": end }), 400),
        (json!({ "start": start, "end": 0 }), 400),
        (json!({ "start": "yesterday", "end": end }), 400),
    ] {
        check(&server, "ProfileTypes", &body.to_string(), status).await;
    }
    for body in ["", "{"] {
        check(&server, "ProfileTypes", body, 400).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn labels_and_series() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let (start, end) = range();
    for method in ["LabelNames", "LabelValues", "Series"] {
        for (changes, status) in [
            (json!({}), 200),
            (json!({ "matchers": [] }), 200),
            (json!({ "matchers": ["{}"] }), 200),
            (json!({ "matchers": ["{nobody=\"x\"}"] }), 200),
            (json!({ "start": null, "end": null }), 400),
            (json!({ "start": null }), 400),
            (json!({ "end": null }), 400),
            (json!({ "matchers": ["{a=}"] }), 400),
            (json!({ "matchers": ["nonsense{"] }), 400),
            (json!({ "start": end, "end": start }), 400),
        ] {
            let body = with(method, &changes).to_string();
            check(&server, method, &body, status).await;
        }
        check(&server, method, "", 400).await;
        check(&server, method, "{", 400).await;
    }
    let values = |changes: Value| with("LabelValues", &changes).to_string();
    check(
        &server,
        "LabelValues",
        &values(json!({ "name": "nobody" })),
        200,
    )
    .await;
    check(
        &server,
        "LabelValues",
        &values(json!({ "name": null })),
        400,
    )
    .await;
    check(&server, "LabelValues", &values(json!({ "name": "" })), 400).await;
    server.stop().await;
}

#[tokio::test]
async fn queries_of_one_type() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let (start, end) = range();
    for method in SELECTING.into_iter().chain(["Diff"]) {
        for (changes, status) in [
            (json!({}), 200),
            (json!({ "labelSelector": "{}" }), 200),
            (json!({ "labelSelector": "{nobody=\"x\"}" }), 200),
            (json!({ "profileTypeID": "" }), 400),
            (json!({ "profileTypeID": null }), 400),
            (json!({ "profileTypeID": "process_cpu" }), 400),
            (json!({ "profileTypeID": "a:b:c:d:e:f:g" }), 400),
            (json!({ "labelSelector": "" }), 400),
            (json!({ "labelSelector": null }), 400),
            (json!({ "labelSelector": "{a=}" }), 400),
            (json!({ "start": null, "end": null }), 400),
            (json!({ "start": null }), 400),
            (json!({ "end": null }), 400),
            (json!({ "start": end, "end": start }), 400),
        ] {
            let body = with(method, &changes).to_string();
            check(&server, method, &body, status).await;
        }
        check(&server, method, "", 400).await;
    }
    for step in [json!(null), json!(0), json!(0.0001), json!(-1)] {
        let body = with("SelectSeries", &json!({ "step": step })).to_string();
        check(&server, "SelectSeries", &body, 400).await;
    }
    for side in ["left", "right"] {
        let mut body = valid("Diff");
        body.remove(side);
        check(&server, "Diff", &Value::Object(body).to_string(), 400).await;
    }
    let heatmap = json!({ "queryType": "HEATMAP_QUERY_TYPE_INDIVIDUAL" });
    for (changes, status) in [
        (json!({}), 200),
        (json!({ "exemplarType": "EXEMPLAR_TYPE_INDIVIDUAL" }), 200),
        (json!({ "exemplarType": "EXEMPLAR_TYPE_SPAN" }), 400),
        (json!({ "queryType": null }), 400),
        (json!({ "step": 0 }), 400),
        (json!({ "limit": -1 }), 400),
        (json!({ "start": start, "end": start }), 400),
        (json!({ "labelSelector": "{a=}" }), 400),
    ] {
        let mut all = heatmap.clone();
        let changes = changes.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(changes);
        let body = with("SelectHeatmap", &all).to_string();
        check(&server, "SelectHeatmap", &body, status).await;
    }
    server.stop().await;
}

/// Parameters of a URL, encoded.
fn url(path: &str, parameters: &[(&str, &str)]) -> String {
    let encoded = |text: &str| {
        text.bytes()
            .map(|b| format!("%{b:02X}"))
            .collect::<String>()
    };
    let pairs = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)));
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[tokio::test]
async fn render() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let query = format!("{CPU}{SELECTOR}");
    let base = [
        ("query", query.as_str()),
        ("from", "now-1h"),
        ("until", "now"),
    ];
    for (changes, status) in [
        (&[][..], 200),
        (&[("max-nodes", "0")], 200),
        (&[("max-nodes", "invalid")], 200),
        (&[("maxNodes", "16384")], 200),
        (&[("max-nodes", "1048577")], 400),
        (&[("aggregation", "invalid")], 200),
        (&[("aggregation", "avg")], 200),
        (&[("groupBy", "pod")], 200),
        (&[("format", "dot")], 200),
        (&[("format", "anything")], 200),
        (&[("from", ""), ("until", "")], 200),
        (&[("query", "")], 400),
        (&[("query", "{a=")], 400),
        (&[("query", "{service_name=\"shop\"}")], 400),
        (&[("query", "a:b{service_name=\"shop\"}")], 400),
        (&[("from", "0")], 400),
        (&[("until", "0")], 400),
        (&[("from", "now"), ("until", "now-1h")], 400),
    ] {
        let mut parameters: Vec<(&str, &str)> = base
            .iter()
            .filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name))
            .copied()
            .collect();
        // An empty value stands for a parameter that is not there.
        parameters.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        let path = url("/pyroscope/render", &parameters);
        let answer = server.get(&path).await;
        assert_eq!(answer.status(), status, "{changes:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn render_diff() {
    let server = Running::start(&[]).await;
    server.push("shop").await;
    let query = format!("{CPU}{SELECTOR}");
    let other = format!("memory:inuse_space:bytes:space:bytes{SELECTOR}");
    let base = [
        ("leftQuery", query.as_str()),
        ("leftFrom", "now-1h"),
        ("leftUntil", "now"),
        ("rightQuery", query.as_str()),
        ("rightFrom", "now-1h"),
        ("rightUntil", "now"),
    ];
    for (changes, status) in [
        (&[][..], 200),
        (&[("max-nodes", "0")], 200),
        (&[("max-nodes", "invalid")], 200),
        (&[("leftFrom", ""), ("leftUntil", "")], 200),
        (&[("leftQuery", "")], 400),
        (&[("rightQuery", "")], 400),
        (&[("rightQuery", other.as_str())], 400),
        (&[("leftFrom", "0")], 400),
        (&[("rightUntil", "0")], 400),
        (&[("leftFrom", "now"), ("leftUntil", "now-1h")], 400),
    ] {
        let mut parameters: Vec<(&str, &str)> = base
            .iter()
            .filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name))
            .copied()
            .collect();
        parameters.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        let answer = server
            .get(&url("/pyroscope/render-diff", &parameters))
            .await;
        assert_eq!(answer.status(), status, "{changes:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn other_verbs_and_types() {
    let server = Running::start(&[]).await;
    let methods = [
        "ProfileTypes",
        "LabelNames",
        "LabelValues",
        "Series",
        "SelectMergeStacktraces",
        "SelectMergeProfile",
        "SelectMergeSpanProfile",
        "SelectSeries",
        "SelectHeatmap",
        "Diff",
        "GetProfileStats",
        "AnalyzeQuery",
    ];
    for method in methods {
        let path = format!("/querier.v1.QuerierService/{method}");
        let answer = server.get(&path).await;
        assert_eq!(answer.status(), 405, "{method}");
        assert_eq!(answer.headers()["allow"], "POST", "{method}");
        let head = server.http.head(format!("{}{path}", server.url));
        assert_eq!(head.send().await.unwrap().status(), 405, "{method}");
        let text = server.post(&path).header("content-type", "text/plain");
        let answer = text.body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 415, "{method}");
    }
    server.stop().await;
}
