//! Repeated questions over closed time at the built binary: answered from what is kept, which the
//! answer's headers and the metrics say, within the bytes that the settings allow.

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{ServerProcess, now_ns};
use serde_json::{Value, json};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const BUDGET: f64 = 4e6;

fn figure(server: &ServerProcess, name: &str) -> f64 {
    let metrics = server.get("/metrics").expect("metrics").body;
    let line = metrics.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(' ')?;
        value.parse().ok()
    });
    line.unwrap_or_else(|| panic!("{name} is missing:\n{metrics}"))
}

/// Hits so far of one cache.
fn hits(server: &ServerProcess, cache: &str) -> f64 {
    figure(
        server,
        &format!("scoria_query_cache_hits_total{{cache=\"{cache}\"}}"),
    )
}

/// A number that the answer's headers tell, and the answer.
fn ask(
    server: &ServerProcess,
    method: &str,
    body: &Value,
) -> (impl Fn(&str) -> u64 + use<>, Value) {
    let path = format!("/querier.v1.QuerierService/{method}");
    let headers = [("content-type", "application/json")];
    let reply = server.post(&path, &headers, body.to_string().into_bytes());
    let answer: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(reply.status, 200, "{method}: {answer}");
    let told = move |name: &str| {
        let value = reply.headers.get(&format!("x-scoria-{name}"));
        value
            .and_then(|value| value.parse().ok())
            .expect("a number")
    };
    (told, answer)
}

#[test]
fn a_repeated_question_over_closed_time_reads_and_scans_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let place = data.path().join("data");
    let server = ServerProcess::start(&place, &[]);
    let now = now_ns();
    for n in 0..20 {
        let stack = vec!["main".to_owned(), format!("work{n}")];
        let profile = TestProfile::cpu(now - n * 1_000_000_000, [(stack, 10)]);
        let answer = server.ingest("shop", &profile).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert!(server.terminate().success());
    let sets = ["querier.decoded_cache=2MB", "querier.result_cache=2MB"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let server = ServerProcess::start(&place, &sets);
    let end = now / 1_000_000 / 15_000 * 15_000 + 60_000;
    let asked = |end: i64, more: Value| {
        let mut body = json!({
            "profileTypeID": CPU,
            "labelSelector": "{service_name=\"shop\"}",
            "start": end - 600_000,
            "end": end,
        });
        let into = body.as_object_mut().expect("an object");
        into.extend(more.as_object().expect("an object").clone());
        body
    };
    let heatmap = "HEATMAP_QUERY_TYPE_INDIVIDUAL";
    for (method, more) in [
        ("SelectMergeStacktraces", json!({})),
        ("SelectMergeProfile", json!({})),
        ("SelectSeries", json!({"step": 15})),
        ("SelectHeatmap", json!({"step": 15, "queryType": heatmap})),
        ("LabelValues", json!({"name": "pyroscope_spy"})),
    ] {
        let before = hits(&server, "results");
        let (_, first) = ask(&server, method, &asked(end, more.clone()));
        assert_ne!(first, json!({}), "{method}");
        // Asked again, and by a dashboard whose range has moved on by a step.
        for end in [end, end + 15_000] {
            let (told, again) = ask(&server, method, &asked(end, more.clone()));
            if method != "SelectMergeProfile" {
                assert_eq!(again, first, "{method}");
            }
            assert_eq!(told("bytes-read"), 0, "{method}");
            assert_eq!(told("samples"), 0, "{method}");
            assert!(told("cache-hits") > 0, "{method}");
        }
        assert!(hits(&server, "results") >= before + 2.0, "{method}");
    }
    // Another question of the same data finds it decoded.
    let site = json!({"stackTraceSelector": {"callSite": [{"name": "main"}]}});
    let (told, _) = ask(&server, "SelectMergeStacktraces", &asked(end, site));
    assert!(told("samples") > 0 && told("cache-hits") >= 2, "decoded");
    for cache in ["tables", "indexes", "symbols"] {
        assert!(hits(&server, cache) > 0.0, "{cache}");
        // With the hits they are its rate.
        let misses = format!("scoria_query_cache_misses_total{{cache=\"{cache}\"}}");
        assert!(figure(&server, &misses) > 0.0, "{cache}");
    }
    let caches = ["tables", "indexes", "symbols", "results"];
    let held = caches.map(|cache| {
        figure(
            &server,
            &format!("scoria_query_cache_bytes{{cache=\"{cache}\"}}"),
        )
    });
    let held: f64 = held.iter().sum();
    assert!(held > 0.0 && held <= BUDGET, "{held} bytes are kept");
}

/// The function tree of a head is worked out once, and extended as the head grows.
#[test]
fn a_flame_graph_of_recent_data_does_not_work_out_its_names_again() {
    let data = tempfile::tempdir().expect("a directory");
    let server = ServerProcess::start(&data.path().join("data"), &[]);
    let nodes = |outcome: &str| {
        figure(
            &server,
            &format!("scoria_ingester_function_nodes_total{{outcome=\"{outcome}\"}}"),
        )
    };
    let push = |name: &str| {
        let stack = vec!["main".to_owned(), name.to_owned()];
        let profile = TestProfile::cpu(now_ns(), [(stack, 10)]);
        assert_eq!(
            server.ingest("shop", &profile).expect("an answer").status,
            200
        );
    };
    push("one");
    assert_eq!(server.self_by_function("shop").len(), 1);
    let built = nodes("built");
    assert!(built > 0.0);
    assert_eq!(server.self_by_function("shop").len(), 1);
    assert_eq!(nodes("built"), built, "kept");
    push("two");
    assert_eq!(server.self_by_function("shop").len(), 2);
    assert_eq!(nodes("built"), built + 1.0, "extended by the one new stack");
    assert!(figure(&server, "scoria_ingester_function_trees_bytes") > 0.0);
}
