//! Every protocol on the one port, and whose request it is on each of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;

use buffa::Message;
use scoria_proto::public::push::v1::{PushRequest, RawProfileSeries, RawSample};
use scoria_proto::public::types::v1::LabelPair;
use support::{Running, pprof};
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic_prost::ProstCodec;

const PUSH: &str = "/push.v1.PusherService/Push";

fn push_request(service: &str) -> Vec<u8> {
    let pair = |name: &str, value: &str| LabelPair {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let request = PushRequest {
        series: vec![RawProfileSeries {
            labels: vec![
                pair("__name__", "process_cpu"),
                pair("service_name", service),
            ],
            samples: vec![RawSample {
                raw_profile: pprof(),
                ID: String::new(),
            }],
            ..Default::default()
        }],
    };
    request.encode_to_vec()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// One message in gRPC's framing.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

async fn services(server: &Running) -> Vec<String> {
    let now = support::now_ns() / 1_000_000;
    let body = format!(
        r#"{{"name": "service_name", "start": {}, "end": {}}}"#,
        now - 3_600_000,
        now + 60_000
    );
    let (status, answer) = server.query("LabelValues", &body).await;
    assert_eq!(status, 200);
    let names = answer["names"].as_array().cloned().unwrap_or_default();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn connect_in_both_encodings_and_versions_of_http() {
    let server = Running::start(&[]).await;
    let h2c = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    for (name, http) in [("h1", &server.http), ("h2", &h2c)] {
        let plain = push_request(name);
        for (body, encoding) in [(plain.clone(), "identity"), (gzip(&plain), "gzip")] {
            let request = http
                .post(format!("{}{PUSH}", server.url))
                .header("content-type", "application/proto")
                .header("content-encoding", encoding);
            let answer = request.body(body).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{name} {encoding}");
            assert_eq!(answer.headers()["content-type"], "application/proto");
            assert!(answer.bytes().await.unwrap().is_empty());
        }
    }
    assert_eq!(services(&server).await, ["h1", "h2"]);

    let unknown = server
        .post(PUSH)
        .header("content-type", "application/proto");
    let answer = unknown
        .header("content-encoding", "br")
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 501);
    assert!(answer.text().await.unwrap().contains("gzip"));

    let version = server
        .post(PUSH)
        .header("content-type", "application/proto");
    let version = version.header("connect-protocol-version", "2");
    assert_eq!(version.send().await.unwrap().status(), 400);
    server.stop().await;
}

#[tokio::test]
async fn json_answers_are_gzipped_for_those_who_take_it() {
    let server = Running::start(&[]).await;
    for n in 0..40 {
        server
            .push(&format!("a-service-with-a-long-name-{n}"))
            .await;
    }
    let now = support::now_ns() / 1_000_000;
    let body = format!(
        r#"{{"name": "service_name", "start": {}, "end": {}}}"#,
        now - 3_600_000,
        now + 60_000
    );
    // This client takes the gzip off by itself, and with it the header.
    let plain = reqwest::Client::builder().no_gzip().build().unwrap();
    let request = plain
        .post(format!(
            "{}/querier.v1.QuerierService/LabelValues",
            server.url
        ))
        .header("content-type", "application/json; charset=utf-8")
        .header("accept-encoding", "gzip");
    let answer = request.body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    server.stop().await;
}

#[tokio::test]
async fn grpc_with_and_without_gzip() {
    let server = Running::start(&["auth.multitenancy_enabled=true"]).await;
    let channel = tonic::transport::Channel::from_shared(server.url.clone()).unwrap();
    let channel = channel.connect().await.unwrap();
    let call = async |service: &str, tenant: Option<&str>, gzip: bool| {
        let mut client = tonic::client::Grpc::new(channel.clone());
        if gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        client.ready().await.unwrap();
        let message = PushMessage::of(service);
        let mut request = tonic::Request::new(message);
        if let Some(tenant) = tenant {
            request
                .metadata_mut()
                .insert("x-scope-orgid", tenant.parse().unwrap());
        }
        let codec = ProstCodec::<PushMessage, Empty>::default();
        client.unary(request, PUSH.parse().unwrap(), codec).await
    };
    call("plain", Some("a"), false).await.unwrap();
    call("gzip", Some("a"), true).await.unwrap();
    let missing = call("nobody", None, false).await.unwrap_err();
    assert_eq!(missing.code(), Code::Unauthenticated);
    let bad = call("nobody", Some("../a"), false).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    let empty = call("", Some("a"), false).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn grpc_web() {
    let server = Running::start(&[]).await;
    let request = server
        .post(PUSH)
        .header("content-type", "application/grpc-web+proto");
    let answer = request
        .body(framed(&push_request("web")))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.bytes().await.unwrap();
    let trailers = body.iter().position(|byte| *byte == 0x80).unwrap();
    let text = String::from_utf8_lossy(&body[trailers + 5..]);
    assert!(
        text.contains("grpc-status") && text.contains(": 0") || text.contains(":0"),
        "{text}"
    );
    assert_eq!(services(&server).await, ["web"]);
    server.stop().await;
}

#[tokio::test]
async fn tenants_on_every_route() {
    let server = Running::start(&["auth.multitenancy_enabled=true"]).await;
    let cpu = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
    let render = format!("/pyroscope/render?query={cpu}%7B%7D&from=now-1h");
    let send = async |path: &str, tenant: Option<&str>| {
        let request = if path.starts_with("/pyroscope/render") {
            server.http.get(format!("{}{path}", server.url))
        } else if path.starts_with("/ingest") {
            server.post(path).body(pprof())
        } else if path == PUSH {
            let request = server
                .post(path)
                .header("content-type", "application/proto");
            request.body(push_request("t"))
        } else {
            server
                .post(path)
                .header("content-type", "application/json")
                .body("{}")
        };
        let request = match tenant {
            Some(tenant) => request.header("X-Scope-OrgID", tenant),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap())
    };
    let types = "/querier.v1.QuerierService/ProfileTypes";
    let stats = "/querier.v1.QuerierService/GetProfileStats";
    let ingest = "/ingest?name=t&format=pprof";
    for path in [PUSH, ingest, types, stats, &render] {
        let (status, body) = send(path, None).await;
        assert_eq!(status, 401, "{path}");
        assert!(
            body.contains("unauthenticated") && body.contains("no org id"),
            "{body}"
        );
        assert_eq!(send(path, Some("a/b")).await.0, 400, "{path}");
        assert_eq!(send(path, Some("a")).await.0, 200, "{path}");
    }
    for (path, status) in [
        (PUSH, 400),
        (ingest, 400),
        (stats, 400),
        (types, 200),
        (&*render, 200),
    ] {
        assert_eq!(send(path, Some("b|a")).await.0, status, "{path}");
    }
    // R1: another tenant sees nothing of it.
    assert_eq!(send(types, Some("b")).await.1, "{}");
    assert!(send(types, Some("b|a")).await.1.contains(cpu));
    for path in ["/ready", "/metrics", "/"] {
        assert_eq!(
            server.get(path).await.status(),
            200,
            "{path} belongs to nobody"
        );
    }
    server.stop().await;
}

/// What orchestrators and load balancers ask: over gRPC, and without a tenant.
#[tokio::test]
async fn grpc_health() {
    let server = Running::start(&["auth.multitenancy_enabled=true"]).await;
    let channel = tonic::transport::Channel::from_shared(server.url.clone()).unwrap();
    let channel = channel.connect().await.unwrap();
    let call = async |path: &'static str, service: &str| {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let request = tonic::Request::new(HealthCheckRequest {
            service: service.to_owned(),
        });
        let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let answer = client
            .unary(request, path.parse().unwrap(), codec)
            .await
            .map_err(|status| status.code())?;
        Ok::<_, Code>(answer.into_inner().status)
    };
    let check = "/grpc.health.v1.Health/Check";
    for service in ["", "querier.v1.QuerierService", "push.v1.PusherService"] {
        assert_eq!(call(check, service).await, Ok(1), "{service} is serving");
    }
    for service in ["nobody", "querier.v1"] {
        assert_eq!(call(check, service).await, Err(Code::NotFound), "{service}");
    }
    let json = server
        .post(check)
        .header("content-type", "application/json");
    let answer = json.body("{}").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"status":"SERVING"}"#);
    server.stop().await;
}

