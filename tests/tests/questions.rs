//! What questions are answered with beside their answers, whose they are and in which order, at the
//! built binary.

use std::sync::mpsc;
use std::time::Duration;

use scoria_tests::pprof_bytes::TestProfile;
use scoria_tests::process::{Reply, ServerProcess, now_ns};
use scoria_tests::stuck::Stuck;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
const SPAN: &str = "00f067aa0ba902b7";
const STACKTRACES: &str = "SelectMergeStacktraces";

fn profile(time_ns: i64, value: i64) -> TestProfile {
    TestProfile::cpu(
        time_ns,
        [(vec!["main".to_owned(), "work".to_owned()], value)],
    )
}

fn push(server: &ServerProcess, tenant: &str, service: &str, profile: &TestProfile) {
    let path = format!("/ingest?name={service}&format=pprof&spyName=gospy");
    let reply = server.post(&path, &[("x-scope-orgid", tenant)], profile.encode());
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, 200, "{tenant}: {text}");
}

fn question(service: &str, more: &Value) -> Value {
    let now = now_ns() / 1_000_000;
    let mut question = json!({
        "profileTypeID": CPU,
        "labelSelector": format!("{{service_name=\"{service}\"}}"),
        "start": now - 600_000,
        "end": now + 60_000,
    });
    for (name, value) in more.as_object().expect("fields") {
        question[name] = value.clone();
    }
    question
}

fn ask(server: &ServerProcess, method: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let path = format!("/querier.v1.QuerierService/{method}");
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    server.post(&path, &all, body.to_string().into_bytes())
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&reply.body)))
}

fn figure(reply: &Reply, name: &str) -> u64 {
    let value = reply.headers.get(&format!("x-scoria-{name}"));
    let value = value.and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("{name}: {:?}", reply.headers))
}

/// A server with three profiles of two samples of a shop, in a block.
fn flushed(data: &tempfile::TempDir) -> ServerProcess {
    let place = data.path().join("data");
    let server = ServerProcess::start(&place, &[]);
    let now = now_ns();
    for n in 0..3 {
        let stacks = ["one", "two"].map(|leaf| (vec!["main".to_owned(), leaf.to_owned()], 10));
        let profile = TestProfile::cpu(now - n * 1_000_000_000, stacks);
        push(&server, "", "shop", &profile);
    }
    assert!(server.terminate().success());
    ServerProcess::start(&place, &[])
}

#[test]
fn every_answer_says_what_it_took() {
    let data = tempfile::tempdir().expect("a directory");
    let server = flushed(&data);
    let body = question("shop", &json!({}));
    let first = ask(&server, STACKTRACES, &[], &body);
    assert_eq!(json_of(&first)["flamegraph"]["total"], "60");
    assert_eq!(figure(&first, "blocks"), 1);
    assert_eq!(figure(&first, "samples"), 6);
    assert_eq!(figure(&first, "cache-hits"), 0);
    assert!(figure(&first, "bytes-read") > 0);
    let again = ask(&server, STACKTRACES, &[], &body);
    assert_eq!(json_of(&again), json_of(&first));
    assert!(figure(&again, "cache-hits") > 0);
    assert_eq!(figure(&again, "samples"), 0, "nothing was scanned");
    assert_eq!(figure(&again, "bytes-read"), 0, "nothing was read");
}

#[test]
fn a_dry_run_tells_the_plan_and_reads_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let server = flushed(&data);
    let check = |plan: &Value| {
        assert_eq!(plan["blocks"], 1, "{plan}");
        assert_eq!(plan["profiles"], 3, "{plan}");
        assert_eq!(plan["samples"], 6, "{plan}");
        for cost in ["bytes", "memoryBytes"] {
            assert!(plan[cost].as_u64() > Some(0), "{cost}: {plan}");
        }
    };
    let body = question("shop", &json!({}));
    let dry = ask(&server, STACKTRACES, &[("x-scoria-dry-run", "true")], &body);
    assert_eq!(json_of(&dry)["flamegraph"]["names"], json!(["total"]));
    assert_eq!(figure(&dry, "samples") + figure(&dry, "bytes-read"), 0);
    check(&serde_json::from_str(&dry.headers["x-scoria-plan"]).expect("a plan"));
    let query = format!("query={CPU}%7B%7D&from=now-10m&dry_run=true");
    for path in ["/pyroscope/render", "/pprof", "/api/v1/top"] {
        let answer = server.get(&format!("{path}?{query}")).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let plan: Value = serde_json::from_str(&answer.body).expect("a plan");
        // The older flame graph asks two questions: its time series is the other.
        if path != "/pyroscope/render" {
            check(&plan);
        }
        assert!(plan["bytes"].as_u64() > Some(0), "{path}: {plan}");
    }
}

