//! OTLP profiles on every transport: what is stored, and what a sender is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::Write;

use bytes::{Buf, BufMut, Bytes};
use reqwest::Response;
use scoria_model::ByteBudget;
use scoria_pprof::otlp::encode::{
    AttributeValue, ExportEncoder, Generation, ProfileHeader, SampleRow, Texts,
};
use scoria_pprof::otlp::json::transcode;
use serde_json::{Value, json};
use support::{Running, now_ns};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

const HTTP: &str = "/v1development/profiles";
const GRPC: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

/// A CPU profile of a service with a frame that has no symbols: 30 ms on `app+0x500;main`.
fn export(generation: Generation, service: &str) -> Vec<u8> {
    let mut encoder = ExportEncoder::new(generation, Texts::InPlace);
    let function = encoder.function("main", "main.c");
    let id = AttributeValue::Text("0123abcd");
    let id = encoder.attribute("process.executable.build_id.htlhash", &id);
    let mapping = encoder.mapping("/usr/bin/app", (0x1000, 0x9000), &[id]);
    let main = encoder.location(0, 0, &[(function, 7)]);
    let native = encoder.location(mapping, 0x1500, &[]);
    let stack = encoder.stack(&[native, main]);
    let thread = encoder.attribute("thread.name", &AttributeValue::Text("worker"));
    let link = encoder.link([7; 16], [9; 8]);
    let named = [("service.name", AttributeValue::Text(service))];
    encoder.resource(if service.is_empty() { &[] } else { &named });
    encoder.scope("test", &[]);
    let time_ns = now_ns() as u64;
    let header = ProfileHeader {
        sample_type: ("samples", "count"),
        period_type: ("cpu", "nanoseconds"),
        period: 10_000_000,
        time_ns,
        duration_ns: 1_000_000_000,
        ..ProfileHeader::default()
    };
    let sample = SampleRow {
        stack,
        attributes: &[thread],
        link,
        values: &[3],
        times_ns: &[],
    };
    encoder.profile(&header, &[sample]);
    encoder.finish()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

async fn post(server: &Running, media: &str, encoding: &str, body: Vec<u8>) -> Response {
    let request = server.post(HTTP).header("content-type", media);
    let request = request.header("content-encoding", encoding);
    request.body(body).send().await.unwrap()
}

/// The self values of all stacks of a profile type, by their frames, leaf first.
async fn stacks(server: &Running, kind: &str, selector: &str) -> BTreeMap<String, i64> {
    let now = now_ns() / 1_000_000;
    let body = json!({
        "profile_typeID": kind, "label_selector": selector,
        "start": now - 3_600_000, "end": now + 60_000,
    });
    let request = server.post("/querier.v1.QuerierService/SelectMergeProfile");
    let request = request.header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let profile: Value = answer.json().await.unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let id = |value: &Value| value["id"].as_str().unwrap_or("0").to_owned();
    let number = |value: &Value| value.as_str().unwrap_or("0").parse::<i64>().unwrap();
    let strings = list(&profile["stringTable"]);
    let text = |at: &Value| strings[number(at) as usize].as_str().unwrap().to_owned();
    let functions: BTreeMap<String, String> = list(&profile["function"])
        .iter()
        .map(|function| (id(function), text(&function["name"])))
        .collect();
    let locations: BTreeMap<String, String> = list(&profile["location"])
        .iter()
        .map(|location| {
            let lines = list(&location["line"]);
            let name = match lines.first() {
                Some(line) => functions[line["functionId"].as_str().unwrap()].clone(),
                None => format!("0x{:x}", number(&location["address"])),
            };
            (id(location), name)
        })
        .collect();
    list(&profile["sample"])
        .iter()
        .map(|sample| {
            let frames = list(&sample["locationId"]);
            let frames: Vec<&str> = frames
                .iter()
                .map(|frame| &*locations[frame.as_str().unwrap()])
                .collect();
            (frames.join(">"), number(&sample["value"][0]))
        })
        .collect()
}

async fn services(server: &Running) -> Vec<String> {
    let now = now_ns() / 1_000_000;
    let body = json!({"name": "service_name", "start": now - 3_600_000, "end": now + 60_000});
    let (_, answer) = server.query("LabelValues", &body.to_string()).await;
    let names = answer["names"].as_array().cloned().unwrap_or_default();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    names.collect()
}

/// Messages as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn call(
    url: &str,
    body: Vec<u8>,
    coding: Option<CompressionEncoding>,
) -> Result<Bytes, Status> {
    let channel = tonic::transport::Channel::from_shared(url.to_owned()).unwrap();
    let mut client = tonic::client::Grpc::new(channel.connect().await.unwrap());
    if let Some(coding) = coding {
        client = client.send_compressed(coding).accept_compressed(coding);
    }
    client.ready().await.unwrap();
    let request = tonic::Request::new(Bytes::from(body));
    let answer = client.unary(request, GRPC.parse().unwrap(), Raw).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn every_generation_on_every_transport_is_the_same_flame_graph() {
    let server = Running::start(&[]).await;
    let mut sent = Vec::new();
    for (generation, name) in Generation::ALL.into_iter().zip(["v8", "v9", "v10"]) {
        for transport in ["http", "gzip", "zstd", "grpc", "grpc-gzip"] {
            let service = format!("{name}-{transport}");
            let body = export(generation, &service);
            let media = "application/x-protobuf";
            let answer = match transport {
                "http" => post(&server, media, "identity", body).await,
                "gzip" => post(&server, media, "GZIP", gzip(&body)).await,
                "zstd" => {
                    let body = zstd::encode_all(&body[..], 1).unwrap();
                    post(&server, "application/protobuf", "zstd", body).await
                }
                grpc => {
                    let coding = (grpc == "grpc-gzip").then_some(CompressionEncoding::Gzip);
                    let answer = call(&server.url, body, coding).await.unwrap();
                    assert!(answer.is_empty(), "{service}: {answer:?}");
                    sent.push(service);
                    continue;
                }
            };
            assert_eq!(answer.status(), 200, "{service}");
            assert_eq!(answer.headers()["content-type"], "application/x-protobuf");
            assert!(answer.bytes().await.unwrap().is_empty(), "{service}");
            sent.push(service);
        }
    }
    sent.sort();
    assert_eq!(services(&server).await, sent);
    for service in &sent {
        let found = stacks(&server, CPU, &format!("{{service_name={service:?}}}")).await;
        let expected = BTreeMap::from([("0x1500>main".to_owned(), 30_000_000)]);
        assert_eq!(found, expected, "{service}");
    }
    let render = format!("/pyroscope/render?query={CPU}%7B%7D&from=now-1h");
    let graph = server.get(&render).await.text().await.unwrap();
    assert!(graph.contains("\"app+0x500\""), "{graph}");
    let metrics = server.get("/metrics").await.text().await.unwrap();
    for version in [
        "1.8-1.9\",encoding=\"protobuf\"} 10",
        "1.10+\",encoding=\"protobuf\"} 5",
    ] {
        assert!(metrics.contains(version), "{metrics}");
    }
    server.stop().await;
}

/// What the canary of Pyroscope's own operators sends: tables whose entry 0 is in use.
fn canary(method: &str) -> String {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({
        "resourceProfiles": [{
            "resource": {"attributes": [
                attribute("service.name", "pyroscope-canary-exporter"),
                attribute("job", "canary-exporter"),
                attribute("instance", "host"),
                attribute("ingestion_method", method),
            ]},
            "scopeProfiles": [{"scope": {"name": "canary"}, "profiles": [{
                "sampleType": {"typeStrindex": 1, "unitStrindex": 2},
                "periodType": {"typeStrindex": 1, "unitStrindex": 3},
                "period": "1",
                "timeUnixNano": now_ns().to_string(),
                "durationNano": "0",
                "samples": [
                    {"stackIndex": 0, "values": ["10"]},
                    {"stackIndex": 1, "values": ["20"]},
                ],
            }]}],
        }],
        "dictionary": {
            "stringTable": ["", "otlp_test", "count", "samples", "func1", "func2"],
            "mappingTable": [{}],
            "functionTable": [{"nameStrindex": 4}, {"nameStrindex": 5}],
            "locationTable": [
                {"mappingIndex": 0, "lines": [{"functionIndex": 0}]},
                {"mappingIndex": 0, "lines": [{"functionIndex": 1}]},
            ],
            "stackTable": [{"locationIndices": [1, 0]}, {"locationIndices": [0]}],
            "linkTable": [{}],
            "attributeTable": [{}],
        },
    })
    .to_string()
}

#[tokio::test]
async fn the_canary_finds_what_it_sent_in_both_encodings() {
    let server = Running::start(&[]).await;
    let json = canary("otlp-http-json").into_bytes();
    let answer = post(&server, "application/json; charset=utf-8", "identity", json).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.text().await.unwrap(), "{}");
    let memory = ByteBudget::new("test", 1 << 20);
    let protobuf = canary("otlp-http-protobuf");
    let (protobuf, _) = transcode(protobuf.as_bytes(), &memory).unwrap();
    let answer = post(&server, "application/x-protobuf", "", protobuf).await;
    assert_eq!(answer.status(), 200);
    let selector = "{service_name=\"pyroscope-canary-exporter\", job=\"canary-exporter\"}";
    let found = stacks(
        &server,
        "otlp_test:otlp_test:count:otlp_test:samples",
        selector,
    )
    .await;
    let expected = [("func2>func1", 20), ("func1", 40)];
    let expected = expected.map(|(stack, value)| (stack.to_owned(), value));
    assert_eq!(found, BTreeMap::from(expected));
    server.stop().await;
}

