//! D2 on the built binary for senders without ids: what is sent again counts once over every route,
//! in one process, across kill -9, and across a flush that truncates the log.

use std::collections::BTreeMap;

use scoria_tests::pprof_bytes::{TestProfile, put_message};
use scoria_tests::process::{ServerProcess, now_ns};
use serde_json::json;

/// A request as its sender repeats it; the number says how often it has been sent.
type Sender<'a> = Box<dyn Fn(&ServerProcess, u32) + 'a>;

fn pprof(time_ns: i64) -> Vec<u8> {
    let stack = |leaf: &str| ["main", leaf].map(str::to_owned).to_vec();
    let stacks = [(stack("work"), 30_000_000), (stack("rest"), 40_000_000)];
    TestProfile::cpu(time_ns, stacks).encode()
}

/// As Alloy sends several series in one request: Connect, protobuf, no ids.
fn push(services: &[&str], profile: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    for service in services {
        let mut series = Vec::new();
        for (name, value) in [
            ("__name__", "process_cpu"),
            ("__delta__", "false"),
            ("service_name", service),
        ] {
            let mut label = Vec::new();
            put_message(&mut label, 1, name.as_bytes());
            put_message(&mut label, 2, value.as_bytes());
            put_message(&mut series, 1, &label);
        }
        let mut sample = Vec::new();
        put_message(&mut sample, 1, profile);
        put_message(&mut series, 2, &sample);
        put_message(&mut request, 1, &series);
    }
    request
}

/// As Java and Go send a form: with another boundary each time.
fn form(profile: &[u8], attempt: u32) -> (String, Vec<u8>) {
    let boundary = format!("boundary{attempt}");
    let head = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"profile\"; filename=\"p\"\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let body = [head.as_bytes(), profile, tail.as_bytes()].concat();
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// Two profiles of each service, which share a dictionary.
fn export(services: &[&str], time_ns: i64) -> Vec<u8> {
    let resources = services.iter().map(|service| {
        let profile = |stack: u32, value: &str| {
            json!({
                "sampleType": {"typeStrindex": 1, "unitStrindex": 2},
                "periodType": {"typeStrindex": 3, "unitStrindex": 4},
                "period": "10000000", "timeUnixNano": time_ns.to_string(),
                "samples": [{"stackIndex": stack, "values": [value]}],
            })
        };
        let attribute = json!({"key": "service.name", "value": {"stringValue": service}});
        json!({
            "resource": {"attributes": [attribute]},
            "scopeProfiles": [{"profiles": [profile(1, "3"), profile(2, "4")]}],
        })
    });
    let function = |name: u32| json!({"nameStrindex": name});
    let location = |at: u32| json!({"lines": [{"functionIndex": at}]});
    json!({
        "resourceProfiles": resources.collect::<Vec<_>>(),
        "dictionary": {
            "stringTable": ["", "samples", "count", "cpu", "nanoseconds", "main", "work", "rest"],
            "mappingTable": [{}], "linkTable": [{}], "attributeTable": [{}],
            "functionTable": [{}, function(5), function(6), function(7)],
            "locationTable": [{}, location(1), location(2), location(3)],
            "stackTable": [{}, {"locationIndices": [2, 1]}, {"locationIndices": [3, 1]}],
        },
    })
    .to_string()
    .into_bytes()
}

fn taken(server: &ServerProcess, path: &str, headers: &[(&str, &str)], body: Vec<u8>) {
    let reply = server.post(path, headers, body);
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, 200, "{path}: {text}");
}

/// Every way in.
fn senders(time_ns: i64) -> Vec<Sender<'static>> {
    const PUSH: &str = "/push.v1.PusherService/Push";
    const CONNECT: [(&str, &str); 2] = [
        ("content-type", "application/proto"),
        ("connect-protocol-version", "1"),
    ];
    let seconds = time_ns / 1_000_000_000;
    let times = format!("from={seconds}&until={}", seconds + 10);
    let raw = format!("/ingest?name=raw&format=pprof&spyName=gospy&{times}");
    let in_form = format!("/ingest?name=form&spyName=gospy&{times}");
    vec![
        // The first time only the first of two series is there: the good part is sent again.
        Box::new(move |server, attempt| {
            let services: &[&str] = if attempt == 0 {
                &["alloy-a"]
            } else {
                &["alloy-a", "alloy-b"]
            };
            taken(server, PUSH, &CONNECT, push(services, &pprof(time_ns)));
        }),
        Box::new(move |server, _| taken(server, &raw, &[], pprof(time_ns))),
        Box::new(move |server, attempt| {
            let (content_type, body) = form(&pprof(time_ns), attempt);
            taken(server, &in_form, &[("content-type", &content_type)], body);
        }),
        Box::new(move |server, _| {
            let body = export(&["otlp-a", "otlp-b"], time_ns);
            let headers = [("content-type", "application/json")];
            taken(server, "/v1development/profiles", &headers, body);
        }),
    ]
}

#[test]
fn resends_count_once_over_every_route_across_kill_9_and_flush() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let senders = senders(now_ns() - 20_000_000_000);
    let expected = BTreeMap::from([
        ("work".to_owned(), 30_000_000),
        ("rest".to_owned(), 40_000_000),
    ]);
    let send_and_check = |server: &ServerProcess, attempts: &[u32]| {
        for &attempt in attempts {
            senders.iter().for_each(|send| send(server, attempt));
        }
        for service in ["alloy-a", "alloy-b", "raw", "form", "otlp-a", "otlp-b"] {
            let found = server.self_by_function(service);
            assert_eq!(found, expected, "{service} after {attempts:?}");
        }
    };

    let server = ServerProcess::start(&data, &[]);
    send_and_check(&server, &[0, 1]);
    server.kill();

    let server = ServerProcess::start(&data, &[]);
    send_and_check(&server, &[2]);
    // SIGTERM flushes and truncates the log.
    assert!(server.terminate().success());

    let server = ServerProcess::start(&data, &[]);
    send_and_check(&server, &[3]);
    assert!(server.terminate().success());
}