/// Who watches is told how things stand, and that the server stops, which waits for nobody.
#[tokio::test]
async fn grpc_health_is_watched() {
    let server = Running::start(&["server.drain_timeout=1h"]).await;
    let channel = tonic::transport::Channel::from_shared(server.url.clone()).unwrap();
    let channel = channel.connect().await.unwrap();
    let watch = async |service: &str| {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let request = tonic::Request::new(HealthCheckRequest {
            service: service.to_owned(),
        });
        let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let path = "/grpc.health.v1.Health/Watch".parse().unwrap();
        let answer = client.server_streaming(request, path, codec).await;
        answer.unwrap().into_inner()
    };
    let mut all = watch("").await;
    let mut one = watch("querier.v1.QuerierService").await;
    let mut nobody = watch("nobody").await;
    for (stream, status) in [(&mut all, 1), (&mut one, 1), (&mut nobody, 3)] {
        assert_eq!(stream.message().await.unwrap().unwrap().status, status);
    }
    let stopped = tokio::spawn(server.stop());
    for stream in [&mut all, &mut one] {
        assert_eq!(stream.message().await.unwrap().unwrap().status, 2);
    }
    for mut stream in [all, one, nobody] {
        assert_eq!(stream.message().await.unwrap(), None);
    }
    stopped.await.unwrap();
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `push.v1.PushRequest` as gRPC clients of another library would have it.
#[derive(Clone, PartialEq, prost::Message)]
struct PushMessage {
    #[prost(message, repeated, tag = "1")]
    series: Vec<SeriesMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SeriesMessage {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<PairMessage>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PairMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SampleMessage {
    #[prost(bytes = "vec", tag = "1")]
    raw_profile: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

impl PushMessage {
    /// A request for `service`; one without series for no service.
    fn of(service: &str) -> Self {
        let pair = |name: &str, value: &str| PairMessage {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let series = SeriesMessage {
            labels: vec![
                pair("__name__", "process_cpu"),
                pair("service_name", service),
            ],
            samples: vec![SampleMessage {
                raw_profile: pprof(),
            }],
        };
        Self {
            series: if service.is_empty() {
                Vec::new()
            } else {
                vec![series]
            },
        }
    }
}