#[tokio::test]
async fn a_resend_is_stored_once_whatever_it_travels_by() {
    let server = Running::start(&[]).await;
    let body = export(Generation::V1_10, "again");
    for _ in 0..2 {
        let answer = post(&server, "application/x-protobuf", "gzip", gzip(&body)).await;
        assert_eq!(answer.status(), 200);
        call(&server.url, body.clone(), None).await.unwrap();
    }
    let found = stacks(&server, CPU, "{}").await;
    assert_eq!(found.values().sum::<i64>(), 30_000_000);
    server.stop().await;
}

#[tokio::test]
async fn what_was_not_stored_is_said_in_the_answer() {
    let server = Running::start(&[]).await;
    let answer = post(
        &server,
        "application/x-protobuf",
        "",
        export(Generation::V1_10, ""),
    )
    .await;
    assert_eq!(answer.status(), 200);
    let hint = answer.text().await.unwrap();
    assert!(hint.contains("service.name"), "{hint}");
    assert_eq!(services(&server).await, ["unknown_service"]);
    let metrics = server.get("/metrics").await.text().await.unwrap();
    let nameless = "scoria_otlp_profiles_without_service_total{tenant=\"anonymous\"} 1";
    assert!(metrics.contains(nameless), "{metrics}");

    let profile = |stack: u32| {
        json!({
            "sampleType": {"typeStrindex": 1, "unitStrindex": 2},
            "samples": [{"stackIndex": stack, "values": [1]}],
        })
    };
    let export = |stacks: &[u32]| {
        let profiles: Vec<Value> = stacks.iter().map(|&stack| profile(stack)).collect();
        let service = json!({"key": "service.name", "value": {"stringValue": "shop"}});
        json!({
            "resourceProfiles": [{
                "resource": {"attributes": [service]},
                "scopeProfiles": [{"profiles": profiles}],
            }],
            "dictionary": {
                "stringTable": ["", "events", "count"],
                "functionTable": [{"nameStrindex": 1}],
                "locationTable": [{"lines": [{}]}],
                "stackTable": [{"locationIndices": [0]}],
            },
        })
        .to_string()
        .into_bytes()
    };
    let answer = post(&server, "application/json", "", export(&[0, 9, 0])).await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedProfiles"], "1");
    let message = answer["partialSuccess"]["errorMessage"].to_string();
    assert!(message.contains("stack_table"), "{message}");

    let answer = post(&server, "application/json", "", export(&[9])).await;
    assert_eq!(answer.status(), 400);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["code"], 3);
    server.stop().await;
}