/// A block whose samples are lost fails the question by the block's name; who asks for it gets the
/// rest, and the same name.
#[test]
fn a_partial_answer_is_asked_for_and_names_what_it_lacks() {
    let data = tempfile::tempdir().expect("a directory");
    let server = flushed(&data);
    push(&server, "", "shop", &profile(now_ns(), 5));
    let block = lose_samples(&data.path().join("data"));
    let body = question("shop", &json!({}));
    let whole = ask(&server, STACKTRACES, &[], &body);
    let refused = json_of(&whole);
    assert_eq!((whole.status, &refused["code"]), (500, &json!("data_loss")));
    let says = refused["message"].as_str().expect("words");
    assert!(says.contains(&block), "{block}: {says}");
    let partial = [("x-scoria-allow-partial", "true")];
    let reply = ask(&server, STACKTRACES, &partial, &body);
    assert_eq!(
        json_of(&reply)["flamegraph"]["total"],
        "5",
        "what is recent"
    );
    let missing = &reply.headers["x-scoria-missing"];
    assert!(missing.contains(&block), "{block}: {missing}");
    let query = format!("query={CPU}%7B%7D&from=now-10m&until=now%2B1m");
    for path in ["/pyroscope/render", "/pprof", "/api/v1/top"] {
        let path = format!("{path}?{query}");
        assert_eq!(server.fetch(&path, &[]).status, 500, "{path}");
        let reply = server.fetch(&path, &partial);
        assert_eq!(reply.status, 200, "{path}");
        let missing = &reply.headers["x-scoria-missing"];
        assert!(missing.contains(&block), "{path}: {missing}");
    }
    // What needs no samples is whole.
    let names = ask(&server, "LabelNames", &[], &body);
    assert_eq!(names.status, 200);
    assert!(!names.headers.contains_key("x-scoria-missing"));
}

/// Deletes the samples of the only block there is; its name.
fn lose_samples(place: &std::path::Path) -> String {
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name() == "samples.parquet" {
                std::fs::remove_file(&path).expect("it goes");
                let name = folder.file_name().expect("a name");
                return name.to_string_lossy().into_owned();
            }
        }
    }
    panic!("there is no block in {}", place.display());
}

#[test]
fn an_empty_answer_about_a_span_says_why() {
    let data = tempfile::tempdir().expect("a directory");
    let server = ServerProcess::start(&data.path().join("data"), &[]);
    let now = now_ns();
    push(&server, "", "untraced", &profile(now, 10));
    let traced = TestProfile {
        span: Some(SPAN.to_owned()),
        ..profile(now, 10)
    };
    push(&server, "", "shop", &traced);
    for (service, span, reason) in [
        ("nobody", SPAN, Some("no profile of type")),
        (
            "untraced",
            SPAN,
            Some("has a span id: this service's profiler"),
        ),
        ("shop", "00000000000000aa", Some("a sample is taken every")),
        (
            "shop",
            "00000000000000aa",
            Some("that keeps a core busy is expected to have"),
        ),
        ("shop", SPAN, None),
    ] {
        let body = question(service, &json!({ "spanSelector": [span] }));
        let reply = ask(&server, "SelectMergeSpanProfile", &[], &body);
        assert_eq!(reply.status, 200, "{service}");
        let told = reply.headers.get("x-scoria-empty-reason");
        match reason {
            Some(reason) => assert!(
                told.is_some_and(|told| told.contains(reason)),
                "{service} {span}: {told:?}"
            ),
            None => assert_eq!(told, None, "{service} {span}"),
        }
    }
}

/// Reads may be of several tenants; their limits are the smallest of each.
#[test]
fn several_tenants_are_read_at_once() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = data.path().join("limits.yaml");
    let few = "overrides:\n  b:\n    max_flamegraph_nodes_max: 5\n";
    std::fs::write(&limits, few).expect("a file");
    let limits = limits.display().to_string();
    let arguments = [
        "--runtime-config",
        &limits,
        "--set",
        "auth.multitenancy_enabled=true",
    ];
    let server = ServerProcess::start(&data.path().join("data"), &arguments);
    for (tenant, value) in [("a", 1), ("b", 20), ("c", 300)] {
        push(&server, tenant, "shop", &profile(now_ns(), value));
        push(
            &server,
            tenant,
            &format!("only-{tenant}"),
            &profile(now_ns(), 1),
        );
    }
    let total = |tenants: &str| {
        let body = question("shop", &json!({}));
        let reply = ask(&server, STACKTRACES, &[("x-scope-orgid", tenants)], &body);
        assert_eq!(reply.status, 200, "{tenants}");
        json_of(&reply)["flamegraph"]["total"].clone()
    };
    for (tenants, sum) in [("a", "1"), ("b|a", "21"), ("a|b|a", "21"), ("c|a|b", "321")] {
        assert_eq!(total(tenants), sum, "{tenants}");
    }
    let values = question("", &json!({ "name": "service_name" }));
    let reply = ask(&server, "LabelValues", &[("x-scope-orgid", "b|a")], &values);
    assert_eq!(
        json_of(&reply)["names"],
        json!(["only-a", "only-b", "shop"]),
        "sorted, each once"
    );
    let many = question("shop", &json!({ "maxNodes": 6 }));
    for (tenants, status) in [("a", 200), ("b", 400), ("a|b", 400), ("a|c", 200)] {
        let reply = ask(&server, STACKTRACES, &[("x-scope-orgid", tenants)], &many);
        assert_eq!(reply.status, status, "{tenants}");
    }
    for (tenants, status) in [("a", 200), ("a|b", 400), ("a|", 400)] {
        let reply = ask(
            &server,
            "GetProfileStats",
            &[("x-scope-orgid", tenants)],
            &json!({}),
        );
        assert_eq!(reply.status, status, "{tenants}");
    }
    assert_eq!(ask(&server, "GetProfileStats", &[], &json!({})).status, 401);
}

