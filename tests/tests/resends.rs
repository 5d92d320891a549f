//! D2 on the built binary for senders without ids: what is sent again counts once over every route,
//! in one process, across kill -9, and across a flush that truncates the log.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use jfr_writer::{RUNNABLE, class};
use scoria_tests::otlp_bytes::CpuExport;
use scoria_tests::pprof_bytes::{TestProfile, put_message};
use scoria_tests::process::{ServerProcess, now_ns};

#[path = "../../crates/pprof/tests/suite/jfr_writer.rs"]
#[expect(dead_code, reason = "recordings here are small")]
mod jfr_writer;

const PUSH: &str = "/push.v1.PusherService/Push";
const CONNECT: [(&str, &str); 2] = [
    ("content-type", "application/proto"),
    ("connect-protocol-version", "1"),
];
const OTLP_HTTP: &str = "/v1development/profiles";
const OTLP_GRPC: &str =
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

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
fn form(part: &str, content: &[u8], attempt: u32) -> (String, Vec<u8>) {
    let boundary = format!("boundary{attempt}");
    let head = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"{part}\"; filename=\"p\"\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let body = [head.as_bytes(), content, tail.as_bytes()].concat();
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// As async-profiler records it: three samples of `work` and four of `rest`, at 100 Hz.
fn recording() -> Vec<u8> {
    let mut chunk = jfr_writer::Chunk::new();
    for (leaf, samples) in [("work", 3), ("rest", 4)] {
        let stack = chunk.stack(&[("App", leaf, 1), ("App", "main", 1)]);
        for _ in 0..samples {
            chunk.sample(class::EXECUTION_SAMPLE, stack, RUNNABLE, [0; 3], None);
        }
    }
    chunk.finish()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(plain).expect("a vector takes it");
    out.finish().expect("a vector takes it")
}

/// One message, as gRPC frames it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("it is small");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn taken(server: &ServerProcess, path: &str, headers: &[(&str, &str)], body: Vec<u8>) {
    let reply = server.post(path, headers, body);
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, 200, "{path}: {text}");
}

/// As it is taken over gRPC: the first frame is an answer, and the headers hold no refusal.
fn taken_by_grpc(server: &ServerProcess, message: &[u8]) {
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let reply = server.post_http2(OTLP_GRPC, &headers, framed(message));
    let refused = reply.headers.get("grpc-message");
    assert_eq!((reply.status, refused), (200, None));
    assert_eq!(reply.body, framed(b""), "all profiles were taken");
}

/// By push.v1, the pprof plain and as gzip.
fn pushes(time_ns: i64) -> Vec<Sender<'static>> {
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
        Box::new(move |server, _| {
            let body = push(&["scrape"], &gzip(&pprof(time_ns)));
            taken(server, PUSH, &CONNECT, body);
        }),
    ]
}

/// By the old HTTP API, in forms and without, of several formats.
fn ingests(time_ns: i64) -> Vec<Sender<'static>> {
    let seconds = time_ns / 1_000_000_000;
    let path = move |query: &str| {
        let times = format!("from={seconds}&until={}", seconds + 10);
        format!("/ingest?{query}&sampleRate=100&{times}")
    };
    let raw = path("name=raw&format=pprof&spyName=gospy");
    let in_form = path("name=form&spyName=gospy");
    let folded = path("name=folded.cpu&format=folded");
    let jfr = path("name=jfr&format=jfr&spyName=javaspy");
    let jfr_in_form = path("name=jfr-form&format=jfr&spyName=javaspy");
    vec![
        Box::new(move |server, _| taken(server, &raw, &[], pprof(time_ns))),
        Box::new(move |server, attempt| {
            let (content_type, body) = form("profile", &pprof(time_ns), attempt);
            taken(server, &in_form, &[("content-type", &content_type)], body);
        }),
        Box::new(move |server, _| {
            let body = b"main;work 3\nmain;rest 4\n".to_vec();
            taken(server, &folded, &[], body);
        }),
        Box::new(move |server, _| taken(server, &jfr, &[], recording())),
        Box::new(move |server, attempt| {
            let (content_type, body) = form("jfr", &gzip(&recording()), attempt);
            let headers = [("content-type", &*content_type)];
            taken(server, &jfr_in_form, &headers, body);
        }),
    ]
}

/// By OTLP: JSON, protobuf, and gRPC.
fn exports(time_ns: i64) -> Vec<Sender<'static>> {
    let export = move |services: &'static [&'static str]| CpuExport { time_ns, services };
    vec![
        Box::new(move |server, _| {
            let headers = [("content-type", "application/json")];
            let body = export(&["otlp-json-a", "otlp-json-b"]).json();
            taken(server, OTLP_HTTP, &headers, body);
        }),
        Box::new(move |server, _| {
            let headers = [("content-type", "application/x-protobuf")];
            let body = export(&["otlp-http-a", "otlp-http-b"]).protobuf();
            taken(server, OTLP_HTTP, &headers, body);
        }),
        Box::new(move |server, _| {
            let body = export(&["otlp-grpc-a", "otlp-grpc-b"]).protobuf();
            taken_by_grpc(server, &body);
        }),
    ]
}

/// What every service has when each profile was counted once. Recordings name the class as well.
fn once(server: &ServerProcess, service: &str) -> BTreeMap<String, i64> {
    let found = server.self_by_function(service).into_iter();
    found
        .map(|(name, value)| (name.trim_start_matches("App.").to_owned(), value))
        .collect()
}

const SERVICES: [&str; 14] = [
    "alloy-a",
    "alloy-b",
    "scrape",
    "raw",
    "form",
    "folded",
    "jfr",
    "jfr-form",
    "otlp-json-a",
    "otlp-json-b",
    "otlp-http-a",
    "otlp-http-b",
    "otlp-grpc-a",
    "otlp-grpc-b",
];

#[test]
fn resends_count_once_over_every_route_across_kill_9_and_flush() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let time_ns = now_ns() - 20_000_000_000;
    let senders = [pushes(time_ns), ingests(time_ns), exports(time_ns)];
    let expected = BTreeMap::from([
        ("work".to_owned(), 30_000_000),
        ("rest".to_owned(), 40_000_000),
    ]);
    let send_and_check = |server: &ServerProcess, attempts: &[u32]| {
        for &attempt in attempts {
            let senders = senders.iter().flatten();
            senders.for_each(|send| send(server, attempt));
        }
        for service in SERVICES {
            let found = once(server, service);
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
