//! Calls of the public services in each encoding that clients use, by the messages themselves.

use std::io::Read;

use buffa::Message;
use scoria_proto::public::push::v1 as push;
use scoria_proto::public::types::v1 as types;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::process::{Reply, ServerProcess};

/// How a call is put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Connect with protobuf: Grafana's data source, profilecli, Alloy.
    Proto,
    /// Connect with JSON: browsers.
    Json,
    /// gRPC with protobuf, over HTTP/2.
    Grpc,
    /// gRPC-Web with protobuf.
    GrpcWeb,
}

impl Encoding {
    pub const ALL: [Self; 4] = [Self::Proto, Self::Json, Self::Grpc, Self::GrpcWeb];
}

/// A call that was not answered with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status of HTTP, or for gRPC-Web of gRPC.
    pub status: u16,
    pub message: String,
}

/// Calls `path`, which is `/package.Service/Method`.
///
/// # Errors
/// The server's refusal.
///
/// # Panics
/// When the answer is no message of the encoding that was asked for.
pub fn call<Q, A>(
    server: &ServerProcess,
    encoding: Encoding,
    path: &str,
    request: &Q,
) -> Result<A, Refused>
where
    Q: Message + Serialize,
    A: Message + DeserializeOwned,
{
    match encoding {
        Encoding::Proto => {
            let headers = [
                ("content-type", "application/proto"),
                ("connect-protocol-version", "1"),
                ("accept", "*/*; allow-utf8-labelnames=true"),
            ];
            let reply = server.post(path, &headers, request.encode_to_vec());
            refused_unless_ok(reply.status, &reply.body)?;
            Ok(A::decode_from_slice(&reply.body).expect("the answer is its message"))
        }
        Encoding::Json => {
            let headers = [("content-type", "application/json")];
            let body = serde_json::to_vec(request).expect("a message has a JSON form");
            let reply = server.post(path, &headers, body);
            refused_unless_ok(reply.status, &reply.body)?;
            Ok(serde_json::from_slice(&reply.body).expect("the answer is its message"))
        }
        Encoding::Grpc => {
            let headers = [
                ("content-type", "application/grpc+proto"),
                ("te", "trailers"),
            ];
            let reply = server.post_http2(path, &headers, framed(request));
            from_grpc(&reply)
        }
        Encoding::GrpcWeb => {
            let headers = [("content-type", "application/grpc-web+proto")];
            let reply = server.post(path, &headers, framed(request));
            refused_unless_ok(reply.status, &reply.body)?;
            from_grpc_web(&reply.body)
        }
    }
}

/// The messages that a call over gRPC is answered with, each as it comes.
///
/// # Panics
/// When the connection fails.
pub fn watch<Q, A>(
    server: &ServerProcess,
    path: &str,
    request: &Q,
) -> impl Iterator<Item = A> + use<Q, A>
where
    Q: Message,
    A: Message,
{
    let headers = [
        ("content-type", "application/grpc+proto"),
        ("te", "trailers"),
    ];
    let mut answer = server.begin_http2(path, &headers, framed(request));
    std::iter::from_fn(move || {
        let mut head = [0; 5];
        answer.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut message = vec![0; length as usize];
        answer.read_exact(&mut message).expect("a whole message");
        Some(A::decode_from_slice(&message).expect("the answer is its message"))
    })
}

/// Calls a method of the querier.
///
/// # Panics
/// When it is refused, and as [`call`] does.
pub fn ask<Q, A>(server: &ServerProcess, encoding: Encoding, method: &str, request: &Q) -> A
where
    Q: Message + Serialize,
    A: Message + DeserializeOwned,
{
    let path = format!("/querier.v1.QuerierService/{method}");
    call(server, encoding, &path, request)
        .unwrap_or_else(|refused| panic!("{encoding:?} {method}: {refused:?}"))
}

/// Pushes one profile with these labels.
///
/// # Panics
/// When it is refused, and as [`call`] does.
pub fn push(
    server: &ServerProcess,
    encoding: Encoding,
    labels: &[(&str, &str)],
    sample: push::RawSample,
) {
    let labels = labels.iter().map(|(name, value)| types::LabelPair {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    let request = push::PushRequest {
        series: vec![push::RawProfileSeries {
            labels: labels.collect(),
            samples: vec![sample],
            ..push::RawProfileSeries::default()
        }],
    };
    let path = "/push.v1.PusherService/Push";
    call::<_, push::PushResponse>(server, encoding, path, &request).expect("the push is taken");
}

/// One message, not compressed, as gRPC frames it.
fn framed<Q: Message>(request: &Q) -> Vec<u8> {
    let message = request.encode_to_vec();
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    body
}

/// A refusal stands in the headers; the trailers of an answer, which this client does not see, say
/// nothing that its message does not.
fn from_grpc<A: Message>(reply: &Reply) -> Result<A, Refused> {
    let status = reply.headers.get("grpc-status").map(String::as_str);
    if let Some(status) = status.filter(|status| *status != "0") {
        return Err(Refused {
            status: status.parse().expect("a number"),
            message: reply
                .headers
                .get("grpc-message")
                .cloned()
                .unwrap_or_default(),
        });
    }
    refused_unless_ok(reply.status, &reply.body)?;
    let (head, message) = reply.body.split_at_checked(5).expect("a frame");
    assert_eq!(head[0], 0, "not compressed, as nobody asked for it");
    Ok(A::decode_from_slice(message).expect("the answer is its message"))
}

fn refused_unless_ok(status: u16, body: &[u8]) -> Result<(), Refused> {
    if status == 200 {
        return Ok(());
    }
    Err(Refused {
        status,
        message: String::from_utf8_lossy(body).into_owned(),
    })
}

/// Frames of a flag, a length and that many bytes; the one with the high flag has the trailers.
fn from_grpc_web<A: Message>(mut body: &[u8]) -> Result<A, Refused> {
    let mut message = None;
    while let Some((head, rest)) = body.split_at_checked(5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (part, rest) = rest.split_at(length);
        body = rest;
        if head[0] & 0x80 == 0 {
            message = Some(A::decode_from_slice(part).expect("the answer is its message"));
            continue;
        }
        let trailers = String::from_utf8_lossy(part).to_lowercase();
        let status = trailers
            .lines()
            .find_map(|line| line.strip_prefix("grpc-status:")?.trim().parse().ok());
        let status = status.expect("trailers carry a status");
        if status != 0 {
            return Err(Refused {
                status,
                message: trailers,
            });
        }
    }
    Ok(message.expect("an answer of gRPC-Web has a message"))
}