/// The next turn is that of the tenant who has had least, however many questions of another wait.
#[test]
fn a_tenant_with_many_questions_does_not_hold_up_one_with_few() {
    let sets = ["querier.running_max=1", "querier.wait_max=1h"];
    let stuck = Stuck::start(&["many", "few"], &sets);
    let (ended, order) = mpsc::channel();
    std::thread::scope(|scope| {
        let asked = |tenant: &'static str| {
            let ended = ended.clone();
            let (server, body) = (&stuck.server, &stuck.question);
            scope.spawn(move || {
                let reply = ask(server, STACKTRACES, &[("x-scope-orgid", tenant)], body);
                ended
                    .send((tenant, reply.status))
                    .expect("somebody listens");
            });
        };
        asked("many");
        stuck.wait_until("one runs", |(running, ..)| running == 1.0);
        (0..10).for_each(|_| asked("many"));
        stuck.wait_until("ten wait", |(_, waiting, _)| waiting == 10.0);
        asked("few");
        stuck.wait_until("eleven wait", |(_, waiting, _)| waiting == 11.0);
        stuck.release();
    });
    drop(ended);
    let order: Vec<(&str, u16)> = order.iter().collect();
    assert_eq!(order.len(), 12);
    let place = order.iter().position(|(tenant, _)| *tenant == "few");
    // After the one that ran; others may overtake it on the way back.
    assert!(place < Some(5), "{order:?}");
    // The one that read the pipe has found no samples.
    let answered = order.iter().filter(|(_, status)| *status == 200).count();
    assert!(answered >= 11, "{order:?}");
}

#[test]
fn questions_in_the_background_are_few_and_are_fetched_when_done() {
    let sets = ["limits.max_async_query_concurrency=2"];
    let stuck = Stuck::start(&[], &sets);
    let start = || {
        let mut body = stuck.question.clone();
        body["async"] = json!({ "type": "ASYNC_QUERY_TYPE_FORCE" });
        let reply = ask(&stuck.server, STACKTRACES, &[], &body);
        (reply.status, json_of(&reply))
    };
    let poll = |id: &Value| {
        let body = json!({ "async": { "requestId": id } });
        json_of(&ask(&stuck.server, STACKTRACES, &[], &body))
    };
    let running = "ASYNC_QUERY_STATUS_IN_PROGRESS";
    let ids = [start(), start()].map(|(status, answer)| {
        assert_eq!((status, &answer["async"]["status"]), (200, &json!(running)));
        answer["async"]["requestId"].clone()
    });
    assert_ne!(ids[0], ids[1]);
    let (status, answer) = start();
    assert_eq!(
        (status, &answer["code"]),
        (429, &json!("resource_exhausted"))
    );
    for id in &ids {
        assert_eq!(poll(id)["async"]["status"], running);
    }
    stuck.release();
    for id in &ids {
        let done = stuck
            .server
            .wait_for(PATIENCE, || poll(id)["async"]["status"] != running);
        assert!(done, "{}", poll(id));
    }
    let (status, answer) = start();
    assert_eq!(status, 200, "there is room again");
    let id = &answer["async"]["requestId"];
    let done = stuck.server.wait_for(PATIENCE, || {
        poll(id)["async"]["status"] == "ASYNC_QUERY_STATUS_SUCCESS"
    });
    assert!(done, "{}", poll(id));
    assert_eq!(poll(id)["flamegraph"]["total"], "10");
    let unknown = json!({ "async": { "requestId": "nobody" } });
    assert_eq!(ask(&stuck.server, STACKTRACES, &[], &unknown).status, 404);
}