/// What the tenant can read of a service's refusals: how often, and in which words.
async fn told_of(server: &Running, (reason, service): (&str, &str)) -> (u64, String) {
    let answer = server.get("/api/v1/tenant/rejections").await;
    let told: Value = answer.json().await.unwrap();
    let entries = told["rejections"].as_array().unwrap().iter();
    let mut of_reason =
        entries.filter(|entry| entry["reason"] == reason && entry["service_name"] == service);
    let entry = of_reason.next().unwrap_or_else(|| panic!("{told}"));
    assert!(of_reason.next().is_none(), "{told}");
    assert_eq!(entry["treatment"], "refused", "{entry}");
    assert!(
        entry["remedy"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{entry}"
    );
    let count = &entry["count"];
    let count = count
        .as_u64()
        .or_else(|| count.as_str().and_then(|text| text.parse().ok()));
    (
        count.unwrap(),
        entry["message"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn refused_exports_and_profiles_can_be_read_afterwards_and_are_counted_once() {
    let server = Running::start(&["limits.max_profile_stacktrace_samples=1"]).await;
    let media = "application/x-protobuf";
    // No export at all.
    let answer = post(&server, media, "", vec![0xff; 9]).await;
    assert_eq!(answer.status(), 400);
    let (count, message) = told_of(&server, ("malformed_profile", "")).await;
    assert_eq!(count, 1);
    assert!(message.contains("without a user agent"), "{message}");

    // Of two profiles one names a stack that is not there, the other has too many samples.
    let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
    let name = encoder.function("main", "main.c");
    let location = encoder.location(0, 0, &[(name, 7)]);
    let stacks = [encoder.stack(&[location]), encoder.stack(&[])];
    encoder.resource(&[("service.name", AttributeValue::Text("shop"))]);
    encoder.scope("test", &[]);
    let header = ProfileHeader {
        sample_type: ("events", "count"),
        time_ns: now_ns() as u64,
        ..ProfileHeader::default()
    };
    let sample = |stack| SampleRow {
        stack,
        values: &[1],
        ..SampleRow::default()
    };
    encoder.profile(&header, &[sample(99)]);
    encoder.profile(&header, &stacks.map(sample));
    encoder.profile(&header, &[sample(stacks[0])]);
    let answer = post(&server, media, "", encoder.finish()).await;
    assert_eq!(answer.status(), 200);
    let (count, message) = told_of(&server, ("malformed_profile", "shop")).await;
    assert_eq!(count, 1);
    assert!(message.contains("stack_table"), "{message}");
    let (count, message) = told_of(&server, ("samples_limit", "shop")).await;
    assert_eq!(count, 1);
    assert!(message.contains("actual: 2, limit: 1"), "{message}");

    let metrics = server.get("/metrics").await.text().await.unwrap();
    let has = |line: &str| assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    let discarded = "pyroscope_discarded_samples_total";
    has(&format!(
        "{discarded}{{reason=\"malformed_profile\",tenant=\"anonymous\"}} 2"
    ));
    has(&format!(
        "{discarded}{{reason=\"samples_limit\",tenant=\"anonymous\"}} 1"
    ));
    // One export came so far that its profiles could be counted, two of them.
    let batch = "pyroscope_distributor_push_batch_series";
    has(&format!("{batch}_count{{tenant=\"anonymous\"}} 1"));
    has(&format!("{batch}_sum{{tenant=\"anonymous\"}} 2.0"));
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_in_the_form_of_the_request() {
    let sets = [
        "auth.multitenancy_enabled=true",
        "limits.ingestion_body_limit_bytes=64KiB",
    ];
    let server = Running::start(&sets).await;
    let send = async |media: &str, tenant: &str, body: Vec<u8>| {
        let request = server.post(HTTP).header("content-type", media);
        let request = request.header("user-agent", "probe/1");
        let request = match tenant {
            "" => request,
            tenant => request.header("X-Scope-OrgID", tenant),
        };
        let answer = request.body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let media = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (status, media, answer.text().await.unwrap())
    };
    let good = export(Generation::V1_9, "shop");
    for path in ["", "../a"] {
        let (status, media, body) = send("application/json", path, b"{}".to_vec()).await;
        assert_eq!(
            (status, &*media),
            (if path.is_empty() { 401 } else { 400 }, "application/json")
        );
        assert!(body.contains("\"code\""), "{body}");
    }
    let (status, media, _) = send("application/x-protobuf", "", good.clone()).await;
    assert_eq!((status, &*media), (401, "application/x-protobuf"));
    assert_eq!(
        send("application/x-protobuf", "a", good.clone()).await.0,
        200
    );
    assert_eq!(send("text/plain", "a", good.clone()).await.0, 415);
    assert_eq!(
        send("application/x-protobuf", "a", vec![0; 70_000]).await.0,
        413
    );
    let (status, _, body) = send("application/x-protobuf", "a", vec![0xff; 9]).await;
    assert!(status == 400 && body.contains("probe/1"), "{status} {body}");
    let request = server
        .post(HTTP)
        .header("content-type", "application/x-protobuf");
    let request = request
        .header("X-Scope-OrgID", "a")
        .header("content-encoding", "br");
    assert_eq!(
        request.body(good.clone()).send().await.unwrap().status(),
        415
    );
    let nobody = call(&server.url, good, None).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated, "{nobody:?}");
    server.stop().await;
}

/// What gRPC's details say in binary.
fn says_when(details: &[u8]) -> bool {
    const RETRY_INFO: &[u8] = b"google.rpc.RetryInfo";
    let mut windows = details.windows(RETRY_INFO.len());
    windows.any(|window| window == RETRY_INFO)
}

#[tokio::test]
async fn the_same_answers_over_both_transports() {
    let sets = ["limits.ingestion_body_limit_bytes=64KiB"];
    let server = Running::start(&sets).await;
    let good = export(Generation::V1_10, "shop");
    let without_dictionary = {
        // A profile of one sample in a scope of the only resource.
        let profile = [0x12, 5, 0x08, 0, 0x22, 1, 1];
        let scope = [&[0x12, profile.len() as u8][..], &profile].concat();
        let resource = [&[0x12, scope.len() as u8][..], &scope].concat();
        [&[0x0a, resource.len() as u8][..], &resource].concat()
    };
    let old = {
        let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
        let stack = encoder.stack(&[]);
        encoder.scope("test", &[]);
        let header = ProfileHeader {
            sample_type: ("events", "count"),
            time_ns: 1_000_000_000,
            ..ProfileHeader::default()
        };
        let sample = SampleRow {
            stack,
            values: &[1],
            ..SampleRow::default()
        };
        encoder.profile(&header, &[sample]);
        encoder.finish()
    };
    for (case, body, status, code) in [
        ("stored", good.clone(), 200, Code::Ok),
        ("a resource without profiles", vec![0x0a, 0], 200, Code::Ok),
        ("nothing", Vec::new(), 400, Code::InvalidArgument),
        ("garbage", vec![0xff; 9], 400, Code::InvalidArgument),
        (
            "no dictionary",
            without_dictionary,
            400,
            Code::InvalidArgument,
        ),
        ("too old", old, 400, Code::InvalidArgument),
        ("too large", vec![0; 70_000], 413, Code::InvalidArgument),
    ] {
        let answer = post(&server, "application/x-protobuf", "", body.clone()).await;
        assert_eq!(answer.status(), status, "{case}");
        assert!(!answer.headers().contains_key("retry-after"), "{case}");
        let called = call(&server.url, body, None).await;
        let found = called.as_ref().err().map_or(Code::Ok, Status::code);
        assert_eq!(found, code, "{case}: {called:?}");
        if let Err(status) = called {
            assert!(!says_when(status.details()), "{case}: {status:?}");
        }
    }
    // As large as allowed packed, and too large unpacked.
    let bomb = vec![0; 1 << 20];
    let answer = post(&server, "application/x-protobuf", "gzip", gzip(&bomb)).await;
    assert_eq!(answer.status(), 413);
    let called = call(&server.url, bomb, Some(CompressionEncoding::Gzip)).await;
    assert_eq!(called.unwrap_err().code(), Code::InvalidArgument);
    let broken = gzip(&good)[..20].to_vec();
    let answer = post(&server, "application/x-protobuf", "gzip", broken).await;
    assert_eq!(answer.status(), 400);
    server.stop().await;
}

/// What is in gRPC's frame or in zstd is as long as its tenant's bodies may be, and no longer.
#[tokio::test]
async fn a_tenants_own_limit_holds_for_what_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("runtime.yaml");
    let limit = "overrides:\n  anonymous:\n    ingestion_body_limit_bytes: 64KiB\n";
    std::fs::write(&file, limit).unwrap();
    let server = Running::start(&[&format!("runtime_config.file={}", file.display())]).await;
    let bomb = vec![0; 1 << 20];
    let packed = zstd::encode_all(&bomb[..], 1).unwrap();
    let answer = post(&server, "application/x-protobuf", "zstd", packed).await;
    assert_eq!(answer.status(), 413);
    let called = call(&server.url, bomb, Some(CompressionEncoding::Gzip)).await;
    let status = called.unwrap_err();
    assert!(
        status.message().contains("ingestion_body_limit_bytes"),
        "{status:?}"
    );
    let (count, message) = told_of(&server, ("body_size_limit_exceeded", "")).await;
    assert_eq!(count, 2);
    assert!(message.contains("limit: 65536"), "{message}");
    let answer = post(&server, "application/x-protobuf", "zstd", vec![1, 2, 3]).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(told_of(&server, ("malformed_profile", "")).await.0, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_memory_tells_exporters_to_come_back() {
    let server = Running::start(&["memory.limit=64MiB", "memory.shed_percent=1"]).await;
    let body = export(Generation::V1_10, "shop");
    let answer = post(&server, "application/x-protobuf", "", body.clone()).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(says_when(&answer.bytes().await.unwrap()));
    let status = call(&server.url, body, None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(says_when(status.details()), "{status:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_sender_that_is_too_fast_is_told_when_to_come_back() {
    // The burst is the largest profile and a mebibyte; the rate gives back nothing to speak of.
    let sets = [
        "limits.ingestion_rate_bytes=1",
        "limits.ingestion_burst_bytes=1",
        "limits.max_profile_size_bytes=1KiB",
    ];
    let server = Running::start(&sets).await;
    let body = |service: &str| {
        let mut encoder = ExportEncoder::new(Generation::V1_10, Texts::InPlace);
        let stack = encoder.stack(&[]);
        for n in 0..4000 {
            let name = format!("{service}-{n:0400}");
            encoder.resource(&[("service.name", AttributeValue::Text(&name))]);
            encoder.scope("s", &[]);
            let header = ProfileHeader {
                sample_type: ("events", "count"),
                time_ns: now_ns() as u64,
                ..ProfileHeader::default()
            };
            let sample = SampleRow {
                stack,
                values: &[1],
                ..SampleRow::default()
            };
            encoder.profile(&header, &[sample]);
        }
        encoder.finish()
    };
    let answer = post(
        &server,
        "application/json",
        "",
        b"{\"resourceProfiles\":[{}]}".to_vec(),
    )
    .await;
    assert_eq!(answer.status(), 200);
    let answer = post(&server, "application/x-protobuf", "", body("a")).await;
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(says_when(&answer.bytes().await.unwrap()));
    let status = call(&server.url, body("b"), None).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(says_when(status.details()), "{status:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_ports_of_otlp_take_nothing_else() {
    let sets = [
        "otlp.grpc_listen=127.0.0.1:0",
        "otlp.http_listen=127.0.0.1:0",
    ];
    let server = Running::start(&sets).await;
    let ports: Vec<String> = server.otlp_urls();
    let [grpc, http] = &ports[..] else {
        panic!("{ports:?}");
    };
    call(grpc, export(Generation::V1_10, "by-grpc"), None)
        .await
        .unwrap();
    let request = server.http.post(format!("{http}{HTTP}"));
    let request = request.header("content-type", "application/x-protobuf");
    let answer = request
        .body(export(Generation::V1_10, "by-http"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(services(&server).await, ["by-grpc", "by-http"]);
    let elsewhere = server
        .http
        .get(format!("{http}/metrics"))
        .send()
        .await
        .unwrap();
    assert_eq!(elsewhere.status(), 404);
    server.stop().await;
}
